"Judges, pools and reward under what users hand in: long texts, quoted texts, equal texts, bad settings."

import numpy as np
import pytest

from bump.engines.local import TransformersEngine
from bump.errors import BumpError
from bump.judges import LettersJudge, LikelihoodJudge, PermutationJudge, YesNoJudge
from bump.models import load_model
from bump.rankings import Ranking, judge_rankings
from bump.reward import RewardSettings, to_samples


@pytest.fixture(scope="module")
def engine():
    return TransformersEngine(load_model("embedded"))


@pytest.mark.parametrize("kind", [LettersJudge, PermutationJudge])
def test_list_judges_shorten(engine, kind):
    long = tuple(f"Likes {i} and " + "bread and " * 240 for i in range(9))
    (scores,) = judge_rankings(kind(engine), [Ranking("read a book about rye", long, direction="backward")])
    assert np.isfinite(scores).all() and engine.counts["shortened"] > 0


def test_a_candidate_is_cut_alike_in_every_shuffle(engine):
    from bump.judges import fair_question
    from bump.prompts import LETTERS

    texts = tuple(f"Likes {i} and " + "bread and " * 240 + "<b>x " * (40 * (i % 2)) for i in range(9))
    cut = set()
    for seed in range(8):
        order = np.random.default_rng(seed).permutation(9)
        shuffled = Ranking("a book about rye", tuple(texts[i] for i in order), direction="backward")
        prompt = fair_question(engine, shuffled, LETTERS, 1)[0][-1]["content"]
        lines = [line.split("Likes", 1)[1].split("…")[0] for line in prompt.splitlines() if "Likes" in line]
        assert len(lines) == 9
        cut.add(frozenset(lines))
    assert len(cut) == 1


@pytest.mark.parametrize("kind", [LikelihoodJudge, YesNoJudge])
def test_quoted_texts_are_measured_as_they_stand_in_the_prompt(engine, kind):
    tagged = Ranking("<b>x " * 1500, ("<b>x " * 1500, "rye bread"))
    assert np.isfinite(judge_rankings(kind(engine), [tagged])[0]).all()


def test_equal_candidates_share_a_score():
    class Places:
        name, order_free = "places", False

        def __call__(self, rankings):
            return [-np.arange(len(r.candidates), dtype=float) for r in rankings]

    assert judge_rankings(Places(), [Ranking("bread", ("rye", "rye", "tea"))])[0].tolist() == [-0.5, -0.5, -2]


def test_the_end_token_is_none_of_a_profile():
    rows = to_samples(["a", "a"], [[5, 6, 9], [5, 6, 7]], "uv", [[], []], None, 3, end_ids={9})
    assert [(r.n_tokens, r.truncated) for r in rows] == [(2, False), (3, True)]


@pytest.mark.parametrize("bad", [dict(num_negatives=0), dict(seed=-1), dict(length_slope=-1), dict(pools="x")])
def test_bad_settings_are_refused(bad):
    with pytest.raises(BumpError, match=next(iter(bad))):
        RewardSettings(**bad)
