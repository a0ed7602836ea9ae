"""How should a small model be asked for a profile? Zero-shot scores of several prompts on real logs.

python benchmarks/prompts.py --data FOLDER

FOLDER holds the logs named below. Greedy profiles by SmolLM2, judged by MiniLM and BM25 with pools of 1 + 8, of all
validation users and of nobody else; no training. Beside each mean stands what the prompt gains over `open`, by user.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from bump.engines.make import make_engine
from bump.interactions import load_logs
from bump.intrinsic import score
from bump.judges import make_judge
from bump.profiles import write_profiles
from bump.prompts import OPEN, PRESETS, WriterPrompt
from bump.statistics import bootstrap_mean

HERE = Path(__file__).parent
LOGS = {  # and the preset that suits them
    "movielens": "tastes",
    "papers/logs.jsonl": "expertise",
    "lamp/LaMP_7/dev_questions.json": "conversation",
}
FREE = ("papers/logs.jsonl",)  # logs of which profiles may be shown
EXAMPLE = "- rye bread with seeds\n- a sourdough starter\nThis person likes baking bread.\n\n"


def variants(preset: WriterPrompt) -> dict[str, WriterPrompt]:
    "Prompts that differ from a preset, or from `open`, in one thing each."
    records, question = preset.user.split("\n\n")
    first = replace(preset, user=f"{question}\n\n{records}")
    return {
        "open": OPEN,
        "open, reply begun": replace(OPEN, begin=preset.begin),
        "list, question last": replace(preset, begin=""),
        "list, question last, reply begun": preset,
        "list, question first, reply begun": first,
        "list, one example, question last, reply begun": replace(preset, user=EXAMPLE + preset.user),
        "list, question last, reply begun with 'This person'": replace(preset, begin="This person"),
        "subjects": PRESETS["subjects"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--max_prompt_tokens", type=int, default=384)
    parser.add_argument("--max_new_tokens", type=int, default=40)
    args = parser.parse_args()
    writer, judges, rows = make_engine(args.model), [make_judge("embed:minilm"), make_judge("bm25")], []
    for log, preset in LOGS.items():
        users, first = load_logs(args.data / log).part("validation"), {}
        for name, prompt in variants(PRESETS[preset]).items():
            lengths = args.max_prompt_tokens, args.max_new_tokens
            profiles = {p.user_id: p for p in write_profiles(users, writer, *lengths, batch_size=128, prompt=prompt)}
            row = dict(log=log, preset=preset, prompt=name, users=len(users))
            if log in FREE:
                row["example"] = profiles[users[0].user_id].profile
            for judge in judges:
                s = score(users, profiles, judge, controls=("raw_records",))
                zero = first.setdefault(judge.name, s.sums)  # of `open`, which comes first
                row[judge.name] = {arm: str(means["sum"]) for arm, means in s.arms.items()}
                row[judge.name]["over_open"] = str(bootstrap_mean([s.sums[u] - zero[u] for u in s.sums]))
            rows.append(row | dict(tokens=str(s.tokens), chance=round(s.chance["sum"], 3)))
            print(json.dumps(rows[-1]), flush=True)
            (HERE / "results/prompts.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    for log in LOGS:
        own = [r for r in rows if r["log"] == log]
        print("best", log, max(own, key=lambda r: float(r["embed:minilm"]["profiles"].split()[0]))["prompt"])


if __name__ == "__main__":
    main()
