"""Memory and speed of reading a long flat JSONL log.

    python benchmarks/load_logs.py [lines]

Writes a synthetic log of `lines` records (default 5,000,000) by 100,000 users, reads it with `load_logs`, and
prints the peak
resident memory of the process, and the time beside that of `json.loads` alone on the same lines.
"""

import json
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

from bump.interactions import load_logs


def write_log(path: Path, lines: int) -> None:
    rng = random.Random(0)
    with open(path, "w") as f:
        for i in range(lines):
            f.write(
                json.dumps(
                    dict(
                        user_id=f"user{rng.randrange(100_000)}",
                        text=f"rated the film number {i} with a fairly ordinary title 4.0 of 5",
                        time=1_000_000_000 + i,
                    )
                )
                + "\n"
            )


def main(lines: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log.jsonl")
        write_log(log, lines)
        start = time.perf_counter()
        with open(log, "rb") as f:
            for line in f:
                json.loads(line)
        plain = time.perf_counter() - start
        start = time.perf_counter()
        logs = load_logs(log)
        ours = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return dict(
        lines=lines,
        users=len(logs.users),
        records=logs.n_records,
        peak_gb=round(peak / 1e9, 2),
        seconds=round(ours, 1),
        ratio_to_json_loads=round(ours / plain, 2),
    )


if __name__ == "__main__":
    result = main(int(sys.argv[1]) if len(sys.argv) > 1 else 5_000_000)
    out = Path(__file__).parent / "results" / "load_logs.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(result)
