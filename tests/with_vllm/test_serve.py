"The proxy in front of a real vLLM server, asked by OpenAI's client."

import json
import subprocess
import sys
import time

import httpx
import openai
import pytest
from conftest import free_port

from bump.profiles import Profile
from bump.store import ProfileStore

CHAT = [dict(role="user", content="<record>bought a guide to")]


@pytest.fixture(scope="module")
def client(server, tmp_path_factory):
    store, port = tmp_path_factory.mktemp("serve") / "profiles.db", free_port()
    with ProfileStore(store, create=True) as s:
        s.put(
            Profile(u, f"Likes {likes}. " * 8, "m", "0", "1", 1, 3, None, None, 4, False, 1024, 256, "2026-01-01")
            for u, likes in dict(ada="sloops and keels", bob="ghouls and crypts").items()
        )
    command = [sys.executable, "-m", "bump", "serve", "--store", store, "--upstream", f"{server.root}/v1"]
    p = subprocess.Popen([*map(str, command), "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    root = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            httpx.get(f"{root}/health", timeout=2)
            break
        except httpx.HTTPError:
            assert p.poll() is None, p.stderr.read()
            time.sleep(0.1)
    yield openai.OpenAI(base_url=f"{root}/v1", api_key="none")
    p.terminate()
    assert b"Traceback" not in p.communicate()[1]


def said(client, user, **more):
    return client.chat.completions.create(
        model="embedded", messages=CHAT, user=user, temperature=0, max_tokens=24, **more
    )


def first_token(client, user) -> dict:
    top = said(client, user, logprobs=True, top_logprobs=5).choices[0].logprobs.content[0].top_logprobs
    return {t.token: t.logprob for t in top}


def test_answers_change_with_the_user(client):
    plain = openai.OpenAI(base_url=str(client.base_url), api_key="none")
    answers = {u: said(client, u).choices[0].message.content for u in ("ada", "bob", "nobody", "somebody")}
    assert answers["ada"] != answers["nobody"] != answers["bob"], answers
    assert first_token(client, "ada") != first_token(client, "bob")
    assert answers["nobody"] == answers["somebody"] == said(plain, "nobody").choices[0].message.content
    assert said(client, "ada").usage.prompt_tokens > said(client, "nobody").usage.prompt_tokens


def test_a_stream_is_the_same_answer(client):
    parts = [c.choices[0].delta.content or "" for c in said(client, "ada", stream=True) if c.choices]
    assert len(parts) > 3 and "".join(parts) == said(client, "ada").choices[0].message.content


def test_models_and_errors_go_through(client):
    assert [m.id for m in client.models.list().data] == ["embedded"]
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="another", messages=CHAT, user="ada")
    health = httpx.get(str(client.base_url).replace("/v1/", "/health")).json()
    assert json.loads(json.dumps(health))["requests"]["with a profile"] >= 1
