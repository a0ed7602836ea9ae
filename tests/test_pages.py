"Pages that can be read: short cells, links that lead somewhere, imports in cells of their own."

import ast
import json
import re
import statistics

import pytest
from conftest import ROOT

PAGES = sorted(p for p in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)


def cells(page):
    return [(c["cell_type"], "".join(c["source"])) for c in json.loads(page.read_text())["cells"]]


def exported(source: str) -> bool:
    return source.startswith("#| export") and "from __future__" not in source


def test_an_export_cell_holds_one_idea():
    lengths = sorted(s.count("\n") + 1 for p in PAGES for kind, s in cells(p) if kind == "code" and exported(s))
    assert statistics.median(lengths) <= 15
    assert lengths[int(0.9 * len(lengths))] <= 30
    assert lengths[-1] <= 60


def anchors(page) -> set[str]:
    "The anchors of a page's headings, as pandoc makes them."
    headings = re.findall(r"^#+ (.+)$", "\n".join(s for kind, s in cells(page) if kind == "markdown"), re.M)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s.-]", "", h.lower()).strip()) for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_links_between_pages_lead_somewhere(page):
    text = "\n".join(s for kind, s in cells(page) if kind == "markdown")
    for path, anchor in re.findall(r"\]\(([^)#:]+\.ipynb)?(?:#([^)]+))?\)", text):
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), (path, anchor)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_imports_stand_in_cells_of_their_own(page):
    "nbdev runs every cell that imports something, without the cells before it."
    for kind, source in cells(page):
        if kind == "code" and not source.startswith("#| export"):
            tree = ast.parse(re.sub(r"^[!%].*", "pass", source, flags=re.M))
            imports = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
            assert not imports or all(isinstance(n, ast.Import | ast.ImportFrom) for n in tree.body), source


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_a_picture_has_a_caption_and_says_what_is_seen(page):
    for cell in json.loads(page.read_text())["cells"]:
        drawn = [k for o in cell.get("outputs", []) for k in o.get("data", {}) if k.startswith("image/")]
        source = "".join(cell["source"])
        assert not drawn or ("#| fig-cap: " in source and "#| fig-alt: " in source), source[:200]
        assert not re.search(r"!\[\]\(", source), "a picture without a description"


def test_the_sidebar_lists_every_page():
    listed = set(re.findall(r"- (\S+\.ipynb)", (ROOT / "_quarto.yml").read_text()))
    assert listed == {str(p.relative_to(ROOT / "nbs")) for p in PAGES}


def test_the_index_and_llms_txt_follow_the_sidebar():
    "The same sections, the same pages, in the same order, by the titles that the pages have."
    entries = re.findall(r"- (?:section: (.+)|(\S+)\.ipynb)", (ROOT / "_quarto.yml").read_text())
    entries = [(section, page) for section, page in entries if page != "index"]
    titles = {page: re.match("# (.+)", cells(ROOT / "nbs" / f"{page}.ipynb")[0][1])[1] for _, page in entries if page}
    index = "\n".join(source for _, source in cells(ROOT / "nbs" / "index.ipynb"))
    listed = re.findall(r"^\| (?:\*\*(.+?)\*\* \| |\[(.+)\]\((\S+)\.ipynb\) \| .+)\|$", index, re.M)
    assert [(s, p) for s, _, p in listed] == entries
    assert {p: t for _, t, p in listed if p} == titles
    llms = re.findall(r"^(?:## (.+)|- \[(.+)\]\((\S+)\.html\): .+)$", (ROOT / "nbs" / "llms.txt").read_text(), re.M)
    url = {page: re.sub(r"(^|/)\d+[a-z]?_", r"\1", page) for page in titles}
    assert [(s, p) for s, _, p in llms] == [(s, url.get(p, "")) for s, p in entries]
    assert [t for _, t, p in llms if p] == list(titles.values())


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_outputs_do_not_show_where_they_were_made(page):
    for cell in json.loads(page.read_text())["cells"]:
        for out in cell.get("outputs", []):
            assert not re.search(r"/tmp/|/home/|/root/|site-packages", json.dumps(out)), "".join(cell["source"])[:200]
