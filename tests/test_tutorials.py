"""Every `bump` command in a block of a page is one that exists, with flags that exist.

`accelerate launch` is read as what it starts; that it starts needs GPUs.
"""

import json
import re
import shlex

import pytest
from conftest import ROOT

PAGES = sorted((ROOT / "nbs").rglob("*.ipynb"))
BEFORE = r"(CUDA_VISIBLE_DEVICES=\S+ )?(accelerate launch .* -m )?bump "
SHELL = {"$t": "3", "$m": "bump", "$s": "50", "$B": "vllm:x"}  # variables of the loops


def commands(page) -> list[str]:
    cells = json.loads(page.read_text())["cells"]
    text = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    lines = [line.strip() for block in re.findall(r"```[a-z]*\n(.*?)```", text, re.S) for line in block.splitlines()]
    return [line[m.end() :] for line in lines if (m := re.match(BEFORE, line))]


COMMANDS = [pytest.param(c, id=f"{page.stem}: {c[:60]}") for page in PAGES for c in commands(page)]


def flags_of(name: str) -> tuple[type, ...]:
    from bump.cli import lamp, logs, profiles, quickstart, store, train
    from bump.lamp.training import BackboneConfig
    from bump.training.config import BumpConfig

    return {
        "inspect": (logs.InspectFlags,),
        "prepare": (logs.PrepareFlags,),
        "data": (logs.DataFlags,),
        "audit": (logs.AuditFlags,),
        "train": (train.TrainFlags, BumpConfig),
        "report": (train.ReportFlags,),
        "profile": (profiles.WritingFlags,),
        "export": (profiles.ExportFlags,),
        "score": (profiles.ScoreFlags,),
        "quickstart": (quickstart.QuickstartFlags,),
        "stale": (store.StaleFlags,),
        "forget": (store.ForgetFlags,),
        "convert": (store.ConvertFlags,),
        "serve": (store.ServeFlags,),
        "lamp download": (lamp.DownloadFlags,),
        "lamp logs": (lamp.LogsFlags,),
        "lamp labelled": (lamp.LabelledFlags, BumpConfig),
        "lamp sft": (lamp.SftFlags, BackboneConfig),
        "lamp eval": (lamp.EvalFlags,),
        "lamp table": (lamp.TableFlags,),
    }[name]


@pytest.mark.parametrize("command", COMMANDS)
def test_flags_exist(command, monkeypatch):
    from bump.flags import parse

    monkeypatch.chdir(ROOT)
    for variable, value in SHELL.items():
        command = command.replace(variable, value)
    without = re.sub(r"\s#.*", "", command)  # a comment; in an address `#` stands before the model's name
    words = [w for w in shlex.split(without) if w != "…"]
    name = " ".join(words[:2]) if words[0] == "lamp" else words[0]
    first = next((i for i, w in enumerate(words) if w.startswith("--")), len(words))  # before it stand runs and users
    parse(words[first:], *flags_of(name))


def test_the_pages_are_read():
    assert len(COMMANDS) >= 80, COMMANDS
