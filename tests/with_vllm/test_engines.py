"The same weights give the same numbers in transformers, in vLLM in this process and behind vLLM's server."

import json

import numpy as np
import pytest

from bump.engines.local import TransformersEngine
from bump.engines.make import make_engine
from bump.engines.server import ServerEngine
from bump.engines.vllm import VLLMEngine
from bump.judges import LettersJudge, LikelihoodJudge, PermutationJudge, YesNoJudge
from bump.models import EMBEDDED, load_model, load_tokenizer
from bump.profiles import write_profiles
from bump.prompts import PRESETS
from bump.rankings import Ranking
from bump.world import WorldConfig, describe, make_world, save_world, world_users

PEOPLE = make_world(WorldConfig(n_users=9, seed=3))
PROFILES, RECORDS = tuple(describe(p.traits) for p in PEOPLE), tuple(p.history[-1].text for p in PEOPLE)
RANKINGS = [Ranking(p, RECORDS, (), "forward") for p in PROFILES] + [
    Ranking(r, PROFILES[: 2 + i], (), "backward") for i, r in enumerate(RECORDS[:8])
]


@pytest.fixture(scope="module")
def engines(server):
    return dict(
        transformers=TransformersEngine(load_model("embedded", device="cpu")),
        vllm=VLLMEngine("embedded"),
        server=ServerEngine(f"{server.root}/v1"),
    )


@pytest.mark.parametrize("judge", [LettersJudge, YesNoJudge, LikelihoodJudge])
def test_scores_are_the_same_on_all_engines(engines, judge):
    scores = {name: judge(engine)(RANKINGS) for name, engine in engines.items()}
    spread = np.std(np.concatenate(scores["transformers"]))
    assert spread > 0.1, "scores without spread would agree anyway"
    for name in ("vllm", "server"):
        worst = max(np.abs(a - b).max() for a, b in zip(scores["transformers"], scores[name]))
        print(f"{judge.__name__}, {name}: largest difference {worst:.1e} of a spread of {spread:.2f}")
        assert worst < 1e-3


def test_permutations_always_parse(engines):
    first = [int(np.argmax(s)) for s in LettersJudge(engines["transformers"])(RANKINGS)]
    for name, engine in engines.items():
        scores = PermutationJudge(engine)(RANKINGS)
        assert [len(s) for s in scores] == [len(r.candidates) for r in RANKINGS] and all(
            np.isfinite(s).all() for s in scores
        )
        assert [
            int(np.argmax(s)) for s in scores
        ] == first  # the first identifier is the most probable one on every engine
        print(f"{name}: {engine.counts['repaired']} of {len(RANKINGS)} orders repaired")
    assert engines["transformers"].counts["repaired"] == 0


def test_counts_are_tokens_of_the_model(engines):
    for name, engine in engines.items():
        before = engine.counts.copy()
        LettersJudge(engine)(RANKINGS[:3])
        new = engine.counts - before
        assert new["prompts"] == 3 and new["prefill"] + new["cached"] > 100, name


@pytest.mark.parametrize("preset", ["open", "tastes"])  # the second begins the reply
def test_profiles_are_the_same_on_all_engines(engines, preset):
    engines["server"].tokenizer = load_tokenizer(EMBEDDED)
    try:
        written = {
            name: {
                p.user_id: (p.profile, p.tokens, p.truncated)
                for p in write_profiles(world_users(PEOPLE), engine, 512, 48, prompt=PRESETS[preset])
            }
            for name, engine in engines.items()
        }
    finally:
        engines["server"].tokenizer = None
    assert len(written["transformers"]) == 9 and written["transformers"] == written["vllm"] == written["server"]


def test_sampled_profiles_repeat_in_vllm(engines):
    def sample(seed):
        return [
            p.profile for p in write_profiles(world_users(PEOPLE), engines["vllm"], 512, 32, temperature=1.0, seed=seed)
        ]

    assert sample(0) == sample(0) != sample(1)


def test_command_line_writes_scores_and_trains_with_a_server(server, here, tmp_path):
    log, url = save_world(make_world(WorldConfig(n_users=30)), tmp_path / "world"), f"{server.root}/v1#embedded"
    store = tmp_path / "p.jsonl"
    write = ["profile", "--logs", log, "--model", url, "--output", store, "--hold_out", 1]
    assert "--tokenizer" in here(*write, code=2).stderr
    here(*write, "--tokenizer", "embedded", "--max_prompt_tokens", 320, "--max_new_tokens", 32)
    score = json.loads(here("score", "--logs", log, "--profiles", store, "--judge", f"letters:{url}", "--json").stdout)
    assert score["n_users"] == 30 and score["judge_failed"] == 0 and score["judge"] == f"letters:{url}"
    size = ["--users_per_step", 9, "--num_generations", 2, "--max_prompt_tokens", 320, "--max_completion_length", 24]
    run = ["--judge", f"permutation:{url}", "--output_dir", tmp_path / "run", "--max_steps", 2]
    here("train", "--logs", log, *run, *size)
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(metrics) == 2 and all(m["bump/judge_failed"] == 0 and 0 < m["bump/ndcg_forward"] <= 1 for m in metrics)


def test_an_adapter_is_the_same_on_vllm(engines, tmp_path):
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    lora = get_peft_model(
        load_model("embedded", device="cpu").model,
        LoraConfig(r=6, lora_alpha=12, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"),
    )
    lora.peft_config["default"].base_model_name_or_path = "embedded"
    lora.save_pretrained(tmp_path / "adapter")
    load_tokenizer(EMBEDDED).save_pretrained(tmp_path / "adapter")
    here, vllm = (make_engine(f"{where}{tmp_path / 'adapter'}") for where in ("", "vllm:"))
    scores = [LikelihoodJudge(engine)(RANKINGS) for engine in (here, vllm, engines["vllm"])]
    gap, effect = (max(np.abs(a - b).max() for a, b in zip(scores[0], other)) for other in scores[1:])
    assert gap < 1e-3 and effect > 0.1 and here.revision == vllm.revision != engines["vllm"].revision
    assert [c.text for c in here.generate([[dict(role="user", content="Likes rye.")]], 8)] == [
        c.text for c in vllm.generate([[dict(role="user", content="Likes rye.")]], 8)
    ]


def test_make_engine_knows_vllm(server):
    assert make_engine(f"{server.root}/v1").name == f"{server.root}/v1#embedded"


def test_lamp_with_a_server_as_writer_and_backbone(server, here, tmp_path):
    """`--method api`:

    profiles and answers by a model behind an OpenAI-compatible server are those of the same model in this process."""
    from bump.lamp.files import save_lamp_world

    save_lamp_world(make_world(WorldConfig(n_users=40, seed=6)), tmp_path / "data")
    url = f"{server.root}/v1#embedded"
    models = dict(server=["--writer", url, "--backbone", url, "--tokenizer", "embedded"], here=["--writer", "embedded"])
    size = ["--max_new_tokens", 40, "--answer_tokens", 24]
    for task in ("3", "7"):
        answers = []
        for name, flags in models.items():
            out = tmp_path / name / task
            which = ["--task", task, "--data", tmp_path / "data", "--method", "api", "--output_dir", out]
            here("lamp", "eval", *which, *size, *flags)
            rows = map(json.loads, (out / "predictions.jsonl").read_text().splitlines())
            answers.append({r["id"]: r["prediction"] for r in rows})
        # two probabilities may be equal to the last bit of float32
        assert len(answers[0]) == 40 and sum(answers[0][i] == answers[1][i] for i in answers[0]) >= 38
