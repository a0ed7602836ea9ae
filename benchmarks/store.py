"""A store of a million profiles: opening it, finding one, writing, refreshing what changed, forgetting; and the proxy.

python benchmarks/store.py [--users 1000000] [--parts build open get refresh forget kills serve]

`build` writes the profiles in batches of 10,000, and in the same run 50,000 in batches of 32, the default of `bump
profile`, and the way that came before, a JSONL line and a sync each, for as many as take some seconds. Opening and
peak memory are measured in processes of their own. `refresh` lets one user in a hundred write something new and counts
whose profile is stale. `kills` kills a writer at random, twenty times.
`serve` asks the proxy 50 times a second in front of a server that answers at once, and that server directly.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from bump.files import append_line, write_json
from bump.interactions import Interaction, User
from bump.profiles import Profile, history_digest
from bump.refresh import staleness
from bump.seeds import named_rng
from bump.store import ProfileStore, _pieces, forget, save_profiles

HERE = Path(__file__).parent
PARTS = ("build", "open", "get", "refresh", "forget", "kills", "serve")
WORDS = 20_000
AT_ONCE, SMALL = 32, 50_000  # the default of `--batch_size`, and how many profiles are written so
ONE = Profile("", "", "m", "0", "1", 1, 3, 0.0, 2.0, 60, False, 1024, 256, "2026-01-01T00:00:00+00:00")


def user(i: int, news: bool = False) -> User:
    "A user of three short records, and of a fourth one where there is news."
    texts = [f"record {k} of user {i}" for k in range(3 + news)]
    return User(f"user-{i:07}", tuple(Interaction(t, float(k)) for k, t in enumerate(texts)), ())


def profile(i: int) -> Profile:
    "A profile of sixty words."
    text = " ".join(f"word{w}" for w in np.random.Generator(np.random.PCG64(i)).integers(WORDS, size=60))
    return replace(ONE, user_id=f"user-{i:07}", profile=text, digest=history_digest(user(i).visible))


def seconds_of(f) -> float:
    started = time.perf_counter()
    f()
    return time.perf_counter() - started


def put_seconds(store: ProfileStore, n: int, at_once: int) -> float:
    "Seconds of writing alone; the profiles of a batch are made before."
    spent = 0.0
    for start in range(0, n, at_once):
        some = [profile(i) for i in range(start, min(n, start + at_once))]
        spent += seconds_of(lambda some=some: store.put(some))
    return spent


def build(path: Path, n: int) -> dict:
    "A store in big batches, another one in batches as `bump profile` writes them, and lines."
    with ProfileStore(path.with_name("small.db"), create=True) as other:
        small = put_seconds(other, SMALL, AT_ONCE)
    store = ProfileStore(path, create=True)
    spent = put_seconds(store, n, 10_000)
    again = [profile(i) for i in range(10_000)]
    second = seconds_of(lambda: store.put(again))
    store.close()
    lines, few = path.with_name("lines.jsonl"), [asdict(profile(i)) for i in range(2000)]
    before = seconds_of(lambda: [append_line(lines, row) for row in few])
    rates = dict(store=n / spent, small_batches=SMALL / small, lines=len(few) / before)
    return dict(
        profiles=n,
        per_second={k: round(v) for k, v in rates.items()},
        times_faster=round(rates["store"] / rates["lines"], 1),
        second_versions_per_second=round(len(again) / second),
        bytes_a_profile=round(path.stat().st_size / n),
    )


CODE = """
import json, resource, sys, time
from bump.store import ProfileStore, read_store
before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
if sys.argv[1].endswith(".db"):
    with ProfileStore(sys.argv[1]) as s:
        assert s.get("user-0000001")
else:
    assert read_store(sys.argv[1])["user-0000001"]
more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps(dict(seconds=round(time.perf_counter() - started, 4), megabytes=round(more / 1024, 1))))
"""


def opened(path: Path) -> dict:
    "Opening a store and reading one profile, in a process of its own."
    lines = path.with_name("all.jsonl")
    with ProfileStore(path) as store:
        save_profiles(store, lines)
    out = {}
    for kind, file in dict(store=path, lines=lines).items():
        command = [sys.executable, "-c", CODE, str(file)]
        out[kind] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return out


def get(path: Path, n: int, asked: int = 20_000) -> dict:
    "Microseconds of finding one user among all, in a drawn order."
    ids, spent = named_rng(0, 0, "", "asked").integers(n, size=asked), []
    with ProfileStore(path) as store:
        for i in ids:
            name = f"user-{i:07}"
            started = time.perf_counter_ns()
            found = store.get(name)
            spent.append((time.perf_counter_ns() - started) / 1000)
            assert found.user_id == name
    return {f"p{q}": round(float(np.percentile(spent, q)), 1) for q in (50, 99)}


def refresh(path: Path, n: int) -> dict:
    "One user in a hundred has news: how many profiles are stale, and what it takes to find them."
    with ProfileStore(path) as store:
        started = time.perf_counter()
        stale = staleness(store, (user(i, news=i % 100 == 7) for i in range(n)))
    assert set(stale) == {f"user-{i:07}" for i in range(n) if i % 100 == 7}
    return dict(stale=len(stale), share=len(stale) / n, seconds=round(time.perf_counter() - started, 1))


def forgotten(path: Path) -> dict:
    "Ten users, then a thousand others; and the search for the pieces of the ten, one at a time, in the same file."
    with ProfileStore(path) as store:
        ten = [f"user-{i:07}" for i in range(30_000, 30_010)]
        pieces = set().union(*(_pieces(u, [p.profile for p in store.versions(u)]) for u in ten))
    rows = {"10": timed(path, ten), "1000": timed(path, [f"user-{i:07}" for i in range(30_010, 31_010)])}
    started, found = time.perf_counter(), set()
    with open(path, "rb") as f:
        while data := f.read(1 << 26):
            found |= {piece for piece in pieces if piece not in found and piece in data}
    return rows | dict(one_at_a_time=dict(pieces=len(pieces), seconds=round(time.perf_counter() - started, 1)))


def timed(path: Path, user_ids: list[str]) -> dict:
    started = time.perf_counter()
    done = forget(path, user_ids)
    return asdict(done) | dict(seconds=round(time.perf_counter() - started, 1))


KILLED = """
import sys
sys.path.insert(0, sys.argv[2])
from store import ProfileStore, profile
with ProfileStore(sys.argv[1], create=True) as s:
    for start in range(0, 100_000, 100):
        s.put([profile(i) for i in range(start, start + 100)])
        print(start + 100, flush=True)
"""


def kills(folder: Path, n: int = 20) -> dict:
    "Killed at random: what was said to be written is there, in whole batches, and the file is sound."
    lost = torn = broken = 0
    for k in range(n):
        path = folder / f"killed-{k}.db"
        command = [sys.executable, "-c", KILLED, str(path), str(HERE)]
        p = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        p.stdout.readline()
        time.sleep(float(named_rng(0, k, "", "kill").uniform(0, 0.5)))
        p.send_signal(signal.SIGKILL)
        told = [100, *(int(line) for line in p.stdout if line.endswith("\n"))][-1]
        p.wait()
        with ProfileStore(path) as store:
            lost += len(store) < told
            torn += len(store) % 100 != 0
            broken += store.db.execute("PRAGMA integrity_check").fetchone()[0] != "ok"
    return dict(kills=n, lost=lost, torn=torn, broken=broken)


ECHO = """
import sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
async def answer(request):
    await request.body()
    return JSONResponse(dict(choices=[]))
app = Starlette(routes=[Route("/v1/chat/completions", answer, methods=["POST"])])
uvicorn.run(app, port=int(sys.argv[1]), access_log=False, log_level="warning")
"""


def asked_at_a_rate(root: str, n_users: int, rate: int = 50, seconds: int = 20) -> dict:
    "Milliseconds of answers to so many requests a second, for users of a draw."
    import asyncio

    import httpx

    ids = named_rng(0, 0, "", "requests").integers(n_users, size=rate * seconds)

    async def run():
        async with httpx.AsyncClient(base_url=root, trust_env=False) as client:
            started = time.perf_counter()

            async def one(k: int, i: int) -> float:
                await asyncio.sleep(max(0.0, started + k / rate - time.perf_counter()))
                body = dict(messages=[dict(role="user", content="What shall I read?")], user=f"user-{i:07}")
                began = time.perf_counter()
                (await client.post("/v1/chat/completions", json=body)).raise_for_status()
                return 1000 * (time.perf_counter() - began)

            return await asyncio.gather(*(one(k, i) for k, i in enumerate(ids)))

    spent = asyncio.run(run())
    return {f"p{q}": round(float(np.percentile(spent, q)), 2) for q in (50, 99)}


def serve(path: Path, n: int) -> dict:
    "The same requests to a server that answers at once, and to the proxy in front of it."
    import httpx

    quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    behind = subprocess.Popen([sys.executable, "-c", ECHO, "18401"], **quiet)
    command = [sys.executable, "-m", "bump", "serve", "--store", str(path), "--port", "18402"]
    proxy = subprocess.Popen([*command, "--upstream", "http://127.0.0.1:18401/v1"], **quiet)
    roots = dict(directly="http://127.0.0.1:18401", proxy="http://127.0.0.1:18402")
    try:
        for root in roots.values():
            httpx.Client(transport=httpx.HTTPTransport(retries=8), trust_env=False).get(f"{root}/health")
        ms = {name: asked_at_a_rate(root, n) for name, root in roots.items()}
    finally:
        behind.kill()
        proxy.kill()
    return dict(rate=50, ms=ms, added_p50=round(ms["proxy"]["p50"] - ms["directly"]["p50"], 2))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    args = parser.parse_args()
    file = HERE / "results/store.json"
    result = json.loads(file.read_text()) if file.exists() else {}
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/tmp")) as name:
        path = Path(name) / "profiles.db"
        calls = dict(
            build=lambda: build(path, args.users),
            open=lambda: opened(path),
            get=lambda: get(path, args.users),
            refresh=lambda: refresh(path, args.users),
            forget=lambda: forgotten(path),
            kills=lambda: kills(Path(name)),
            serve=lambda: serve(path, args.users),
        )
        for part in args.parts:
            result[part] = calls[part]()
            result["megabytes"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
            print(part, result[part], flush=True)
            write_json(file, result)
    print("ratio of writing against a line and a sync each:", result["build"]["times_faster"])


if __name__ == "__main__":
    main()
