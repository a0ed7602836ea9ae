"""Does a real language model learn to write profiles of real people? Train on one half, score the other.

python benchmarks/real_logs.py --data FOLDER --output_dir DIR --log movielens
python benchmarks/real_logs.py --collect DIR [--data FOLDER --judges JUDGE ...]

FOLDER holds the logs named below. The validation users of a log, on whom prompts and settings were chosen, take no
part: the others are split into two halves by a draw, the policy is trained on one half (`--half`), and profiles of the
other half's users are scored by judges in pools of 1 + 8, one held-out record a user. With `--tune` it is scored on
the validation users instead. A run that was interrupted goes on. `--collect DIR` reads all runs of a folder into
results/real_logs.json, beside the runs of other folders that stand there; with `--data` as well, their profiles are
first scored by those `--judges` that are missing.
"""

import argparse
import json
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from transformers import TrainerCallback

from bump.engines.local import end_tokens
from bump.files import write_text
from bump.interactions import Logs, User, load_logs
from bump.intrinsic import METRICS, best_of, chance_levels, score_arms
from bump.judges import make_judge
from bump.models import load_model
from bump.privacy import scrub_users
from bump.prompts import encode, joined, load_prompt, profile_prompt
from bump.reward import Parts
from bump.seeds import named_rng
from bump.statistics import bootstrap_mean
from bump.training.config import BumpConfig
from bump.training.fit import train
from bump.training.sampling import sample, warpers

HERE = Path(__file__).parent
LOGS = {
    "movielens": "movielens",
    "LaMP-7": "lamp/LaMP_7/dev_questions.json",
    "stackexchange": "stackexchange/logs.jsonl",
    "papers": "papers/logs.jsonl",
}
FREE = ("papers", "stackexchange")  # logs of which profiles may be shown
ROWS = 2048 if torch.cuda.is_available() else 256  # profiles that are written at once
JUDGES = ("embed:minilm", "bm25", "likelihood:smollm2")


def flags():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--output_dir", type=Path)
    parser.add_argument("--collect", type=Path)
    parser.add_argument("--log", choices=LOGS)
    parser.add_argument("--half", type=int, default=0, choices=(0, 1), help="of the users to train on")
    parser.add_argument("--scrub", action="store_true", help="without handles, addresses, phone numbers and ids")
    parser.add_argument("--tune", action="store_true", help="score the validation users, not the other half")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--judge", default=JUDGES[0], help="of the training")
    parser.add_argument("--judges", nargs="+", default=JUDGES, help="of the scores")
    parser.add_argument("--prompts", default="subjects", help="a preset or a YAML file")
    parser.add_argument("--max_steps", type=int, default=300)
    parser.add_argument("--max_minutes", type=float, help="of training; a run that takes longer ends early")
    parser.add_argument("--max_tokens_per_batch", type=int)
    parser.add_argument("--learning_rate", type=float, default=1e-4)
    parser.add_argument("--users_per_step", type=int, default=32)
    parser.add_argument("--num_generations", type=int, default=8)
    parser.add_argument("--best_of", type=int, default=8, help="profiles to pick from; 1 leaves this control out")
    parser.add_argument("--hold_out", type=int, default=1, help="records that a profile must find in training")
    parser.add_argument("--temperature", type=float, default=1.0, help="of the rollouts")
    parser.add_argument("--max_prompt_tokens", type=int, default=512)
    parser.add_argument("--max_new_tokens", type=int, default=40)
    parser.add_argument("--loss_type", default="dapo")
    parser.add_argument("--scale_rewards", default="group")
    parser.add_argument("--lora_r", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


class Deadline(TrainerCallback):
    "Ends a training after so many minutes."

    def __init__(self, minutes: float):
        self.ends = time.monotonic() + 60 * minutes

    def on_step_end(self, args, state, control, **_):
        control.should_training_stop = control.should_training_stop or time.monotonic() > self.ends


def read_logs(data: Path, log: str, scrubbed: bool, hold_out: int = 1) -> Logs:
    logs = load_logs(data / LOGS[log], hold_out=hold_out)
    return replace(logs, users=scrub_users(logs.users, logs.short_users)) if scrubbed else logs


def name_of(settings: Mapping) -> str:
    "What a run trained on: the log, whether it was scrubbed, and how many records were to be found, if not one."
    hidden = settings.get("hold_out", 1)  # runs before there was a choice do not say
    scrubbed = ", scrubbed" if settings.get("scrub") else ""
    return settings["log"] + scrubbed + (f", {hidden} hidden" if hidden > 1 else "")


def split(logs: Logs, half: int, seed: int) -> tuple[list[User], list[User]]:
    "The users to train on, and the others, of all who are no validation users."
    users = sorted(logs.part("train") + logs.part("test"), key=lambda u: u.user_id)
    order = named_rng(seed, 0, "", "halves").permutation(len(users))
    halves = [[users[i] for i in sorted(part)] for part in np.array_split(order, 2)]
    return halves[half], halves[1 - half]


def config_of(args, folder: Path) -> BumpConfig:
    return BumpConfig(
        output_dir=str(folder),
        resume_from_checkpoint="true" if (folder / "run.json").exists() else None,
        use_peft=True,
        lora_r=args.lora_r,
        lora_alpha=2 * args.lora_r,
        judge=args.judge,
        prompts=args.prompts,
        max_steps=args.max_steps,
        learning_rate=args.learning_rate,
        users_per_step=args.users_per_step,
        num_generations=args.num_generations,
        max_prompt_tokens=args.max_prompt_tokens,
        max_completion_length=args.max_new_tokens,
        hold_out=args.hold_out,
        temperature=args.temperature,
        length_threshold=round(args.max_new_tokens * 5 / 6),
        length_slope=0.5,
        loss_type=args.loss_type,
        scale_rewards=args.scale_rewards,
        lr_scheduler_type="constant",
        max_tokens_per_batch=args.max_tokens_per_batch,
        save_steps=10,
        seed=args.seed,
    )


def written(args, model: str, users: Sequence[User], n: int, temperature: float) -> dict[str, list[str]]:
    "`n` profiles of each user; at temperature 0 the most likely tokens."
    lm, prompt = load_model(model), load_prompt(args.prompts)
    ends, pad, out = end_tokens(lm), lm.tokenizer.pad_token_id, {}
    asked = {u.user_id: profile_prompt([r.text for r in u.visible], lm.tokenizer, args.max_prompt_tokens, prompt)[0]
             for u in users}  # fmt: skip
    order = sorted(asked, key=lambda u: len(encode(lm.tokenizer, asked[u])))
    processors = warpers(top_k=1) if temperature == 0 else warpers(temperature)
    for start in range(0, len(order), ROWS // n):
        some = order[start : start + ROWS // n]
        rows = [encode(lm.tokenizer, asked[u]) for u in some for _ in range(n)]
        rngs = [named_rng(args.seed, 0, u, f"profile {g}") for u in some for g in range(n)]
        ids = iter(sample(lm.model, rows, rngs, args.max_new_tokens, ends, pad, processors))
        for u in some:
            texts = [lm.tokenizer.decode(next(ids), skip_special_tokens=True) for _ in range(n)]
            out[u] = [joined(prompt.begin, t.strip()) for t in texts]
    return out


def profiles(args, users: Sequence[User], run: Path) -> dict[str, dict[str, str]]:
    "Arm → user → profile, of the untrained and of the trained policy."
    drafts = written(args, args.model, users, args.best_of, 1.0)
    best = {f"best of {args.best_of}": best_of(users, drafts, make_judge(args.judge))} if args.best_of > 1 else {}
    firsts = {u: texts[0] for u, texts in drafts.items()}
    before = written(args, args.model, users, 1, 0.0)
    after, sampled = (written(args, str(run), users, 1, t) for t in (0.0, 1.0))
    return {
        "zero-shot": {u: t[0] for u, t in before.items()},
        "zero-shot, sampled": firsts,
        **best,
        "trained": {u: t[0] for u, t in after.items()},
        "trained, sampled": {u: t[0] for u, t in sampled.items()},
    }


def values(parts: Mapping[str, Parts]) -> dict[str, dict[str, float]]:
    return {m: {u: round(float(f(p)), 6) for u, p in parts.items()} for m, f in METRICS.items()}


def scored(users: Sequence[User], arms: Mapping[str, Mapping[str, str]], judge) -> dict:
    "Arm → metric → user → value, with the controls of the trained profiles."
    by_arm = {name: score_arms(users, texts, judge, controls=())["profiles"] for name, texts in arms.items()}
    controls = score_arms(users, arms["trained"], judge)
    parts = by_arm | {name: x for name, x in controls.items() if name != "profiles"}
    chance = chance_levels(1, 8, list(by_arm["trained"].values()))
    return dict(chance=chance, arms={name: values(x) for name, x in parts.items()})


def one_run(args) -> None:
    logs = read_logs(args.data, args.log, args.scrub)
    mine, others = split(logs, args.half, args.seed)
    if args.hold_out > 1:  # the same users, with more of their records hidden
        mine = split(read_logs(args.data, args.log, args.scrub, args.hold_out), args.half, args.seed)[0]
    users = logs.part("validation") if args.tune else others
    run = args.output_dir / "run"
    args.output_dir.mkdir(parents=True, exist_ok=True)
    if not list(run.glob("*model.safetensors")):
        train(mine, args.model, config_of(args, run), callbacks=[Deadline(args.max_minutes or 1e6)])
    started = time.perf_counter()
    arms = profiles(args, users, run)
    facts = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items() if k not in ("data", "collect")}
    steps = [json.loads(line)["seconds"] for line in (run / "timings.jsonl").read_text().splitlines()]
    seconds = dict(training=sum(steps), writing=time.perf_counter() - started)  # also of a run that was interrupted
    facts["weights"] = str(load_model(args.model).model.dtype).removeprefix("torch.")
    result = dict(settings=facts, device=device(), n_trained=len(mine), n_scored=len(users))
    result |= dict(steps=len(steps), seconds=seconds, profiles=arms, scores={})
    for name in args.judges:
        began = time.perf_counter()
        scores = result["scores"][name] = scored(users, arms, make_judge(name))
        seconds[name] = time.perf_counter() - began
        means = {arm: round(float(np.mean(list(v["sum"].values()))), 3) for arm, v in scores["arms"].items()}
        print(args.output_dir.name, name, means, flush=True)
        write_text(args.output_dir / "result.json", json.dumps(result, ensure_ascii=False))


def device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def table(scores: dict) -> dict:
    "Of one judge: the means of all arms, and what the trained profiles gain over each, paired by user."
    arms = {name: {m: np.array(list(v[m].values())) for m in METRICS} for name, v in scores["arms"].items()}
    gains = {name: arms["trained"]["sum"] - x["sum"] for name, x in arms.items() if name != "trained"}
    gains["zero-shot, both sampled"] = arms["trained, sampled"]["sum"] - arms["zero-shot, sampled"]["sum"]
    return dict(
        chance={m: round(x, 3) for m, x in scores["chance"].items()},
        arms={name: {m: str(bootstrap_mean(x)) for m, x in v.items()} for name, v in arms.items()},
        gains={name: str(bootstrap_mean(x)) for name, x in gains.items()},
    )


def learned(folder: Path, profiles: Mapping[str, Mapping[str, str]]) -> dict:
    "What changed in training: means of the first and of the last quarter of the steps, and words that came and went."
    rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    quarter = max(1, len(rows) // 4)
    names = dict(reward="reward", entropy="entropy", tokens="completions/mean_length", copied="bump/copied")
    names |= dict(truncated="bump/truncated", grad_norm="grad_norm")
    means = {
        name: [round(float(np.mean([r[key] for r in part])), 3) for part in (rows[:quarter], rows[-quarter:])]
        for name, key in names.items()
    }
    users = {arm: Counter(w for t in profiles[arm].values() for w in words(t)) for arm in ("zero-shot", "trained")}
    change = {w: users["trained"][w] - users["zero-shot"][w] for w in users["trained"] | users["zero-shot"]}
    order = sorted(change, key=lambda w: (change[w], w))
    curves = {name: [round(r[names[name]], 3) for r in rows] for name in ("reward", "entropy")}
    return means | dict(words_lost=order[:12], words_gained=order[:-13:-1], curves=curves)


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]{3,}", text.lower()))


def examples(r: dict) -> list[dict]:
    "Profiles of the users who gained least, as much as the median user, and most, by the mean of the judges."
    arms = [s["arms"] for s in r["scores"].values()]
    gain = {
        u: float(np.mean([a["trained"]["sum"][u] - a["zero-shot"]["sum"][u] for a in arms]))
        for u in r["profiles"]["trained"]
    }
    order = sorted(gain, key=lambda u: (gain[u], u))
    chosen = {"least": order[0], "median": order[len(order) // 2], "most": order[-1]}
    shown = ("zero-shot", "trained")
    return [dict(gain=k, **{a: r["profiles"][a][u] for a in shown}, by=round(gain[u], 2)) for k, u in chosen.items()]


def described(where: Path, r: dict) -> dict:
    "A run without its scores: what it was, and what the policy learned."
    kept = {k: r[k] for k in ("settings", "device", "n_trained", "n_scored", "steps", "seconds")}
    words_of = {a: round(float(np.mean([len(t.split()) for t in x.values()])), 1) for a, x in r["profiles"].items()}
    shown = examples(r) if r["settings"]["log"] in FREE else []
    return dict(run=where.name, **kept, words=words_of, examples=shown, learned=learned(where, r["profiles"]))


def together(runs: Sequence[dict]) -> dict:
    "The scores of runs on the halves of one log, as tables over all their users."
    first, tables = runs[0], {}
    for judge in sorted(first["scores"], key=lambda j: (j != first["settings"]["judge"], j)):  # the training's first
        both = [r["scores"][judge] for r in runs]
        arms = {
            arm: {m: {u: x for s in both for u, x in s["arms"][arm][m].items()} for m in METRICS}
            for arm in both[0]["arms"]
        }
        tables[judge] = table(dict(chance=both[0]["chance"], arms=arms))
    return dict(
        log=name_of(first["settings"]),
        trained_by=first["settings"]["judge"],
        device=first["device"],
        steps=[r["steps"] for r in runs],
        n=sum(r["n_scored"] for r in runs),
        tables=tables,
    )


def collect(folder: Path) -> dict:
    "The runs of a folder, and tables of each log and training judge."
    found = [(p.parent, json.loads(p.read_text())) for p in sorted(folder.glob("*/result.json"))]
    groups: dict[tuple[str, str], list[dict]] = {}
    for _, r in found:
        groups.setdefault((name_of(r["settings"]), r["settings"]["judge"]), []).append(r)
    return dict(runs=[described(*x) for x in found], tables=[together(runs) for runs in groups.values()])


def merged(old: dict, new: dict) -> dict:
    "New runs and tables, and those old ones whose place they do not take."
    runs = {r["run"]: r for r in old["runs"] + new["runs"]}
    tables = {(t["log"], t["trained_by"]): t for t in old["tables"] + new["tables"]}
    return dict(runs=list(runs.values()), tables=list(tables.values()))


def score_more(folder: Path, data: Path, judges: Sequence[str]) -> None:
    "Score the profiles of finished runs by further judges."
    for path in sorted(folder.glob("*/result.json")):
        r = json.loads(path.read_text())
        settings = r["settings"]
        by_id = {u.user_id: u for u in read_logs(data, settings["log"], settings.get("scrub", False)).users}
        users = [by_id[u] for u in r["profiles"]["trained"]]
        for name in judges:
            if name not in r["scores"]:
                r["scores"][name] = scored(users, r["profiles"], make_judge(name))
                write_text(path, json.dumps(r, ensure_ascii=False))


def main():
    args = flags()
    if args.output_dir:
        one_run(args)
    if args.collect:
        if args.data:
            score_more(args.collect, args.data, args.judges)
        path, results = HERE / "results/real_logs.json", collect(args.collect)
        if path.exists():
            results = merged(json.loads(path.read_text()), results)
        write_text(path, json.dumps(results, indent=1, ensure_ascii=False) + "\n")
        for r in results["tables"]:
            for judge, t in r["tables"].items():
                print(r["log"], r["trained_by"], "scored by", judge, "trained − zero-shot", t["gains"]["zero-shot"])


if __name__ == "__main__":
    main()
