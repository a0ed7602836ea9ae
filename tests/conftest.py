import os
import subprocess
import sys
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers on two cores, and equal sums in every process
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
def here(capsys):
    "Run the command line in this process, where a process of its own is not the point."

    def run(*argv, code=0):
        from bump.cli.main import main

        capsys.readouterr()
        got = main([str(a) for a in argv])
        out = capsys.readouterr()
        assert got == code, f"exit {got}\n{out.out}\n{out.err}"
        return subprocess.CompletedProcess(argv, got, out.out, out.err)

    return run


def _world(folder: Path, n_users: int) -> Path:
    from bump.world import WorldConfig, make_world, save_world

    return save_world(make_world(WorldConfig(n_users=n_users)), folder)


@pytest.fixture(scope="session")
def world_log(tmp_path_factory):
    return _world(tmp_path_factory.mktemp("world"), 60)


@pytest.fixture(scope="session")
def small_log(tmp_path_factory):
    return _world(tmp_path_factory.mktemp("small"), 20)
