"Importing the package is quick because it imports nothing heavy."

import subprocess, sys


def test_import_pulls_in_nothing_heavy():
    code = "import sys, bump; bad = {'torch', 'transformers', 'trl', 'nbdev', 'fastcore', 'numpy'} & set(sys.modules); assert not bad, bad"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_module_needs_nbdev_or_fastcore():
    mods = "interactions world prompts models ndcg judges pools reward grpo profiles intrinsic cli".split()
    code = (
        "import sys, importlib; [importlib.import_module(f'bump.{m}') for m in %r]; bad = {'nbdev', 'fastcore', 'sentence_transformers', 'matplotlib'} & set(sys.modules); assert not bad, bad"
        % (mods,)
    )
    subprocess.run([sys.executable, "-c", code], check=True)
