import os, subprocess, sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture
def bump():
    "Run the command line in a process of its own."

    def run(*argv, code=0, **kw):
        r = subprocess.run(
            [sys.executable, "-m", "bump", *map(str, argv)],
            capture_output=True,
            text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            **kw,
        )
        assert r.returncode == code, f"exit {r.returncode}\n{r.stdout}\n{r.stderr}"
        return r

    return run


@pytest.fixture
def world_log(tmp_path):
    from bump.world import WorldConfig, make_world, save_world

    return save_world(make_world(WorldConfig(n_users=60)), tmp_path / "world")
