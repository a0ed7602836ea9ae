"The site can be built: nbdev prepares every page without an error or a warning."

import os
import shutil
import subprocess
import sys
from pathlib import Path

from conftest import ROOT


def test_every_page_is_prepared_for_the_site(tmp_path):
    tree = tmp_path / "tree"  # nbdev writes into the checkout
    shutil.copytree(
        ROOT, tree, ignore=shutil.ignore_patterns(".git", ".venv*", "runs", "_proc", "_docs"), symlinks=True
    )
    bin = tmp_path / "bin"
    bin.mkdir()
    quarto = bin / "quarto"  # asked for its presence only: pages are rendered by `make docs`
    quarto.write_text("#!/bin/sh\necho 1.7.0\n")
    quarto.chmod(0o755)
    path = os.pathsep.join([str(bin), str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(tree), "HF_HUB_OFFLINE": "1"}
    r = subprocess.run(["nbdev_proc_nbs"], cwd=tree, env=env, capture_output=True, text=True)
    said = r.stdout + r.stderr
    assert r.returncode == 0, said[-3000:]
    assert "Error in notebook" not in said and "Warning" not in said, said[-3000:]
    pages = {p.relative_to(tree / "nbs") for p in (tree / "nbs").rglob("*.ipynb")}
    made = {p.relative_to(tree / "_proc") for p in (tree / "_proc").rglob("*.ipynb")}
    assert pages == made
