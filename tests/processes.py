"""Commands in processes of their own that start at once.

Importing torch, transformers and TRL takes longer than what most tests do with them. So the processes are forked from
a server that has imported them and has done nothing else."""

import multiprocessing
import os
import signal
import sys
import tempfile
from multiprocessing import forkserver
from pathlib import Path
from unittest.mock import patch

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["bump.cli.main", "bump.training.fit", "bump.lamp.training", "bump.embedded"])

# What `bump` sets before it imports these libraries where nobody looks on: here they are imported before it runs.
ENVIRONMENT = dict.fromkeys(("TQDM_DISABLE", "HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS"), "1")
ENVIRONMENT |= dict.fromkeys(("TRANSFORMERS_VERBOSITY", "HF_DATASETS_VERBOSITY", "DATASETS_VERBOSITY"), "error")
ENVIRONMENT |= dict(HF_HUB_OFFLINE="1")


class Started:
    "`bump` with these arguments, or `call(*argv)`; like `subprocess.Popen`, what it says goes into files."

    def __init__(self, *argv, call=None):
        self.said = [Path(tempfile.mkstemp(suffix=name)[1]) for name in (".out", ".err")]
        with patch.dict(os.environ, ENVIRONMENT):
            forkserver.ensure_running()
        self._process = FORKED.Process(target=_run, args=(call, [str(a) for a in argv], self.said))
        self._process.start()
        self.pid = self._process.pid

    def poll(self):
        return self._process.exitcode

    def send_signal(self, which):
        os.kill(self.pid, which)

    def wait(self, timeout=500):
        self._process.join(timeout)
        assert self.poll() is not None, f"still running after {timeout} s"
        return self.poll()

    def finish(self, code=0) -> tuple[str, str]:  # what it said and complained of
        got, (out, err) = self.wait(), (p.read_text() for p in self.said)
        assert got == code, f"exit {got}\n{out}\n{err}"
        return out, err


def _run(call, argv, said):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal; a shell's background job ignores it
    for stream, path in zip((1, 2), said, strict=True):
        os.dup2(os.open(path, os.O_WRONLY), stream)
    if call is None:
        from bump.cli.main import main

        sys.exit(main(argv))
    call(*argv)
