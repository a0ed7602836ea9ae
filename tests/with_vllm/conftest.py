"A real vLLM server with the embedded model on a free loopback port."

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from bump.models import EMBEDDED

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GB
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # vLLM in this process, really


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, log: Path):
        self.port, self.log, self.process = free_port(), log, None

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        command = [
            sys.executable,
            "-m",
            "vllm.entrypoints.openai.api_server",
            "--model",
            str(EMBEDDED),
            "--served-model-name",
            "embedded",
            "--dtype",
            "float32",
            "--enforce-eager",
            "--max-model-len",
            "2048",
            "--enable-prompt-tokens-details",
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
        ]
        with open(self.log, "a") as f:
            self.process = subprocess.Popen(
                command,
                stdout=f,
                stderr=f,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "1"},
            )
        return self

    def wait(self, seconds: float = 300):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process.poll() is None, (
                f"the server ended with {self.process.returncode}:\n{self.log.read_text()[-3000:]}"
            )
            try:
                if httpx.get(f"{self.root}/health", timeout=2).status_code == 200:
                    return self
            except httpx.HTTPError:
                pass
            time.sleep(0.5)
        raise TimeoutError(f"no health within {seconds} s:\n{self.log.read_text()[-3000:]}")

    def stop(self, signal: int = 15):
        "Stop the server and its workers by the process group that it was started in."
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal)
        self.process.wait(60)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    s = Server(tmp_path_factory.mktemp("vllm") / "server.log").start()
    try:
        yield s.wait()
    finally:
        s.stop()
