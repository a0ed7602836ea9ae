"""What do a hundred steps bring a small model that forty do not? One training, scored along the way.

python benchmarks/hundred_steps.py --data FOLDER --output_dir DIR [--log LOG] [--scrub] [--beta BETA] [--steps STEPS]

FOLDER holds the logs of `benchmarks/real_logs.py`. `recipes/smollm2.yaml`, or for film ratings
`recipes/smollm2_ratings.yaml`, is trained for STEPS (100) steps, more than the recipe's, on the half of the users of
LOG that `benchmarks/real_logs.py` trains on first, with a KL penalty of BETA towards the untrained model where one is
given, and every tenth step is kept. At most 124 users of the other half, who never take
part, are then written about by the model before training and after 10, 20, 40, 70 and 100 steps, once with the most
likely tokens and once sampled, and scored by MiniLM, which judged the training, and by BM25, in pools of 1 + 8, one
held-out record a user. How far the profiles have gone from the untrained model's language is measured in its own nats
a token, in answer to a question without records. A training that was interrupted goes on; what is scored is not scored
again, and a step whose checkpoint is gone is left out. results/hundred_steps.json holds a table for each LOG, scrubbed
or not, and BETA.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml
from real_logs import FREE, LOGS, read_logs, split

from bump.engines.make import make_engine
from bump.files import write_json
from bump.interactions import User
from bump.intrinsic import score_arms
from bump.judges import make_judge
from bump.ndcg import chance_reward
from bump.privacy import copied_share
from bump.profiles import write_profiles
from bump.prompts import load_prompt
from bump.seeds import named_rng
from bump.statistics import bootstrap_mean
from bump.training.config import BumpConfig
from bump.training.fit import train

HERE = Path(__file__).parent
RESULT, RECIPES = HERE / "results/hundred_steps.json", HERE.parent / "recipes"
EVERY, SCORED = 10, (0, 10, 20, 40, 70, 100)  # steps
N_USERS = 124  # written about, at most
ABOUT = [dict(role="user", content="Write a short profile of a person.")]
JUDGES = ("embed:minilm", "bm25")
KINDS = {"most likely": 0.0, "sampled": 1.0}  # temperatures


def some_of(users: Sequence[User]) -> list[User]:
    "At most `N_USERS` of the users, drawn."
    chosen = named_rng(0, 0, "", "written about").permutation(len(users))[:N_USERS]
    return [users[i] for i in sorted(chosen)]


def recipe_of(log: str) -> dict:
    return yaml.safe_load((RECIPES / ("smollm2_ratings.yaml" if log == "movielens" else "smollm2.yaml")).read_text())


def train_all(users: Sequence[User], recipe: Mapping, steps: int, beta: float, folder: Path) -> None:
    "The training, as far as it is not done; all checkpoints stay."
    settings = recipe | dict(beta=beta, max_steps=steps, save_steps=EVERY, save_total_limit=steps)
    model, resume = settings.pop("model"), "true" if (folder / "run.json").exists() else None
    if not (folder / "adapter_model.safetensors").exists():
        train(users, model, BumpConfig(output_dir=str(folder), resume_from_checkpoint=resume, **settings))


def written(users: Sequence[User], model: str, recipe: Mapping, temperature: float) -> dict[str, str]:
    "A profile of each user, with the prompt and the lengths of the recipe."
    writer = make_engine(model)
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


def nats_a_token(texts: Mapping[str, str]) -> dict[str, float]:
    "User → −log p of the profile, a token, under the untrained model that is shown no record."
    logp, n = make_engine("smollm2").reply_log_probs([(ABOUT, text) for text in texts.values()])
    return {u: float(x) for u, x in zip(texts, -logp / n)}


def point(users: Sequence[User], recipe: Mapping, step: int, run: Path, path: Path) -> dict:
    "What the model writes after a step and what it is worth, read from `path` or found out."
    if not path.exists():
        model = "smollm2" if step == 0 else str(run / f"checkpoint-{step}")
        profiles = {kind: written(users, model, recipe, t) for kind, t in KINDS.items()}
        scores = {kind: scored(users, texts) for kind, texts in profiles.items()}
        nats = {kind: nats_a_token(texts) for kind, texts in profiles.items()}
        write_json(path, dict(step=step, profiles=profiles, scores=scores, nats=nats))
    return json.loads(path.read_text())


def row(users: Sequence[User], p: dict, first: dict, kind: str) -> dict:
    "Means of a point, and its gain over the untrained model, paired by user."
    texts = p["profiles"][kind]
    copied = [max(copied_share(texts[u.user_id], i.text) for i in u.visible) for u in users]
    out = dict(step=p["step"], kind=kind, words=round(float(np.mean([len(t.split()) for t in texts.values()])), 1))
    fresh = [len(set(t.split())) / len(t.split()) for t in texts.values()]
    out |= dict(copied=str(bootstrap_mean(copied)), different=len(set(texts.values())))
    out |= dict(nats=str(bootstrap_mean(list(p["nats"][kind].values()))), distinct_words=str(bootstrap_mean(fresh)))
    for judge in JUDGES:
        arms, before = p["scores"][kind][judge], first["scores"][kind][judge]["profiles"]
        means = {arm: str(bootstrap_mean(list(x.values()))) for arm, x in arms.items()}
        gain = bootstrap_mean([arms["profiles"][u] - before[u] for u in before])
        out[judge] = means | dict(gain=str(gain))
    return out


def longer(points: Mapping[int, dict], kind: str) -> dict[str, str]:
    "What step 100 brings over step 40, by judge, paired by user."
    late, early = (points[s]["scores"][kind] for s in (100, 40))
    return {j: str(bootstrap_mean([late[j]["profiles"][u] - early[j]["profiles"][u] for u in late[j]["profiles"]]))
            for j in JUDGES}  # fmt: skip


def less_without(points: Mapping[int, dict], plain: Path) -> dict[str, dict]:
    "Kind → step → what a run has less the run without a penalty, in sums by judge and in nats, paired by user."
    out: dict = {}
    for kind in KINDS:
        for step, p in points.items():
            other = json.loads((plain / f"{step}.json").read_text())
            pairs = {j: (p["scores"][kind][j]["profiles"], other["scores"][kind][j]["profiles"]) for j in JUDGES}
            pairs["nats"] = p["nats"][kind], other["nats"][kind]
            row = {name: str(bootstrap_mean([a[u] - b[u] for u in a])) for name, (a, b) in pairs.items()}
            out.setdefault(kind, {})[str(step)] = row
    return out


def example(points: Mapping[int, dict]) -> dict[str, str]:
    "Step → the most likely profile of the user whose gain after all steps is the median one."
    ends = [points[s]["scores"]["most likely"][JUDGES[0]]["profiles"] for s in (min(points), max(points))]
    order = sorted(ends[0], key=lambda u: (ends[1][u] - ends[0][u], u))
    return {str(s): p["profiles"]["most likely"][order[len(order) // 2]] for s, p in points.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--output_dir", required=True, type=Path)
    parser.add_argument("--log", choices=LOGS, default="papers")
    parser.add_argument("--scrub", action="store_true", help="without handles, addresses, phone numbers and ids")
    parser.add_argument("--beta", type=float, default=0.0)
    parser.add_argument("--steps", type=int, default=100, choices=SCORED[1:])
    args = parser.parse_args()
    name = args.log + (", scrubbed" if args.scrub else "") + (f", beta {args.beta}" if args.beta else "")
    recipe = recipe_of(args.log)
    mine = split(read_logs(args.data, args.log, args.scrub, recipe.get("hold_out", 1)), half=0, seed=0)[0]
    others = some_of(split(read_logs(args.data, args.log, args.scrub), half=0, seed=0)[1])
    folder = args.output_dir / name.replace(" ", "_")
    folder.mkdir(parents=True, exist_ok=True)
    train_all(mine, recipe, args.steps, args.beta, folder / "run")
    kept = [s for s in SCORED[1:] if s <= args.steps and (folder / f"run/checkpoint-{s}").exists()]
    scored_steps = [0, *kept]
    points = {step: point(others, recipe, step, folder / "run", folder / f"{step}.json") for step in scored_steps}
    lines = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    steps = [json.loads(line)["seconds"] for line in (folder / "run/timings.jsonl").read_text().splitlines()]
    names = dict(reward="reward", entropy="entropy", tokens="completions/mean_length", truncated="bump/truncated")
    table = dict(
        n_trained=len(mine),
        n=len(others),
        chance=round(chance_reward(1, 8), 3),
        minutes=round(sum(steps) / 60, 1),
        curves={name: [round(r[key], 3) for r in lines] for name, key in names.items()},
        rows=[row(others, p, points[0], kind) for kind in KINDS for p in points.values()],
        hundred_less_forty={kind: longer(points, kind) for kind in KINDS if {40, 100} <= points.keys()},
        example=example(points) if args.log in FREE else {},
    )
    plain = args.output_dir / args.log
    if args.beta and all((plain / f"{step}.json").exists() for step in points):
        table["less_without"] = less_without(points, plain)
    tables = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    write_json(RESULT, tables | {name: table})
    print(name, json.dumps(table["hundred_less_forty"]))


if __name__ == "__main__":
    main()
