"""BUMP against BUMP+ with the embedded model: equal steps, three seeds, on the world and on real MovieLens logs.

python benchmarks/bump_plus.py world; python benchmarks/bump_plus.py movielens
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from bump.engines.make import make_engine
from bump.files import write_json
from bump.interactions import load_logs
from bump.judges import make_judge
from bump.ndcg import chance_reward
from bump.neighbours import likeness
from bump.profiles import write_profiles
from bump.reward import Batch, RewardSettings, score_batch
from bump.statistics import bootstrap_mean
from bump.training.config import BumpConfig
from bump.training.fit import train
from bump.world import WorldConfig, make_world, save_world

HERE = Path(__file__).parent
PLUS = dict(negatives="hard", positives="hardest_of_window", positive_window=3, encoder="bm25")
METHODS = dict(bump=dict(), bump_plus=PLUS)
SETTINGS = dict(  # those of `bump quickstart`, and of recipes/embedded_real_logs.yaml
    world=dict(
        users_per_step=10,
        num_generations=8,
        max_prompt_tokens=320,
        max_completion_length=64,
        length_threshold=48,
        learning_rate=5e-4,
        max_steps=28,
    ),
    movielens=dict(
        users_per_step=9,
        num_generations=4,
        max_prompt_tokens=320,
        max_completion_length=64,
        length_threshold=48,
        learning_rate=2e-4,
        max_steps=28,
    ),
)


def read(data: str, hold_out: int, folder: Path):
    if data == "movielens":
        return load_logs(HERE.parent.parent / "shared/data/movielens", hold_out)
    return load_logs(save_world(make_world(WorldConfig(n_users=1500)), folder), hold_out)


def evaluate(
    users, model: str, judges, known, seed: int
) -> dict[str, list[float]]:  # pools and judge → a value for each user
    written = {
        p.user_id: [p.profile]
        for p in write_profiles(
            users,
            make_engine(model),
            max_prompt_tokens=320,
            max_new_tokens=64,
            batch_size=64,
            temperature=1.0,
            seed=seed,
        )
    }
    batch = Batch(
        {u.user_id: [i.text for i in u.held_out] for u in users}, {u.user_id: written[u.user_id] for u in users}, known
    )
    out = {}
    for negatives in ("random", "hard"):
        for judge in judges:
            parts = score_batch(batch, judge, RewardSettings(negatives=negatives))
            out[f"{negatives} pools, {judge.name}"] = [
                parts[u.user_id, 0].forward + parts[u.user_id, 0].backward for u in users
            ]
    return out


def one_run(data: str, folder: Path, name: str, seed: int, settings: dict, judge) -> Path:
    config = BumpConfig(
        output_dir=str(folder / f"{name}-{seed}"), judge="likelihood", seed=seed, save_steps=1000, **settings
    )
    return train(read(data, config.n_hidden, folder / str(config.n_hidden)).part("train"), "embedded", config, judge)


def interval(values) -> list[float]:
    m = bootstrap_mean(values)
    return [round(x, 4) for x in (m.mean, m.low, m.high)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", choices=SETTINGS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--output_dir", help="Folder for runs and their values; what is there already is not run again."
    )
    a = parser.parse_args()
    folder, settings = Path(a.output_dir or tempfile.mkdtemp()), SETTINGS[a.data]
    folder.mkdir(parents=True, exist_ok=True)
    logs = read(a.data, 1, folder / "one")
    unseen, judges = logs.part("validation") + logs.part("test"), [make_judge("likelihood"), make_judge("bm25")]
    known = likeness(unseen, "bm25")
    seeds = range(a.seeds)
    values: dict[str, list] = {}
    for seed in seeds:
        for name, method in {"warm start": None, **METHODS}.items():
            done = folder / f"{name}-{seed}.json"
            if not done.exists():
                scores = evaluate(
                    unseen,
                    "embedded"
                    if method is None
                    else str(one_run(a.data, folder, name, seed, settings | method, judges[0])),
                    judges,
                    known,
                    seed,
                )
                write_json(done, scores)
            values.setdefault(name, []).append(json.loads(done.read_text()))
            print(name, seed, {k: round(float(np.mean(v)), 3) for k, v in values[name][-1].items()}, flush=True)
    keys = list(values["warm start"][0])
    mean = {
        name: {k: np.mean([v[k] for v in runs], axis=0) for k in keys} for name, runs in values.items()
    }  # over seeds, for each user
    result = dict(
        data=a.data,
        users_trained_on=len(logs.part("train")),
        users_scored=len(unseen),
        seeds=a.seeds,
        chance=round(chance_reward(1, 8), 4),
        settings=settings,
        methods=METHODS,
        score={name: {k: interval(v) for k, v in x.items()} for name, x in mean.items()},
        by_seed={
            name: {k: [round(float(np.mean(v[k])), 4) for v in runs] for k in keys} for name, runs in values.items()
        },
        difference={
            name: {k: interval(mean[name][k] - mean["bump"][k]) for k in keys} for name in METHODS if name != "bump"
        },
    )
    (HERE / f"results/bump_plus_{a.data}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["score"], indent=1), json.dumps(result["difference"], indent=1))


if __name__ == "__main__":
    main()
