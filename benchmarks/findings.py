"""Experiments behind the pages of nbs/findings: python benchmarks/findings.py NAME.

python benchmarks/findings.py fingerprints --runs RUNS --data FOLDER
python benchmarks/findings.py judges ablations records several_records masks --runs RUNS

`fingerprints` reads the finished runs of benchmarks/real_logs.py in RUNS, takes kinds of words out of their profiles
and scores what is left. The others train what RUNS lacks (see benchmarks/world_runs.py: hours
on two virtual CPUs, in which it may be interrupted) and compare. Each part writes results/findings_NAME.json.
"""

import argparse
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from real_logs import name_of, read_logs
from world_runs import FAIR, SETTINGS, WARM, make_runs
from world_runs import JUDGES as SCORERS

from bump.files import write_json
from bump.interactions import User
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
    "Takes out words by their letters, and a comma or an @ with the word that it was attached to."

    def left(user: str, text: str) -> str:
        kept = WORD.sub(lambda m: "" if gone(m[0].lower()) else m[0], text)
        return " ".join(w for w in kept.split() if re.search(r"\w", w))

    return left


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
    first = runs[0]["settings"]
    logs = read_logs(data, first["log"], first.get("scrub", False))
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
        groups.setdefault(f"{name_of(r['settings'])}, trained by {r['settings']['judge']}", []).append(r)
    settings = dict(rare=RARE, name=NAME, run=RUN, seed=0, num_negatives=8)
    path = RESULTS / "findings_fingerprints.json"
    before = json.loads(path.read_text())["logs"] if path.exists() else {}  # runs of other folders keep their rows
    return dict(settings=settings, logs=before | {name: of_a_log(runs, args.data) for name, runs in groups.items()})


Runs = Mapping[tuple[str, int], dict]  # (setting, seed) → run
SEEDS = range(5)
LEARNERS = ("likelihood", "bm25", "embed:minilm", "yesno", "letters")
LEARNERS += tuple(f"{judge}, InfoNCE" for judge in LEARNERS[:3])
MORE = "four hidden records"
COSTS = ("judge_tokens", "judge_seconds")
SEVERAL = tuple(name for name in SETTINGS if name.startswith("P = "))
VARIANTS = tuple(name for name in SETTINGS if name not in (*LEARNERS, MORE, *SEVERAL, FAIR))


def paired(runs: Runs, name: str, less: str, of: Callable[[dict], Mapping[str, float]]) -> dict:
    "A setting less another one, paired by seed and user: mean and interval over all pairs, and the mean of each seed."
    by_seed = []
    for seed in SEEDS:
        a, b = of(runs[name, seed]), of(runs[less, seed])
        by_seed.append(np.array([a[u] - b[u] for u in a]))
    means = [float(x.mean()) for x in by_seed]
    told = dict(mean=str(bootstrap_mean(np.concatenate(by_seed))), value=round(float(np.mean(means)), 4))
    return told | dict(seeds=[round(min(means), 3), round(max(means), 3)], each=[round(m, 3) for m in means])


def level(runs: Runs, name: str, of: Callable[[dict], Mapping[str, float]]) -> str:
    return str(bootstrap_mean([x for seed in SEEDS for x in of(runs[name, seed]).values()]))


def by(judge: str) -> Callable[[dict], Mapping[str, float]]:
    return lambda run: run["scores"][judge]


def named(run: dict) -> Mapping[str, float]:
    return run["named"]


def learner(runs: Runs, name: str) -> dict:
    "What one training signal taught: by the truth, by every judge, and for what it cost."
    cost = {k: float(np.mean([runs[name, s]["cost"][k] for s in SEEDS])) for k in COSTS}
    gains = {judge: paired(runs, name, WARM, by(judge)) for judge in SCORERS}
    return dict(
        named=level(runs, name, named),
        named_gain=paired(runs, name, WARM, named),
        tokens=level(runs, name, lambda run: run["tokens"]),
        gains=gains,
        cost={k: round(v, 1) for k, v in cost.items()},
        spread=round(float(np.mean([runs[name, s]["cost"]["spread"] for s in SEEDS])), 3),
    )


def over(runs: Runs, name: str, other: str) -> dict:
    "What a setting taught more than another one, paired by seed and user: by the truth, and by every judge."
    told = dict(named=paired(runs, name, other, named))
    return told | {judge: paired(runs, name, other, by(judge)) for judge in SCORERS}


def alone(runs: Runs, name: str) -> dict:
    "What a setting reached, without the warm start that it is a gain over."
    cost = {k: round(float(np.mean([runs[name, s]["cost"][k] for s in SEEDS])), 1) for k in COSTS}
    spread = round(float(np.mean([runs[name, s]["cost"]["spread"] for s in SEEDS])), 3)
    return dict(named=level(runs, name, named), tokens=level(runs, name, lambda run: run["tokens"]), cost=cost,
                spread=spread, scores={j: level(runs, name, by(j)) for j in SCORERS})  # fmt: skip


def truth(runs: Runs) -> dict[str, str]:
    "What each judge gives to a profile that states all traits: what it can see at all."
    return {j: level(runs, WARM, lambda run, j=j: run["truth"][j]) for j in SCORERS}


def warm(runs: Runs) -> dict:
    scores = {j: level(runs, WARM, by(j)) for j in SCORERS}
    return dict(scores=scores, named=level(runs, WARM, named), tokens=level(runs, WARM, lambda run: run["tokens"]))


SEES = tuple(j for j in SCORERS if j != "letters")  # that score a true description above chance, see `truth`


def transfer(runs: Runs, name: str) -> dict:
    "The gain under the judge that trained, and the mean gain under those that took no part and see anything."
    own = name.split(", ")[0]
    others = [j for j in SEES if j != own]

    def elsewhere(run: dict) -> dict[str, float]:
        return {u: float(np.mean([run["scores"][j][u] for j in others])) for u in run["named"]}

    return dict(own=paired(runs, name, WARM, by(own)), others=paired(runs, name, WARM, elsewhere))


def judges(args) -> dict:
    runs = make_runs(args.runs, SEEDS, [WARM, *LEARNERS])
    facts = dict(seeds=len(SEEDS), pairs=sum(len(runs[WARM, s]["named"]) for s in SEEDS))
    learners = {n: learner(runs, n) | dict(transfer=transfer(runs, n)) for n in LEARNERS}
    return dict(settings=facts, truth=truth(runs), warm=warm(runs), learners=learners)


def ablations(args) -> dict:
    runs = make_runs(args.runs, SEEDS, [WARM, "likelihood", *VARIANTS])
    rows = {name: learner(runs, name) for name in ("likelihood", *VARIANTS)}
    for name in VARIANTS:
        tokens = paired(runs, name, "likelihood", lambda run: run["tokens"])
        rows[name]["less_full"] = over(runs, name, "likelihood") | dict(tokens=tokens)
    return dict(settings=dict(seeds=len(SEEDS)), warm=warm(runs), variants=rows)


def records(args) -> dict:
    "Trainings with one and with four hidden records."
    runs = make_runs(args.runs, SEEDS, [WARM, "likelihood", MORE])
    rows = {name: learner(runs, name) for name in ("likelihood", MORE)}
    rows[MORE]["less_one"] = over(runs, MORE, "likelihood")
    return dict(settings=dict(seeds=len(SEEDS)), warm=warm(runs), trained=rows)


def several_records(args) -> dict:
    "Trainings with one to eight hidden records, of writers that all read the same visible ones."
    runs, one = make_runs(args.runs, SEEDS, SEVERAL), SEVERAL[0]
    rows = {name: alone(runs, name) for name in SEVERAL}
    return dict(settings=dict(seeds=len(SEEDS)), trained=rows, less_one={n: over(runs, n, one) for n in SEVERAL[1:]})


def masks(args) -> dict:
    "Trainings in which everybody competes, and in which those who are right as well may not."
    runs = make_runs(args.runs, SEEDS, ["likelihood", FAIR])
    rows = {name: alone(runs, name) for name in ("likelihood", FAIR)}
    return dict(settings=dict(seeds=len(SEEDS)), trained=rows, less_everybody=over(runs, FAIR, "likelihood"))


PARTS = {f.__name__: f for f in (fingerprints, judges, ablations, records, several_records, masks)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=PARTS)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="the real logs, for fingerprints")
    args = parser.parse_args()
    if "fingerprints" in args.names and not args.data:
        parser.error("fingerprints needs --data, the folder of the logs")
    for name in args.names:
        result = PARTS[name](args)
        write_json(RESULTS / f"findings_{name}.json", result)
        print(json.dumps(result, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
