"""What a failing server does to a judge and to a training run.

A real server stands behind a proxy that refuses, hangs, drops the connection and cuts answers short."""

import json
import signal
import subprocess
import sys
import threading
import time
import zlib

import numpy as np
import pytest
from proxy import Proxy

from bump.engines.server import ServerEngine
from bump.errors import BumpError
from bump.judges import LettersJudge, LikelihoodJudge, PermutationJudge
from bump.rankings import Ranking
from bump.world import WorldConfig, describe, make_world, save_world

PEOPLE = make_world(WorldConfig(n_users=9, seed=4))
PROFILES, RECORDS = tuple(describe(p.traits) for p in PEOPLE), tuple(p.history[-1].text for p in PEOPLE)
RANKINGS = [Ranking(p, RECORDS, (), "forward") for p in PROFILES]


@pytest.fixture(scope="module")
def expected(server):
    return np.stack(LettersJudge(ServerEngine(f"{server.root}/v1"))(RANKINGS))


def ask(server, fault, timeout=20, judge=LettersJudge):
    "Scores through a proxy with `fault`, the engine, the proxy and the seconds that it took."
    with Proxy(server.root) as proxy:
        e = ServerEngine(proxy.url, timeout=timeout)
        proxy.fault, proxy.seen[:] = fault, []
        start = time.monotonic()
        return np.stack(judge(e)(RANKINGS)), e, proxy, time.monotonic() - start


@pytest.mark.parametrize("kind", ["500", "429", "drop", "cut", "truncated"])
def test_a_passing_fault_changes_nothing(server, expected, kind):
    scores, engine, proxy, _ = ask(server, lambda n, path, body: kind if n <= 6 else None)
    assert (
        np.abs(scores - expected).max() < 1e-6 and engine.counts["failed"] == 0 and len(proxy.seen) >= len(RANKINGS) + 6
    )


def test_retry_after_is_respected(server, expected):
    scores, _, proxy, seconds = ask(server, lambda n, path, body: "429" if n <= 9 else None)
    times = [t for t, _ in proxy.seen]
    assert (
        np.abs(scores - expected).max() < 1e-6 and seconds >= 1 and times[9] - times[0] >= 1
    )  # nobody came back within the second


@pytest.mark.parametrize("kind", ["hang", "500", "429", "drop", "truncated"])
def test_one_ranking_that_always_fails_is_nan_and_the_others_are_right(server, expected, kind):
    unlucky = PROFILES[4]
    scores, engine, _, seconds = ask(
        server, lambda n, path, body: kind if unlucky in json.loads(body)["messages"][1]["content"] else None, timeout=5
    )
    assert np.isnan(scores[4]).all() and engine.counts["failed"] == 1
    others = np.delete(np.arange(9), 4)
    assert np.abs(scores[others] - expected[others]).max() < 1e-6
    assert seconds < 5 + 15


@pytest.mark.parametrize("kind", ["hang", "500", "drop", "truncated"])
def test_a_server_that_always_fails_stops_with_one_sentence_in_time(server, kind):
    start = time.monotonic()
    with pytest.raises(BumpError, match="answered none of 9 questions"):
        ask(server, lambda n, path, body: kind, timeout=4)
    assert time.monotonic() - start < 4 + 15


def test_nobody_listens():
    with pytest.raises(BumpError, match="answered none"):
        ServerEngine("http://127.0.0.1:9/v1", timeout=2)


def test_wrong_model_key_and_url(server, monkeypatch):
    with pytest.raises(BumpError, match="no model 'other'; it serves embedded"):
        ServerEngine(f"{server.root}/v1#other")
    with pytest.raises(BumpError, match="status 401.*OPENAI_API_KEY"):
        ask(server, lambda n, path, body: "401")
    with pytest.raises(BumpError, match="status 404"):
        ServerEngine(f"{server.root}/v2")
    with pytest.raises(BumpError, match="not the URL"):
        ServerEngine("http://localhost:80a/v1")
    assert ServerEngine(f"{server.root}/v1/").url.endswith("/v1")
    sent = []
    monkeypatch.setenv("OPENAI_API_KEY", "from-the-environment")
    with Proxy(server.root) as proxy:
        forward = proxy.forward
        proxy.forward = lambda h, body, fault: (sent.append(h.headers["Authorization"]), forward(h, body, fault))
        assert "from-the-environment" not in repr(vars(ServerEngine(proxy.url)))
    assert set(sent) == {"Bearer from-the-environment"}


TOO_LONG = Ranking("p", ("word " * 3000, "b"))


def test_only_too_long_prompts_are_refused_with_the_servers_words(server):
    with pytest.raises(BumpError, match="status 400.*2048"):
        LettersJudge(ServerEngine(f"{server.root}/v1"))([TOO_LONG])


@pytest.mark.parametrize("judge", [LettersJudge, LikelihoodJudge, PermutationJudge])
def test_one_prompt_that_is_too_long_for_the_server_is_nan(server, judge):
    engine = ServerEngine(f"{server.root}/v1")
    scores = judge(engine)([*RANKINGS, TOO_LONG])
    assert np.isnan(scores[-1]).any() and engine.counts["failed"] > 0
    assert all(np.isfinite(s).all() for s in scores[:-1])


@pytest.mark.parametrize("judge", [LikelihoodJudge, PermutationJudge])
def test_other_judges_survive_faults_too(server, judge):
    right = np.stack(judge(ServerEngine(f"{server.root}/v1"))(RANKINGS))
    scores, engine, _, _ = ask(
        server, lambda n, path, body: [None, "drop", "500"][n % 3] if n < 30 else None, timeout=90, judge=judge
    )  # an unlucky question meets several faults in a row, with pauses that grow
    assert np.abs(scores - right).max() < 1e-6 and engine.counts["failed"] == 0


def test_killed_in_the_middle_of_a_batch_and_restarted(server, expected):
    many = RANKINGS + [Ranking(p, RECORDS[:n], (), "forward") for p in PROFILES for n in range(2, 9)]
    killed, trouble = threading.Event(), []

    def restart():
        killed.wait(30)
        try:
            server.stop(9)
            server.start().wait()
        except Exception as e:
            trouble.append(e)

    def kill_at_ten(n, path, body):
        if n == 10:
            killed.set()
        if n >= 10:
            time.sleep(0.2)  # so that the batch is under way when the server dies

    thread = threading.Thread(target=restart)
    thread.start()
    with Proxy(server.root) as proxy:
        engine = ServerEngine(proxy.url, timeout=240, concurrency=4)
        proxy.fault, proxy.seen[:] = kill_at_ten, []
        scores = LettersJudge(engine)(many)
    thread.join()
    assert not trouble, trouble
    assert engine.counts["failed"] == 0 and len(proxy.seen) > len(many)  # some came twice
    assert np.abs(np.stack(scores[:9]) - expected).max() < 1e-6


def test_a_refusal_is_one_sentence_on_the_screen(server, here, tmp_path):
    log, store = save_world(make_world(WorldConfig(n_users=30)), tmp_path / "world"), tmp_path / "p.jsonl"
    here("profile", "--logs", log, "--hold_out", 1, "--max_new_tokens", 8, "--output", store)
    with Proxy(server.root, lambda n, path, body: "401" if "chat" in path else None) as proxy:
        score = ["score", "--logs", log, "--profiles", store, "--judge", f"letters:{proxy.url}"]
        r = subprocess.run([sys.executable, "-m", "bump", *map(str, score)], capture_output=True, text=True)
    assert r.returncode == 2 and len(r.stderr.strip().splitlines()) == 1 and "OPENAI_API_KEY" in r.stderr, r.stderr


def test_interrupting_does_not_wait_for_the_timeout(server, tmp_path):
    code = """
import signal, sys
from bump.engines.server import ServerEngine
from bump.judges import LettersJudge
from bump.rankings import Ranking
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts tests in the background ignores it
LettersJudge(ServerEngine(sys.argv[1], timeout=60))([Ranking("p", ("a", "b"))])
"""
    with Proxy(server.root, lambda n, path, body: "hang" if "chat" in path else None) as proxy:
        p = subprocess.Popen([sys.executable, "-c", code, proxy.url], stderr=subprocess.DEVNULL)
        while not any("chat" in path for _, path in proxy.seen):
            time.sleep(0.05)
        start = time.monotonic()
        p.send_signal(signal.SIGINT)
        p.wait(60)
    assert time.monotonic() - start < 15


SMALL_RUN = ["--users_per_step", 9, "--num_generations", 2, "--max_steps", 3, "--judge_timeout", 6]
SMALL_RUN += ["--max_prompt_tokens", 320, "--max_completion_length", 16]


def test_training_goes_on_when_some_rankings_fail_and_stops_when_all_do(server, here, tmp_path):
    log = save_world(make_world(WorldConfig(n_users=30)), tmp_path / "world")

    def train(out, url, code):
        return here("train", "--logs", log, "--judge", f"letters:{url}", "--output_dir", out, *SMALL_RUN, code=code)

    def bad(n, path, body):  # a ranking that fails once always fails
        return "truncated" if "chat" in path and zlib.crc32(body.encode()) % 8 == 0 else None

    with Proxy(server.root, bad) as proxy:
        train(tmp_path / "some", proxy.url, code=0)
    metrics = [json.loads(line) for line in (tmp_path / "some" / "metrics.jsonl").read_text().splitlines()]
    failed = [m["bump/judge_failed"] for m in metrics]
    assert len(metrics) == 3 and any(failed) and max(failed) < 1
    assert all(m["bump/ndcg_forward"] > 0.1 for m in metrics)
    served = []

    def dies(n, path, body):
        served.append(path)
        return "drop" if len(served) > 100 else None

    with Proxy(server.root, dies) as proxy:
        said = train(tmp_path / "all", proxy.url, code=2).stderr
    assert said.strip().splitlines()[-1].startswith("bump: ") and "answered none" in said, said
