"""Profiles written with weights in float32 and in bfloat16: seconds, and whether they are worth the same.

python benchmarks/writing.py --logs LOGS [--model smollm2]

One process on the CPU; both kinds of weights write the most likely profiles of the log's validation users, turn by
turn, twice. MiniLM scores them in pools of 1 + 8.
"""

import argparse
import json
import time
from pathlib import Path

from bump.engines.local import TransformersEngine
from bump.interactions import load_logs
from bump.intrinsic import score
from bump.judges import make_judge
from bump.models import load_model
from bump.profiles import Profile, write_profiles
from bump.prompts import PRESETS
from bump.statistics import bootstrap_mean

HERE = Path(__file__).parent
LENGTHS = dict(max_prompt_tokens=384, max_new_tokens=40)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", required=True)
    parser.add_argument("--model", default="smollm2")
    args = parser.parse_args()
    users = load_logs(args.logs).part("validation")
    engines = {d: TransformersEngine(load_model(args.model, device="cpu", dtype=d)) for d in ("float32", "bfloat16")}
    seconds: dict[str, list[float]] = {d: [] for d in engines}
    profiles: dict[str, dict[str, Profile]] = {}
    for dtype, engine in [*engines.items()] * 2:
        began = time.perf_counter()
        written = write_profiles(users, engine, **LENGTHS, prompt=PRESETS["subjects"])
        profiles[dtype] = {p.user_id: p for p in written}
        seconds[dtype].append(round(time.perf_counter() - began, 2))
        print(dtype, seconds[dtype][-1], "s", flush=True)
    judge = make_judge("embed:minilm")
    scores = {d: score(users, p, judge, controls=()) for d, p in profiles.items()}
    exact, rounded = (profiles[d] for d in engines)
    sums = [scores[d].sums for d in engines]
    result = dict(
        model=args.model,
        users=len(users),
        seconds=seconds,
        ratio=round(min(seconds["float32"]) / min(seconds["bfloat16"]), 2),
        equal=sum(exact[u].profile == rounded[u].profile for u in exact),
        scores={d: str(s.arms["profiles"]["sum"]) for d, s in scores.items()},
        bfloat16_less_float32=str(bootstrap_mean([sums[1][u] - sums[0][u] for u in sums[0]])),
        chance=round(scores["float32"].chance["sum"], 3),
    )
    print(json.dumps(result))
    (HERE / "results/writing.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
