"""A log of twenty million records in bounded memory: prepared, opened, read.

    python benchmarks/prepare.py [--records 20000000] [--users 1000000] [--memory 1GB]

The log is a folder of sixteen Parquet files, in which the records of a user lie anywhere and one in a hundred stands
twice. It is prepared in a process of its own, whose seconds and peak memory are taken; then another process opens it,
reads users at random places, and another one reads all of them. A thousand users are compared with what `load_logs`
makes of their records in memory. Writes results/prepare.json.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.parquet as pq

from bump.files import write_json
from bump.interactions import load_logs
from bump.prepared import open_prepared

FILES = 16
TIMED = """
import json, random, resource, sys, time
from bump.prepared import open_prepared, prepare_log
folder, log, memory = sys.argv[1:4]
before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
{what}
seconds, peak = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
own = int(next(line for line in open("/proc/self/status") if line.startswith("RssAnon")).split()[1])
facts = dict(seconds=seconds, peak_gb=peak * 1024 / 1e9, own_gb=own * 1024 / 1e9)
print(json.dumps({{k: round(v, 4) for k, v in facts.items()}}))
"""
WHAT = dict(
    prepared="prepare_log(log, folder, memory=memory)",
    opened="open_prepared(folder)",
    ten_thousand_read="users, draw = open_prepared(folder).users, random.Random(0)\n"
    "for _ in range(10_000): users[draw.randrange(len(users))]",
    all_read="for u in open_prepared(folder).users: u.n_records",
)


def write_log(folder: Path, records: int, users: int) -> None:
    "Files of records in no order, the last hundredth of each a repetition of its first."
    draw = np.random.Generator(np.random.PCG64(0))
    for n in range(FILES):
        own = np.arange(n, records, FILES)[: round(records / FILES / 1.01)]
        place = np.concatenate([own, own[: records // FILES - len(own)]])
        user = draw.integers(users, size=len(own))[np.arange(len(place)) % len(own)]
        text = [
            "rated the film number",
            pa.array(place).cast(pa.string()),
            "with a fairly ordinary title 4.0 of 5",
            " ",
        ]
        columns = dict(
            user_id=pc.binary_join_element_wise("user", pa.array(user).cast(pa.string()), ""),
            text=pc.binary_join_element_wise(*text),
            time=pa.array(1_000_000_000 + place * 7919 % records),
        )
        (folder / f"part={n}").mkdir(parents=True)
        pq.write_table(pa.table(columns), folder / f"part={n}" / "0.parquet")


def timed(what: str, *argv) -> dict:
    "Seconds and peak memory of a process; `own_gb` leaves out the pages of a mapped file, which the system may drop."
    done = subprocess.run([sys.executable, "-c", TIMED.format(what=what), *map(str, argv)], stdout=subprocess.PIPE)
    assert done.returncode == 0
    return json.loads(done.stdout.splitlines()[-1])  # DuckDB may print a bar before it


def size(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


def equal_users(log: Path, prepared: Path, n: int = 1000) -> int:
    "How many of `n` users are those that `load_logs` reads in memory."
    users = open_prepared(prepared).users
    some = users.pick(sorted(random.Random(0).sample(range(len(users)), n)))
    few = pa.dataset.dataset(log).to_table(filter=pc.field("user_id").isin(list(some.ids())))
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(few, f"{folder}/few.parquet")
        loaded = {u.user_id: u for u in load_logs(f"{folder}/few.parquet").users}
    return sum(loaded[u.user_id] == u for u in some)


def main(args: argparse.Namespace) -> dict:
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        log, prepared = Path(folder, "log"), Path(folder, "prepared")
        write_log(log, args.records, args.users)
        done = {name: timed(what, prepared, log, args.memory) for name, what in WHAT.items()}
        facts = open_prepared(prepared, 0)
        counts = dict(users=len(facts.users), kept=facts.n_records, repeats=facts.n_duplicates)
        same = equal_users(log, prepared)
        sizes = dict(log=size(log), prepared=size(prepared))
    return dict(records=args.records, memory=args.memory, **counts, **done, bytes=sizes, equal_of_1000=same)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=20_000_000)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--memory", default="1GB")
    parser.add_argument("--folder", help="for the files, some GB; default: a temporary one")
    result = main(parser.parse_args())
    write_json(Path(__file__).parent / "results" / "prepare.json", result)
    print(json.dumps(result, indent=1))
