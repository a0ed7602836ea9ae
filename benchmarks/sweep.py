"""Which settings suit a small model? Short trainings that differ in one setting each, scored on validation users.

python benchmarks/sweep.py --data FOLDER --runs RUNS [--names NAME ...]

FOLDER holds papers/logs.jsonl. Each run is `recipes/smollm2.yaml`, 16 steps of it, with one setting changed, on the
log's training users. Then four sampled profiles of every validation user are scored on three held-out records by
MiniLM, which judged the training, and by BM25, in pools of 3 + 8 records and 1 + 8 profiles; a user's value is the
mean of the four. Nobody else is scored. A run that is done is not done again; an interrupted one goes on. The results
of all finished runs of RUNS are stored after each.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from bump.engines.make import make_engine
from bump.files import write_text
from bump.interactions import User, load_logs
from bump.intrinsic import score_arms
from bump.judges import make_judge
from bump.ndcg import chance_ndcg
from bump.profiles import Profile, write_profiles
from bump.prompts import load_prompt
from bump.statistics import bootstrap_mean
from bump.training.config import BumpConfig
from bump.training.fit import train

HERE = Path(__file__).parent
LOG, RECIPE, STEPS = "papers/logs.jsonl", HERE.parent / "recipes/smollm2.yaml", 16
ADAPTER = "adapter_model.safetensors"
DRAWS, HELD_OUT, NEGATIVES = 4, 3, 8
JUDGES = ("embed:minilm", "bm25")
SETTINGS: dict[str, dict] = {  # from the most to the least wanted, should time run out
    "recipe": {},
    "learning rate 1e-4": dict(learning_rate=1e-4),
    "learning rate 1e-3": dict(learning_rate=1e-3),
    "recipe, seed 1": dict(seed=1),
    "loss dr_grpo": dict(loss_type="dr_grpo"),
    "rewards not scaled": dict(scale_rewards="none"),
    "18 users × 4 profiles": dict(users_per_step=18, num_generations=4),
    "loss cispo": dict(loss_type="cispo"),
    "learning rate 3e-5": dict(learning_rate=3e-5),
    "rank 64": dict(lora_r=64, lora_alpha=128),
    "rank 4": dict(lora_r=4, lora_alpha=8),
}


def train_setting(users: Sequence[User], name: str, folder: Path) -> None:
    "The run of a setting, trained as far as it is not."
    recipe = yaml.safe_load(RECIPE.read_text()) | dict(max_steps=STEPS, save_steps=4) | SETTINGS[name]
    if not (folder / ADAPTER).exists():
        resume = "true" if (folder / "run.json").exists() else None
        model = recipe.pop("model")
        train(users, model, BumpConfig(output_dir=str(folder), resume_from_checkpoint=resume, **recipe))


def drawn(users: Sequence[User], model: str) -> list[dict[str, Profile]]:
    "Sampled profiles of all users, as many times as `DRAWS`, with the prompt and the lengths of the recipe."
    recipe, writer = yaml.safe_load(RECIPE.read_text()), make_engine(model)
    lengths, prompt = (recipe["max_prompt_tokens"], recipe["max_completion_length"]), load_prompt(recipe["prompts"])
    draws = (write_profiles(users, writer, *lengths, temperature=1.0, seed=s, prompt=prompt) for s in range(DRAWS))
    return [{p.user_id: p for p in draw} for draw in draws]


def scored(users: Sequence[User], draws: Sequence[dict[str, Profile]]) -> dict[str, dict[str, float]]:
    "Judge → user → the mean sum of the user's profiles."
    out = {}
    for name in JUDGES:
        judge, texts = make_judge(name), ({u: p.profile for u, p in d.items()} for d in draws)
        parts = [score_arms(users, t, judge, controls=())["profiles"] for t in texts]
        out[name] = {u.user_id: float(np.mean([p[u.user_id].forward + p[u.user_id].backward for p in parts]))
                     for u in users}  # fmt: skip
    return out


def facts(folder: Path) -> dict:
    "Reward, entropy and length in the last four steps, and seconds a step."
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [json.loads(line)["seconds"] for line in (folder / "timings.jsonl").read_text().splitlines()]
    names = dict(reward="reward", entropy="entropy", tokens="completions/mean_length", truncated="bump/truncated")
    last = {name: round(float(np.mean([r[key] for r in rows[-4:]])), 3) for name, key in names.items()}
    return last | dict(steps=len(rows), seconds_a_step=round(float(np.median(steps)), 1))


def done(users: Sequence[User], name: str, model: str, path: Path) -> dict:
    "What a setting came to, read from `path` or found out."
    if not path.exists():
        began, draws = time.perf_counter(), drawn(users, model)
        words = float(np.mean([len(p.profile.split()) for d in draws for p in d.values()]))
        row = dict(setting=name, scores=scored(users, draws), words=round(words, 1))
        row |= {} if name == "zero-shot" else facts(Path(model))
        write_text(path, json.dumps(row | dict(scoring_seconds=round(time.perf_counter() - began))))
    return json.loads(path.read_text())


def tables(rows: Sequence[dict]) -> list[dict]:
    "Means, and what a setting gains over no training and over the recipe, paired by user."
    sums = {r["setting"]: r["scores"] for r in rows}
    out = []
    for r in rows:
        row = {k: v for k, v in r.items() if k != "scores"}
        for judge, own in r["scores"].items():
            others = {"over zero-shot": "zero-shot", "over the recipe": "recipe"}
            gains = {k: [own[u] - sums[o][judge][u] for u in own] for k, o in others.items() if o in sums}
            means = dict(sum=list(own.values())) | gains
            row[judge] = {k: str(bootstrap_mean(x)) for k, x in means.items()}
        out.append(row)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--runs", required=True, type=Path)
    parser.add_argument("--names", nargs="*", choices=SETTINGS, default=list(SETTINGS))
    args = parser.parse_args()
    users = load_logs(args.data / LOG, hold_out=HELD_OUT).part("validation")
    args.runs.mkdir(parents=True, exist_ok=True)
    rows = [done(users, "zero-shot", "smollm2", args.runs / "zero-shot.json")]
    for name in SETTINGS:
        run = args.runs / name.replace(" ", "_")
        if name in args.names:
            train_setting(load_logs(args.data / LOG).part("train"), name, run)
        if not (run / ADAPTER).exists():
            continue
        rows.append(done(users, name, str(run), run / "scores.json"))
        chance = chance_ndcg(HELD_OUT, NEGATIVES) + chance_ndcg(1, NEGATIVES)
        result = dict(n=len(users), steps=STEPS, chance=round(chance, 3), rows=tables(rows))
        print(json.dumps(result["rows"][-1]), flush=True)
        write_text(HERE / "results/sweep.json", json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
