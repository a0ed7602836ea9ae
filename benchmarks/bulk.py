"""Profiles by writers on Ray: how fast beside one process without it, and what a kill costs.

    python benchmarks/bulk.py [--users 20000] [--workers 2] [--kills 20] [--parts speed kills]

The embedded model writes profiles of users with short histories of the synthetic world. `speed` writes them by the
same code in `--workers` processes that know nothing of each other, each with its share of the users, and then by as
many workers of Ray, once for all users and once for a quarter of them, so that the start can be told from the rest.
`kills` writes again,
while drivers and workers of Ray are killed at random with SIGKILL, until everybody has a profile; then each user must
be there once, with the profile of the undisturbed run. Writes results/bulk.json.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil

from bump.bulk import Workers, ray_profiles
from bump.engines.make import engine_revision
from bump.files import read_facts, write_json
from bump.prepared import open_prepared, prepare_log
from bump.profiles import WriterSettings, WriterTask
from bump.prompts import OPEN
from bump.refresh import fill_store, writer_facts
from bump.store import ProfileStore, read_store
from bump.world import WorldConfig, make_world, save_world

TASK = WriterTask("embedded", WriterSettings(max_prompt_tokens=320, max_new_tokens=32), batch_size=64)
RESULT = Path(__file__).parent / "results" / "bulk.json"
PYTHON = [sys.executable, __file__]
ALONE = os.environ | dict(OMP_NUM_THREADS="1")  # as Ray gives each worker of one core


def write(log: Path, store: Path, n: int, share: str = "", workers: int = 0, often: int = 0) -> None:
    """Fill a store for the first `n` users, and print the seconds.

    `share`, i/k, takes each k-th of them; `workers` and `often` are workers on Ray, the latter with small batches."""
    users = open_prepared(log).users[:n]
    if share:
        i, k = map(int, share.split("/"))
        users = users[i::k]
    task = replace(TASK, batch_size=16) if often else TASK
    on_ray = partial(ray_profiles, task=task, workers=Workers(number=workers or often or None))
    begun = time.perf_counter()
    facts = writer_facts(engine_revision("embedded"), OPEN, TASK.settings)
    written = fill_store(users, store, facts, on_ray if workers or often else TASK.write, 64)
    print(json.dumps(dict(profiles=written, seconds=time.perf_counter() - begun)))


def started(log: Path, store: Path, n: int, **how) -> subprocess.Popen:
    ((name, value),) = how.items()
    return subprocess.Popen(
        [*PYTHON, "write", log, store, str(n), f"{name}={value}"], env=ALONE, stdout=subprocess.PIPE
    )


def ended(process: subprocess.Popen) -> dict:
    out, _ = process.communicate()
    assert process.returncode == 0
    return json.loads(out.splitlines()[-1])


def by_processes(log: Path, stores: Path, n: int, k: int) -> float:  # seconds
    parts = [started(log, Path(f"{stores}-{i}.db"), n, share=f"{i}/{k}") for i in range(k)]
    return max(ended(p)["seconds"] for p in parts)


def by_ray(log: Path, stores: Path, n: int, k: int) -> float:  # seconds
    return ended(started(log, Path(f"{stores}.db"), n, workers=k))["seconds"]


def speed(log: Path, folder: Path, n: int, workers: int) -> dict:
    "Profiles a second, from the seconds for all users less those for a quarter of them, which are mostly the start."
    facts = {}
    for name, seconds_of in dict(processes=by_processes, ray=by_ray).items():
        few, many = (seconds_of(log, folder / f"{name}-{k}", k, workers) for k in (n // 4, n))
        rate = (n - n // 4) / (many - few)
        facts[name] = dict(seconds=round(many, 1), per_second=round(rate, 1), start=round(many - n / rate, 1))
    one = dict(p for i in range(workers) for p in texts(folder / f"processes-{n}-{i}.db").items())
    ratio = round(facts["ray"]["per_second"] / facts["processes"]["per_second"], 3)
    return facts | dict(ratio=ratio, equal=texts(folder / f"ray-{n}.db") == one)


def texts(store: Path) -> dict[str, str]:
    return {u: p.profile for u, p in read_store(store).items()}


def workers_of(driver: int) -> list[psutil.Process]:
    "Processes of Ray's writers that a driver has started."
    below = psutil.Process(driver).children(recursive=True)
    return [p for p in below if "MapBatches" in " ".join(p.cmdline())]


def count(store: Path) -> int:
    "Profiles in a store that another process writes."
    with ProfileStore(store, create=True) as s:
        return s.db.execute("SELECT count(*) FROM profiles").fetchone()[0]


def lived(driver: subprocess.Popen, store: Path, draw: random.Random) -> list[str]:
    "Wait for a driver's first profiles; kill a worker and then the driver, unless it has ended before. Who was killed."
    before, killed = count(store), []
    for whom in ("worker", "driver"):
        while count(store) == before and driver.poll() is None:
            time.sleep(0.2)
        time.sleep(draw.uniform(0, 2))
        if driver.poll() is not None:
            break
        victims = workers_of(driver.pid) if whom == "worker" else [driver]
        if not victims:
            continue
        os.kill(draw.choice(victims).pid, signal.SIGKILL)
        killed.append(whom)
        before = count(store)
    return killed


def kills(log: Path, folder: Path, n_users: int, workers: int, n: int, seed: int = 0) -> dict:
    "Kill `n` workers and `n` drivers at random moments, and let the last driver end its work."
    draw, store, killed, written = random.Random(seed), folder / "kills.db", Counter(), []
    for _ in range(n):
        driver = started(log, store, n_users, often=workers)
        killed.update(lived(driver, store, draw))
        if driver.wait() == 0:
            break
        written.append(count(store))
        print(f"killed {dict(killed)}, {written[-1]:,} profiles", file=sys.stderr)
    ended(started(log, store, n_users, often=workers))
    with ProfileStore(store) as s:
        rows, users, versions = s.db.execute(
            "SELECT count(*), count(DISTINCT user_id), max(version) FROM profiles"
        ).fetchone()
    by_processes(log, folder / "whole", n_users, workers)
    whole = dict(p for i in range(workers) for p in texts(folder / f"whole-{i}.db").items())
    got = texts(store)
    return dict(
        killed=dict(killed), written_by_then=written, rows=rows, users=users, versions=versions, equal=got == whole
    )


def main(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare_log(save_world(make_world(WorldConfig(n_users=args.users)), folder), folder / "log")
        about = folder / "log", folder, args.users, args.workers
        done = dict(speed=lambda: speed(*about), kills=lambda: kills(*about, args.kills))
        for part in args.parts:
            result = (read_facts(RESULT) if RESULT.exists() else {}) | {part: done[part]()}
            write_json(RESULT, result | dict(users=args.users, workers=args.workers))
            print(json.dumps(result[part], indent=1))


if __name__ == "__main__":
    if sys.argv[1:2] == ["write"]:
        (log, store), n, (name, value) = map(Path, sys.argv[2:4]), int(sys.argv[4]), sys.argv[5].split("=")
        write(log, store, n, **{name: value if name == "share" else int(value)})
        sys.exit()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--parts", nargs="+", default=["speed", "kills"], choices=["speed", "kills"])
    main(parser.parse_args())
