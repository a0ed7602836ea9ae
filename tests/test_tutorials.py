"Commands that are shown and can't be run here: at least every flag exists, and every file."

import json
import re
import shlex

import pytest
from conftest import ROOT

PAGE = ROOT / "nbs" / "tutorials" / "reproducing_the_paper.ipynb"
CODE = [
    line.strip()
    for c in json.loads(PAGE.read_text())["cells"]
    if c["cell_type"] == "markdown"
    for block in re.findall(r"```\n(.*?)```", "".join(c["source"]), re.S)
    for line in block.splitlines()
]
COMMANDS = [
    line[line.index("bump ") :]
    for line in CODE
    if re.match(r"(CUDA_VISIBLE_DEVICES=0 )?(bump |accelerate launch .* -m bump )", line)
]


@pytest.mark.parametrize("command", COMMANDS)
def test_flags_exist(command, monkeypatch):
    from bump.cli import lamp as lamp_cli
    from bump.cli.profiles import WritingFlags
    from bump.cli.train import TrainFlags
    from bump.flags import parse
    from bump.lamp.training import BackboneConfig
    from bump.training.config import BumpConfig

    monkeypatch.chdir(ROOT)
    known = {
        "train": (TrainFlags, BumpConfig),
        "profile": (WritingFlags,),
        "lamp download": (lamp_cli.DownloadFlags,),
        "lamp logs": (lamp_cli.LogsFlags,),
        "lamp labelled": (lamp_cli.LabelledFlags, BumpConfig),
        "lamp sft": (lamp_cli.SftFlags, BackboneConfig),
        "lamp eval": (lamp_cli.EvalFlags,),
        "lamp table": (lamp_cli.TableFlags,),
    }
    words = shlex.split(command.replace("$t", "3").replace("$m", "bump").replace("$B", "vllm:x"))[1:]
    name = " ".join(words[:2]) if words[0] == "lamp" else words[0]
    flags = [w for w in words[len(name.split()) :] if not w.startswith("runs/eval/*")]
    parse(flags, *known[name])


def test_the_page_is_read():
    assert len(COMMANDS) >= 14, COMMANDS
