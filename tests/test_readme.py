"README.md is the index page."

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
    assert (tmp_path / "README.md").read_text() == (ROOT / "README.md").read_text(), (
        "run `make readme` and commit README.md"
    )
