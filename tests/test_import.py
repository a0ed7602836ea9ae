"Importing the package is quick because it imports nothing heavy."

import subprocess
import sys

import pytest

QUICK = "bump bump.cli.main bump.cli.logs bump.cli.train bump.cli.profiles bump.cli.quickstart bump.cli.lamp".split()
ALL = (
    "interactions world prompts privacy gguf models ndcg rankings encoders judges neighbours pools reward profiles "
    "store intrinsic embedded training.fit lamp.training cli.main cli.logs cli.train cli.profiles cli.own_logs "
    "cli.quickstart cli.lamp"
).split()


def imports(modules: list[str], bad: set[str]) -> None:
    code = f"import sys, importlib\nfor m in {modules}: importlib.import_module(m)\n"
    subprocess.run([sys.executable, "-c", code + f"bad = {bad} & set(sys.modules)\nassert not bad, bad"], check=True)


def test_import_pulls_in_nothing_heavy():
    imports(["bump"], {"torch", "transformers", "trl", "nbdev", "fastcore", "numpy"})


@pytest.mark.parametrize("module", QUICK + ["bump.lamp.table"])
def test_a_command_starts_without_anything_heavy(module):
    imports([module], {"torch", "transformers", "trl", "datasets", "scipy", "nbdev", "fastcore"})


def test_no_module_needs_nbdev_or_fastcore():
    imports([f"bump.{m}" for m in ALL], {"nbdev", "fastcore", "sentence_transformers", "matplotlib"})
