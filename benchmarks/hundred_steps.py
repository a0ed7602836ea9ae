"""What do a hundred steps bring a small model that forty do not? One training, scored along the way.

python benchmarks/hundred_steps.py --data FOLDER --output_dir DIR

FOLDER holds papers/logs.jsonl. `recipes/smollm2.yaml` is trained for 100 steps instead of 40 on the half of the authors
that `benchmarks/real_logs.py` trains on first, and every tenth step is kept. The authors of the other half, who never
take part, are then written about by the model before training and after 10, 20, 40, 70 and 100 steps, once with the
most likely tokens and once sampled, and scored by MiniLM, which judged the training, and by BM25, in pools of 1 + 8,
one held-out record an author. A training that was interrupted goes on; what is scored is not scored again.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml
from real_logs import LOGS, split

from bump.engines.make import make_engine
from bump.files import write_text
from bump.interactions import User, load_logs
from bump.intrinsic import score_arms
from bump.judges import make_judge
from bump.ndcg import chance_reward
from bump.privacy import copied_share
from bump.profiles import write_profiles
from bump.prompts import load_prompt
from bump.statistics import bootstrap_mean
from bump.training.config import BumpConfig
from bump.training.fit import train

HERE = Path(__file__).parent
LOG, RECIPE = "papers", HERE.parent / "recipes/smollm2.yaml"
STEPS, EVERY, SCORED = 100, 10, (0, 10, 20, 40, 70, 100)
JUDGES = ("embed:minilm", "bm25")
KINDS = {"most likely": 0.0, "sampled": 1.0}  # temperatures


def train_all(users: Sequence[User], folder: Path) -> None:
    "The training, as far as it is not done; all checkpoints stay."
    recipe = yaml.safe_load(RECIPE.read_text())
    settings = recipe | dict(max_steps=STEPS, save_steps=EVERY, save_total_limit=STEPS // EVERY)
    model, resume = settings.pop("model"), "true" if (folder / "run.json").exists() else None
    if not (folder / "adapter_model.safetensors").exists():
        train(users, model, BumpConfig(output_dir=str(folder), resume_from_checkpoint=resume, **settings))


def written(users: Sequence[User], model: str, temperature: float) -> dict[str, str]:
    "A profile of each user, with the prompt and the lengths of the recipe."
    recipe, writer = yaml.safe_load(RECIPE.read_text()), make_engine(model)
    lengths = recipe["max_prompt_tokens"], recipe["max_completion_length"]
    prompt = load_prompt(recipe["prompts"])
    return {p.user_id: p.profile for p in write_profiles(users, writer, *lengths, temperature=temperature,
                                                         seed=recipe["seed"], prompt=prompt)}  # fmt: skip


def sums(parts: Mapping) -> dict[str, float]:
    return {u: p.forward + p.backward for u, p in parts.items()}


def scored(users: Sequence[User], texts: Mapping[str, str]) -> dict:
    "Judge → arm → user → sum: the profiles, a stranger's, and the newest records in as many words."
    found = {judge: score_arms(users, texts, make_judge(judge)) for judge in JUDGES}
    return {judge: {arm: sums(parts) for arm, parts in arms.items()} for judge, arms in found.items()}


def point(users: Sequence[User], step: int, run: Path, path: Path) -> dict:
    "What the model writes after a step and what it is worth, read from `path` or found out."
    if not path.exists():
        model = "smollm2" if step == 0 else str(run / f"checkpoint-{step}")
        profiles = {kind: written(users, model, t) for kind, t in KINDS.items()}
        scores = {kind: scored(users, texts) for kind, texts in profiles.items()}
        write_text(path, json.dumps(dict(step=step, profiles=profiles, scores=scores), ensure_ascii=False))
    return json.loads(path.read_text())


def row(users: Sequence[User], p: dict, first: dict, kind: str) -> dict:
    "Means of a point, and its gain over the untrained model, paired by user."
    texts = p["profiles"][kind]
    copied = [max(copied_share(texts[u.user_id], i.text) for i in u.visible) for u in users]
    out = dict(step=p["step"], kind=kind, words=round(float(np.mean([len(t.split()) for t in texts.values()])), 1))
    out |= dict(copied=str(bootstrap_mean(copied)), different=len(set(texts.values())))
    for judge in JUDGES:
        arms, before = p["scores"][kind][judge], first["scores"][kind][judge]["profiles"]
        means = {arm: str(bootstrap_mean(list(x.values()))) for arm, x in arms.items()}
        gain = bootstrap_mean([arms["profiles"][u] - before[u] for u in before])
        out[judge] = means | dict(gain=str(gain))
    return out


def longer(points: Mapping[int, dict], kind: str) -> dict[str, str]:
    "What the last step brings over step 40, by judge, paired by user."
    late, early = (points[s]["scores"][kind] for s in (STEPS, 40))
    return {j: str(bootstrap_mean([late[j]["profiles"][u] - early[j]["profiles"][u] for u in late[j]["profiles"]]))
            for j in JUDGES}  # fmt: skip


def example(points: Mapping[int, dict]) -> dict[str, str]:
    "Step → the most likely profile of the author whose gain after all steps is the median one."
    ends = [points[s]["scores"]["most likely"][JUDGES[0]]["profiles"] for s in (0, STEPS)]
    order = sorted(ends[0], key=lambda u: (ends[1][u] - ends[0][u], u))
    return {str(s): p["profiles"]["most likely"][order[len(order) // 2]] for s, p in points.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--output_dir", required=True, type=Path)
    args = parser.parse_args()
    mine, others = split(load_logs(args.data / LOGS[LOG], hold_out=1), half=0, seed=0)
    run = args.output_dir / "run"
    args.output_dir.mkdir(parents=True, exist_ok=True)
    train_all(mine, run)
    began = time.perf_counter()
    points = {step: point(others, step, run, args.output_dir / f"{step}.json") for step in SCORED}
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [json.loads(line)["seconds"] for line in (run / "timings.jsonl").read_text().splitlines()]
    names = dict(reward="reward", entropy="entropy", tokens="completions/mean_length", truncated="bump/truncated")
    result = dict(
        n_trained=len(mine),
        n=len(others),
        chance=round(chance_reward(1, 8), 3),
        minutes=dict(training=round(sum(steps) / 60, 1), scoring=round((time.perf_counter() - began) / 60, 1)),
        curves={name: [round(r[key], 3) for r in lines] for name, key in names.items()},
        rows=[row(others, p, points[0], kind) for kind in KINDS for p in points.values()],
        hundred_less_forty={kind: longer(points, kind) for kind in KINDS},
        example=example(points),
    )
    write_text(HERE / "results/hundred_steps.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(result["hundred_less_forty"]))


if __name__ == "__main__":
    main()
