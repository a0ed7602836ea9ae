"""What a ranking costs: tokens of a training step, rankings a second, agreement of judges, and a cross-encoder
beside them.

    pip install '.[embed,bench]'
    python benchmarks/judges.py tokens speed agreement peer [--engine vllm:embedded] [--movielens FOLDER]
    python benchmarks/judges.py real --model smollm2 --data FOLDER

Each part writes benchmarks/results/judges_PART.json (with `_vllm` for another engine). All but `real` run on the
embedded model; ratios are between numbers of one run in one process. `tokens` counts and does not time. `real` takes
the logs of FOLDER (see real_logs.py), holds the model's weights in bfloat16, and goes on with the judges that its
file lacks.
"""

import argparse
import json
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from real_logs import LOGS

from bump.engines.base import EngineSettings
from bump.engines.local import TransformersEngine, order_tokens
from bump.engines.make import make_engine
from bump.files import write_json
from bump.interactions import load_logs
from bump.intrinsic import raw_records
from bump.judges import (
    LM_JUDGES,
    PermutationJudge,
    make_judge,
    position_prior,
    ranking_question,
    shuffle_agreement,
)
from bump.models import load_model
from bump.ndcg import chance_hit, chance_ndcg, hit_at_1, ndcg
from bump.prompts import encode, shorten
from bump.rankings import Ranking, judge_rankings
from bump.reward import Batch, RewardSettings, rollout_rankings, score_batch
from bump.seeds import named_rng
from bump.statistics import bootstrap_mean
from bump.world import WorldConfig, describe, make_world

RESULTS = Path(__file__).parent / "results"


def step_of_training(
    tokenizer, users: int = 32, G: int = 8, record_tokens: int = 60, profile_tokens: int = 150
) -> Batch:
    "Records and profiles of the wanted lengths, made of the world's sentences; every rollout is another text."

    def text(rng, sentences, n):
        return shorten(" ".join(sentences[i] for i in rng.permutation(len(sentences))), tokenizer, n).rstrip("…")

    batch = Batch()
    for p in make_world(WorldConfig(n_users=users, n_records=(40, 40), seed=0)):
        sentences = [i.text for i in p.history]
        batch.held_out[p.user_id] = [text(named_rng(0, 0, p.user_id, "record"), sentences, record_tokens)]
        batch.profiles[p.user_id] = [
            text(named_rng(0, g, p.user_id, "profile"), sentences, profile_tokens) for g in range(G)
        ]
    return batch


def questions(batch: Batch, settings: RewardSettings, n_orders: int | None = None) -> list[Ranking]:
    pools = batch.pools(list(batch.profiles), settings, step=0)
    return [
        r
        for u, ps in batch.profiles.items()
        for g, p in enumerate(ps)
        for r in rollout_rankings(batch, u, p, pools[u], n_orders, g)
    ]


def tokens(engine) -> dict:
    "Tokens that the judge computes in one step of the paper's size, against the paper's scheme without any sharing."
    batch = step_of_training(engine.tokenizer)
    lengths = [
        len(engine.tokenizer(t, add_special_tokens=False)["input_ids"])
        for part in (batch.held_out, batch.profiles)
        for ts in part.values()
        for t in ts
    ]
    plain_judge, plain = PermutationJudge(engine), dict(prefill=0, decode=0)
    asked = questions(batch, RewardSettings())
    for r in asked:
        messages, labels = ranking_question(r, plain_judge.identifiers)
        t = order_tokens(engine.tokenizer, labels)
        plain["prefill"] += len(encode(engine.tokenizer, messages))
        plain["decode"] += len(labels) + (len(labels) - 1) * len(t.separator)
    result = dict(
        users=32,
        G=8,
        K=8,
        M=2,
        P=1,
        rankings=len(asked),
        mean_tokens_record=float(np.mean(lengths[:32])),
        mean_tokens_profile=float(np.mean(lengths[32:])),
        engine=engine.name,
        schemes={"permutation, each ranking alone": dict(plain, times_fewer=1.0)},
    )
    total = sum(plain.values())
    for kind, pools in (
        ("permutation", "independent"),
        ("letters", "independent"),
        ("letters", "blocks"),
        ("likelihood", "independent"),
        ("likelihood", "blocks"),
        ("yesno", "independent"),
    ):
        engine.counts.clear()
        score_batch(batch, LM_JUDGES[kind](engine), RewardSettings(pools=pools))
        used = dict(prefill=engine.counts["prefill"], decode=engine.counts["decode"])
        result["schemes"][f"{kind}, {pools} pools"] = dict(used, times_fewer=round(total / sum(used.values()), 2))
    return result


def rankings_of(texts: list[tuple[str, str]], K: int, direction: str, seed: int = 0) -> list[Ranking]:
    "One ranking a user: (profile, record) of the user, and K others; shuffled."
    out = []
    for i, (profile, record) in enumerate(texts):
        rng = named_rng(seed, 0, str(i), direction)
        others = [j if j < i else j + 1 for j in rng.choice(len(texts) - 1, K, replace=False)]
        order = rng.permutation(K + 1)
        candidates = [
            (record if direction == "forward" else profile),
            *(texts[j][direction == "forward"] for j in others),
        ]
        out.append(
            Ranking(
                profile if direction == "forward" else record,
                tuple(candidates[j] for j in order),
                (int(np.flatnonzero(order == 0)[0]),),
                direction,
            )
        )
    return out


def world_texts(n: int) -> list[tuple[str, str]]:
    return [(describe(p.traits), p.history[-1].text) for p in make_world(WorldConfig(n_users=n, seed=1000))]


def movielens_texts(folder: str, n: int) -> list[tuple[str, str]]:
    "The newest visible records, up to 25 words, stand for the profile."
    return [(raw_records(u, 25), u.held_out[0].text) for u in load_logs(folder).users[:n]]


def seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def speed(engine) -> dict:
    """Rankings a second in a training step of 18 users in blocks (sizes as in `tokens`), best of two.

    Letters against permutation, and batched against one ranking at a time.
    """
    rankings = questions(step_of_training(engine.tokenizer, users=18), RewardSettings(pools="blocks"))

    def ask(kind, rankings, alone=False):  # seconds, with nothing remembered of earlier calls
        if hasattr(engine, "llm"):
            engine.llm.reset_prefix_cache()
        judge = LM_JUDGES[kind](engine)
        return seconds(lambda: [judge([r]) for r in rankings] if alone else judge(rankings))

    few = rankings[::13]  # of both directions
    for kind in ("letters", "permutation"):
        ask(kind, few[:8])  # warm up
    rate = {kind: len(rankings) / min(ask(kind, rankings) for _ in range(2)) for kind in ("letters", "permutation")}
    alone = {kind: len(few) / min(ask(kind, few, alone=True) for _ in range(2)) for kind in rate}
    return dict(
        engine=engine.name,
        rankings=len(rankings),
        candidates=9,
        batched={k: round(v, 1) for k, v in rate.items()},
        one_at_a_time={k: round(v, 1) for k, v in alone.items()},
        letters_over_permutation=round(rate["letters"] / rate["permutation"], 1),
        batched_over_one_at_a_time=round(rate["letters"] / alone["letters"], 1),
        letters_batched_over_permutation_one_at_a_time=round(rate["letters"] / alone["permutation"], 1),
    )


def agreement(engine, movielens: str | None) -> dict:
    "Letters and permutation on the same rankings of the same model."
    sets = {"world": world_texts(300)} | ({"MovieLens": movielens_texts(movielens, 300)} if movielens else {})
    return {
        f"{name}, {direction}, 1 + {K}": agree(engine, rankings_of(texts, K, direction))
        for name, texts in sets.items()
        for direction in ("forward", "backward")
        for K in (1, 8)
    }


def agree(engine, rankings: list[Ranking]) -> dict:
    from scipy.stats import kendalltau

    letters, permutation = LM_JUDGES["letters"](engine), LM_JUDGES["permutation"](engine)
    engine.counts.clear()
    a, b = judge_rankings(letters, rankings), judge_rankings(permutation, rankings)
    masks = [r.mask() for r in rankings]

    def mean(values):
        m = bootstrap_mean(values)
        return [round(m.mean, 3), round(m.low, 3), round(m.high, 3)]

    score = {
        name: np.array([float(ndcg(s, m)) for s, m in zip(scores, masks)])
        for name, scores in (("letters", a), ("permutation", b))
    }
    prior = position_prior(letters, rankings[:100], n_orders=2)
    return dict(
        n=len(rankings),
        chance_ndcg=round(chance_ndcg(1, len(rankings[0].candidates) - 1), 3),
        ndcg_letters=mean(score["letters"]),
        ndcg_permutation=mean(score["permutation"]),
        ndcg_difference=mean(score["letters"] - score["permutation"]),
        ndcg_absolute_difference=mean(np.abs(score["letters"] - score["permutation"])),
        tau=mean([kendalltau(x, y).statistic for x, y in zip(a, b)]),
        repaired=engine.counts["repaired"],
        letters_tau_between_shuffles=mean(shuffle_agreement(letters, rankings[:150])),
        permutation_tau_between_shuffles=mean(shuffle_agreement(permutation, rankings[:150])),
        letters_position_prior=[round(float(x), 3) for x in prior],
    )


def peer(engine) -> dict:
    "Pairs a second of a `CrossEncoder` with the same language model, beside the pointwise judges; best of three."
    import torch
    from sentence_transformers import CrossEncoder

    from bump.models import EMBEDDED

    torch.manual_seed(0)  # its classification head is new
    cross = CrossEncoder(
        str(EMBEDDED),
        num_labels=1,
        device="cpu",
        processor_kwargs=dict(padding_side="left"),
        model_kwargs=dict(dtype="float32"),
        local_files_only=True,
    )
    texts = world_texts(150)
    rankings = rankings_of(texts, 8, "forward") + rankings_of(texts, 8, "backward")
    pairs = [pair for r in rankings for pair in r.pairs()]
    rate = {
        "CrossEncoder.predict": len(pairs)
        / min(seconds(lambda: cross.predict(pairs, batch_size=64, show_progress_bar=False)) for _ in range(3))
    }
    for kind in ("yesno", "likelihood"):
        rate[kind] = len(pairs) / min(
            seconds(lambda judge=LM_JUDGES[kind]: judge(engine)(rankings)) for _ in range(3)
        )  # a new judge each time: nothing is remembered
    return dict(
        pairs=len(pairs),
        distinct_pairs=len(set(pairs)),
        pairs_per_second={k: round(v) for k, v in rate.items()},
        over_cross_encoder={k: round(v / rate["CrossEncoder.predict"], 2) for k, v in rate.items()},
    )


LONGEST = 64  # tokens of a record, and of a profile made of the newest records


def real_rankings(tokenizer, data: str, n: int = 75, K: int = 8) -> dict[str, list[Ranking]]:
    "Direction → rankings of `n` users of each log among users of the same log; the newest records are the profile."
    out: dict[str, list[Ranking]] = dict(forward=[], backward=[])
    for path in LOGS.values():
        users = load_logs(f"{data}/{path}").users[:n]
        pairs = [(raw_records(u, LONGEST), u.held_out[0].text) for u in users]
        texts = [(shorten(p, tokenizer, LONGEST), shorten(r, tokenizer, LONGEST)) for p, r in pairs]
        for direction, rankings in out.items():
            rankings += rankings_of(texts, K, direction)
    return out


def real(model: str, data: str, file: Path) -> dict:
    "How well each judge finds the true one of nine on real text, and what it costs; kept judge by judge."
    engine = TransformersEngine(load_model(model, dtype="bfloat16"), batch_tokens=16384)
    result = json.loads(file.read_text()) if file.exists() else dict(users_of_a_log=75, logs=list(LOGS), judges={})
    result |= dict(engine=engine.name, dtype="bfloat16", longest=LONGEST, chance_hit=round(chance_hit(1, 8), 3))
    rankings = real_rankings(engine.tokenizer, data)
    for name in ("bm25", "embed:minilm", "likelihood", "yesno", "letters", "permutation"):
        if name in result["judges"]:
            continue
        judge = LM_JUDGES[name](engine) if name in LM_JUDGES else make_judge(name)
        result["judges"][name] = {d: judged_really(judge, rs, engine.counts) for d, rs in rankings.items()}
        print(name, json.dumps(result["judges"][name]), flush=True)
        write_json(file, result)
    return result


def evenly(rankings: list[Ranking]) -> list[Ranking]:
    "The same rankings, with the right one equally often at each place: a judge may like places."
    out = []
    for i, r in enumerate(rankings):
        others = [c for n, c in enumerate(r.candidates) if n != r.positives[0]]
        place = i % len(r.candidates)
        candidates = (*others[:place], r.candidates[r.positives[0]], *others[place:])
        out.append(replace(r, candidates=candidates, positives=(place,)))
    return out


def judged_really(judge, rankings: list[Ranking], counts: Counter) -> dict:
    rankings = evenly(rankings)
    counts.clear()
    started = time.perf_counter()
    scores = judge_rankings(judge, rankings)
    taken = time.perf_counter() - started
    hits = np.array([float(hit_at_1(s, r.mask())) for s, r in zip(scores, rankings)])
    each = len(rankings) // len(LOGS)
    by_log = {log: round(float(np.mean(hits[i * each :][:each])), 3) for i, log in enumerate(LOGS)}
    row = dict(n=len(rankings), hit1=str(bootstrap_mean(hits)), seconds=round(taken, 1), hit1_by_log=by_log)
    row |= dict(tokens={k: counts[k] for k in ("prefill", "decode") if counts[k]})
    if not judge.order_free:
        some = rankings[::3]
        prior = position_prior(judge, some, n_orders=2)
        row |= dict(shuffled=len(some), tau=str(bootstrap_mean(shuffle_agreement(judge, some))))
        row |= dict(prior=[round(float(x), 3) for x in prior])
    return row


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="+", choices=["tokens", "speed", "agreement", "peer", "real"])
    parser.add_argument("--engine", default="embedded")
    parser.add_argument("--movielens")
    parser.add_argument("--model", default="smollm2", help="of `real`")
    parser.add_argument("--data", help="folder of the logs, for `real`")
    args = parser.parse_args()
    if "real" in args.parts:
        if not args.data:
            parser.error("real needs --data, the folder of the logs")
        real(args.model, args.data, RESULTS / "judges_real.json")
        args.parts.remove("real")
    engine = make_engine(args.engine, EngineSettings(batch_tokens=65536)) if args.parts else None
    for part in args.parts:
        result = agreement(engine, args.movielens) if part == "agreement" else globals()[part](engine)
        (RESULTS / f"judges_{part}{'_vllm' if args.engine.startswith('vllm:') else ''}.json").write_text(
            json.dumps(result, indent=1) + "\n"
        )
        print(part, json.dumps(result, indent=1))
