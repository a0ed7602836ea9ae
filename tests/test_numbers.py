"Every mean with an interval that a page tells in its prose stands in a stored result or in a saved output."

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [p for p in sorted((ROOT / "nbs").rglob("*.ipynb")) if ".ipynb_checkpoints" not in p.parts]
INTERVAL = re.compile(r"([-+]?\d+\.\d+) \[([-+]?\d+\.\d+), ([-+]?\d+\.\d+)\]")

Triple = tuple[float, float, float]  # mean, low, high


def intervals(text: str) -> list[tuple[str, str, str]]:
    return INTERVAL.findall(text.replace("\u00a0", " ").replace("−", "-"))


def triples(x: object) -> Iterator[Triple]:
    "Means with intervals anywhere in a JSON value: in words, as three numbers, or by name."
    if isinstance(x, str):
        yield from (tuple(map(float, i)) for i in intervals(x))
    elif isinstance(x, dict):
        named = [x.get(name) for name in ("mean", "low", "high")]
        yield from triples([*x.values(), named])
    elif isinstance(x, list) and len(x) == 3 and all(isinstance(v, float | int) for v in x):
        yield tuple(map(float, x))
    elif isinstance(x, list):
        for v in x:
            yield from triples(v)


def outputs(page: Path) -> str:
    found = []
    for cell in json.loads(page.read_text())["cells"]:
        for o in cell.get("outputs", []):
            found += o.get("text", []) + [t for kind, t in o.get("data", {}).items() if kind.startswith("text/")]
    return "\n".join("".join(t) for t in found)


@pytest.fixture(scope="module")
def known() -> set[Triple]:
    files = [*(ROOT / "benchmarks" / "results").glob("*.json"), *(ROOT / "bump" / "weights").glob("*.json")]
    stored = {t for f in files for t in triples(json.loads(f.read_text()))}
    return stored | {t for p in PAGES for t in triples(outputs(p))}


def is_known(told: tuple[str, str, str], known: set[Triple]) -> bool:
    "Whether a stored interval, or the same one with the sign turned, rounds to what is told."
    mean, low, high = map(float, told)
    margin = [0.501 * 10.0 ** -len(s.partition(".")[2]) for s in told]
    ways = ((mean, low, high), (-mean, -high, -low))
    return any(all(abs(x - y) <= m for x, y, m in zip(k, way, margin)) for way in ways for k in known)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_intervals_in_prose(page, known):
    prose = (c["source"] for c in json.loads(page.read_text())["cells"] if c["cell_type"] == "markdown")
    told = [i for text in prose for i in intervals("".join(text))]
    missing = ["{} [{}, {}]".format(*i) for i in told if not is_known(i, known)]
    assert not missing, f"{page.name} tells {missing}, which no stored result and no saved output has"


def test_a_wrong_digit_is_found(known):
    assert is_known(("0.132", "0.086", "0.180"), {(0.1321, 0.0859, 0.1799)})
    assert is_known(("-0.132", "-0.180", "-0.086"), {(0.1321, 0.0859, 0.1799)})
    assert not is_known(("0.133", "0.086", "0.180"), {(0.1321, 0.0859, 0.1799)})
