"README.md is the index page."

import re
import subprocess
import sys

from conftest import ROOT


def test_readme_is_made_from_the_index(tmp_path):
    args = [
        "-m",
        "nbconvert",
        "--to",
        "markdown",
        "--TagRemovePreprocessor.enabled=True",
        "--TagRemovePreprocessor.remove_cell_tags",
        "hide",
    ]
    subprocess.run(
        [sys.executable, *args, "--output-dir", tmp_path, "--output", "README", ROOT / "nbs" / "index.ipynb"],
        check=True,
        capture_output=True,
    )
    made = re.sub(r"\]\(([\w/]+\.(ipynb|svg))\)", r"](nbs/\1)", (tmp_path / "README.md").read_text())
    assert made == (ROOT / "README.md").read_text(), "run `make readme` and commit README.md"


def test_what_the_readme_links_to_is_there():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / "README.md").read_text())
    assert len(links) > 50 and not [link for link in links if not (ROOT / link).exists()]
