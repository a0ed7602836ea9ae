"""Experiments behind the pages of nbs/findings: python benchmarks/findings.py NAME.

python benchmarks/findings.py fingerprints --runs RUNS --data FOLDER

`fingerprints` reads the finished runs of benchmarks/real_logs.py in RUNS, takes kinds of words out of their profiles
and scores what is left. Each part writes results/findings_NAME.json.
"""

import argparse
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from real_logs import LOGS

from bump.files import write_json
from bump.interactions import User, load_logs
from bump.intrinsic import score_arms
from bump.judges import make_judge
from bump.privacy import longest_run, scrub
from bump.seeds import named_rng
from bump.statistics import bootstrap_mean

RESULTS = Path(__file__).parent / "results"
JUDGES = ("embed:minilm", "bm25")
RARE = 3  # a word in the visible records of so many users, or fewer, is rare
NAME = (
    0.9  # a word that is written with a capital in such a share of its places, sentence beginnings left out, is a name
)
RUN = 4  # words in a row that stand in a visible record of the user are copied
WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")

Removal = Callable[[str, str], str]  # user, profile → what is left of it


class Vocabulary:
    "What is rare and what is a name in the visible records of a log."

    def __init__(self, users: Sequence[User]):
        writers, capitals, places = defaultdict(set), Counter(), Counter()
        for u in users:
            for r in u.visible:
                for m in WORD.finditer(r.text):
                    writers[m[0].lower()].add(u.user_id)
                    if re.search(r"[\w,;:)] $", r.text[max(0, m.start() - 2) : m.start()]):  # inside a sentence
                        places[m[0].lower()] += 1
                        capitals[m[0].lower()] += m[0][0].isupper()
        self.rare = {w for w, of in writers.items() if len(of) <= RARE}
        self.names = {w for w, n in places.items() if capitals[w] >= NAME * n}
        self.known = set(writers)


def without_words(gone: Callable[[str], bool]) -> Removal:
    return lambda user, text: " ".join(WORD.sub(lambda m: "" if gone(m[0].lower()) else m[0], text).split())


def without_runs(sources: Mapping[str, Sequence[list[str]]]) -> Removal:
    "Takes out the longest copied run, again and again, while it has `RUN` words."

    def left(user: str, text: str) -> str:
        words = text.split()
        while True:
            n, end = max((longest_run(words, source) for source in sources[user]), default=(0, 0))
            if n < RUN:
                return " ".join(words)
            words[end - n : end] = ["…"]  # what stood around it does not become a run

    return left


def removals(users: Sequence[User]) -> dict[str, Removal]:
    "What is taken out of profiles, by name; the last takes out all of it."
    v = Vocabulary(users)
    ids = frozenset(u.user_id for u in users)
    out: dict[str, Removal] = {
        "identifiers": lambda user, text: re.sub(r"\[(email|url|handle|phone|id)\]", "", scrub(text, ids)),
        "numbers": lambda user, text: " ".join(w for w in text.split() if not re.search(r"\d", w)),
        "names": without_words(v.names.__contains__),
        "rare words": without_words(lambda w: w in v.rare or w not in v.known),
        "copied runs": without_runs({u.user_id: [r.text.split() for r in u.visible] for u in users}),
    }
    parts = list(out.values())

    def all_of_it(user: str, text: str) -> str:
        for part in (parts[4], *parts[:4]):  # runs first, while they are whole
            text = part(user, text)
        return text

    return out | {"all of it": all_of_it}


def as_many_others(user: str, text: str, n: int) -> str:
    "`text` without `n` words of a draw."
    words = text.split()
    gone = set(named_rng(0, 0, user, "other words").permutation(len(words))[:n].tolist())
    return " ".join(w for i, w in enumerate(words) if i not in gone)


def edited(profiles: Mapping[str, str], remove: Removal) -> tuple[dict[str, str], dict[str, str]]:
    "The profiles without what is removed, and, for comparison, without as many words of a draw."
    left = {u: remove(u, text) for u, text in profiles.items()}
    fewer = {u: len(profiles[u].split()) - len(left[u].replace("…", " ").split()) for u in profiles}
    return left, {u: as_many_others(u, profiles[u], max(0, n)) for u, n in fewer.items()}


class Remembered:
    "An encoder that reads no text twice."

    def __init__(self, encoder):
        self.encoder, self.rows = encoder, {}

    def encode(self, texts: Sequence[str], **how) -> np.ndarray:
        if new := [t for t in texts if t not in self.rows]:
            self.rows.update(zip(new, self.encoder.encode(new, **how), strict=True))
        return np.stack([self.rows[t] for t in texts])


def judge_of(name: str):
    judge = make_judge(name)
    if hasattr(judge, "encoder"):
        judge.encoder = Remembered(judge.encoder)
    return judge


def sums(users: Sequence[User], texts: Mapping[str, str], judge) -> np.ndarray:
    parts = score_arms(users, texts, judge, controls=())["profiles"]
    return np.array([parts[u.user_id].forward + parts[u.user_id].backward for u in users])


def of_a_log(runs: Sequence[dict], data: Path) -> dict:
    "Of one log and training judge: how much each removal costs, and what is left of the gain, by each judge."
    logs = load_logs(data / LOGS[runs[0]["settings"]["log"]])
    every, remove = {u.user_id: u for u in logs.users}, removals(logs.users)
    result: dict = dict(n=sum(r["n_scored"] for r in runs), words={}, judges={})
    for name in JUDGES:
        judge, values = judge_of(name), defaultdict(list)
        for r in runs:
            users = [every[u] for u in r["profiles"]["trained"]]
            for arm in ("zero-shot", "trained"):
                whole = r["profiles"][arm]
                values[arm, "whole"].append(sums(users, whole, judge))
                for kind, f in remove.items():
                    left, others = edited(whole, f)
                    values[arm, kind].append(sums(users, left, judge))
                    values[arm, f"as many words as {kind}"].append(sums(users, others, judge))
                    n = [len(whole[u].split()) - len(left[u].split()) for u in whole]
                    result["words"].setdefault(arm, {}).setdefault(kind, []).append(float(np.mean(n)))
        x = {key: np.concatenate(v) for key, v in values.items()}
        result["judges"][name] = {kind: _row(x, kind) for kind in ("whole", *remove)}
    result["words"] = {
        arm: {kind: round(float(np.mean(v)), 2) for kind, v in kinds.items()} for arm, kinds in result["words"].items()
    }
    return result


def _row(x: Mapping[tuple[str, str], np.ndarray], kind: str) -> dict:
    row = dict(
        trained=str(bootstrap_mean(x["trained", kind])),
        gain=str(bootstrap_mean(x["trained", kind] - x["zero-shot", kind])),
    )
    if kind == "whole":
        return row
    others = x["trained", f"as many words as {kind}"]
    return row | dict(
        lost=str(bootstrap_mean(x["trained", "whole"] - x["trained", kind])),
        lost_to_a_draw=str(bootstrap_mean(x["trained", "whole"] - others)),
        lost_beyond_a_draw=str(bootstrap_mean(others - x["trained", kind])),
    )


def fingerprints(args) -> dict:
    found = [json.loads(p.read_text()) for p in sorted(args.runs.glob("*/result.json"))]
    groups: dict[str, list[dict]] = {}
    for r in found:
        groups.setdefault(f"{r['settings']['log']}, trained by {r['settings']['judge']}", []).append(r)
    settings = dict(rare=RARE, name=NAME, run=RUN, seed=0, num_negatives=8)
    return dict(settings=settings, logs={name: of_a_log(runs, args.data) for name, runs in groups.items()})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=["fingerprints"])
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    args = parser.parse_args()
    result = globals()[args.name](args)
    write_json(RESULTS / f"findings_{args.name}.json", result)
    print(json.dumps(result, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
