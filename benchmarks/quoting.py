"""What is quoting worth, word for word? A user's records cut to the length of a profile, and whole, on real logs.

python benchmarks/quoting.py --data FOLDER [--hundred DIR]

FOLDER holds the logs of `benchmarks/real_logs.py`. Of the users whom its runs scored, the newest records (and records
drawn at random) stand for the profile: as many as fit into the mean number of words of the trained profiles of that
log, the only one cut where it is longer, and the same with at least one whole record, which is what the controls of
those runs were. MiniLM and BM25 score them in pools of 1 + 8. DIR is the folder of `benchmarks/hundred_steps.py`: the
profiles of its runs are compared with records of as many words, user by user.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from hundred_steps import some_of
from real_logs import LOGS, read_logs, split

from bump.files import write_text
from bump.interactions import User, load_logs
from bump.intrinsic import raw_records, score_arms
from bump.judges import make_judge
from bump.seeds import named_rng
from bump.statistics import bootstrap_mean

HERE = Path(__file__).parent
SCORED = {"stackexchange": (0, 1), "papers": (0,), "LaMP-7": (0,), "movielens": (0, 1)}  # log → halves trained on
RUNS = {"stackexchange": "stackexchange", "papers": "papers", "LaMP-7": "LaMP-7", "movielens": "movielens, 4 hidden"}
JUDGES = ("embed:minilm", "bm25")


def words_of(log: str) -> int:
    "The mean number of words of the trained profiles of a log."
    runs = json.loads((HERE / "results/real_logs.json").read_text())["runs"]
    hidden = 4 if log == "movielens" else 1
    own = [r for r in runs if r["settings"]["log"] == log and (r["settings"].get("hold_out") or 1) == hidden]
    own = [r for r in own if r["settings"]["judge"] == JUDGES[0] and not r["settings"].get("scrub")]
    return round(float(np.mean([r["words"]["trained"] for r in own])))


def whole(user: User, n_words: int) -> str:
    "The newest records that fit into so many words, or else the newest one as it is."
    newest = user.visible[-1].text
    return raw_records(user, max(n_words, len(newest.split())))


def drawn(user: User, n_words: int) -> str:
    return raw_records(user, n_words, named_rng(0, 0, user.user_id, "random records"))


KINDS: dict[str, Callable[[User, int], str]] = {"newest": raw_records, "random": drawn, "newest, whole": whole}


def sums(users: Sequence[User], texts: dict[str, str], judge) -> dict[str, float]:
    parts = score_arms(users, texts, judge, controls=())["profiles"]
    return {u: p.forward + p.backward for u, p in parts.items()}


def of_log(data: Path, log: str) -> dict:
    logs, n = load_logs(data / LOGS[log], hold_out=1), words_of(log)
    halves = [split(logs, half, 0)[1] for half in SCORED[log]]
    out: dict = dict(users=sum(map(len, halves)), words=n, lengths={}, sums={})
    for kind, text_of in KINDS.items():
        texts = [{u.user_id: text_of(u, n) for u in users} for users in halves]
        lengths = [len(t.split()) for part in texts for t in part.values()]
        out["lengths"][kind] = round(float(np.mean(lengths)), 1)
        for name in JUDGES:
            judge = make_judge(name)
            scored = [x for users, t in zip(halves, texts) for x in sums(users, t, judge).values()]
            out["sums"].setdefault(name, {})[kind] = str(bootstrap_mean(scored))
    print(log, out, flush=True)
    return out


def of_steps(data: Path, log: str, folder: Path) -> dict:
    "Step → judge → the newest and random records in as many words, and the most likely profile less either."
    logs = read_logs(data, log, scrubbed="scrubbed" in folder.name)
    users, out = some_of(split(logs, 0, 0)[1]), {}
    for path in sorted(folder.glob("[0-9]*.json"), key=lambda p: int(p.stem)):
        point = json.loads(path.read_text())
        texts, row = point["profiles"]["most likely"], {}
        for name in JUDGES:
            judge, own = make_judge(name), point["scores"]["most likely"][name]["profiles"]
            for kind in ("newest", "random"):
                quoted = {u.user_id: KINDS[kind](u, len(texts[u.user_id].split())) for u in users}
                found = sums(users, quoted, judge)
                less = bootstrap_mean([own[u] - found[u] for u in own])
                row.setdefault(name, {})[kind] = dict(sum=str(bootstrap_mean(list(found.values()))), less=str(less))
        out[path.stem] = row
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--hundred", type=Path)
    args = parser.parse_args()
    result: dict = dict(logs={RUNS[log]: of_log(args.data, log) for log in SCORED})
    if args.hundred:
        result["steps"] = {
            run.name.replace("_", " "): of_steps(args.data, run.name.split(",")[0], run)
            for run in sorted(args.hundred.iterdir())
        }
    write_text(HERE / "results/quoting.json", json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
