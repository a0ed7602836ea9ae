"The proxy as a real process, in front of servers that answer, hang, break off and talk nonsense."

import asyncio
import json
import socket
import threading
import time
from dataclasses import replace

import httpx
import pytest
from processes import Started
from test_cli import one_sentence
from test_store import ONE

from bump.store import ProfileStore

ODD = ["o'hara", 'a"b', "../../etc/passwd", "x" * 10_000, "naïve ☂", "a/b?c=d#e", "%2e%2e%2f"]
LEFT: list[float] = []  # when the proxy gave up a request that got no answer
CHAT = dict(messages=[dict(role="user", content="What shall I read?")], model="m")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


async def read_request(reader) -> dict:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    size = next((int(h.split(":")[1]) for h in head.split("\r\n") if h.lower().startswith("content-length")), 0)
    return dict(json.loads(await reader.readexactly(size) or b"{}"), head=head)


def response(body: bytes, status="200 OK") -> bytes:
    size = f"Content-Length: {len(body)}\r\nConnection: close"  # unsaid, the next request may still be sent on it
    return f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{size}\r\n\r\n".encode() + body


async def behave(reader, writer):
    "A server that does what the field `model` of the request says."
    try:
        asked = await read_request(reader)
        how = asked.get("model")
        if how == "hang":
            await asyncio.wait_for(reader.read(1), 30)  # until the proxy closes
            LEFT.append(time.monotonic())
        elif how == "reset":
            writer.transport.abort()
            return
        elif how == "garbage":
            writer.write(b"\x00\xff no HTTP at all\r\n\r\n")
        elif how == "half":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly so much")
        elif how == "headers":
            more = "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Place: Zürich ☂".encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + more + b"\r\n\r\n{}")
        elif how == "busy":
            writer.write(response(b'{"error": "try later"}', "429 Too Many Requests"))
        else:
            writer.write(response(json.dumps(asked).encode()))
        await writer.drain()
        writer.close()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass


@pytest.fixture(scope="module")
def upstream():
    loop, port = asyncio.new_event_loop(), free_port()
    server = loop.run_until_complete(asyncio.start_server(behave, "127.0.0.1", port, backlog=512))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{port}/v1"
    loop.call_soon_threadsafe(server.close)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def served(store, upstream, *more):
    "A proxy that listens, and a client of it."
    port = free_port()
    p = Started("serve", "--store", store, "--upstream", upstream, "--port", port, "--timeout", 1.5, *more)
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False)
    for _ in range(600):
        assert p.poll() is None, p.finish()
        try:
            if client.get("/health").status_code == 200:
                return p, client
        except httpx.HTTPError:
            time.sleep(0.05)
    raise TimeoutError("the proxy does not listen")


@pytest.fixture(scope="module")
def proxy(upstream, tmp_path_factory):
    store = tmp_path_factory.mktemp("serve") / "profiles.db"
    with ProfileStore(store, create=True) as s:
        s.put([replace(ONE, user_id=u, profile=f"Likes number {n}.") for n, u in enumerate(ODD)])
        s.put([replace(ONE, user_id="ada", profile="Likes looms.")])
    p, client = served(store, upstream)
    yield client
    p.send_signal(15)
    p.wait()
    out, err = (f.read_text() for f in p.said)
    assert "looms" not in out + err and "What shall I read" not in out + err and "Traceback" not in err, err


def ask(proxy, user=None, **more):
    return proxy.post("/v1/chat/completions", json=CHAT | more | (dict(user=user) if user else {}))


def test_the_profile_is_all_that_changes(proxy):
    got = ask(proxy, "ada", temperature=0.3, tools=[]).json()
    assert "Likes looms." in got["messages"][0]["content"] and got["messages"][1:] == CHAT["messages"]
    assert (got["temperature"], got["tools"], got["user"]) == (0.3, [], "ada")
    same = ask(proxy, "nobody", temperature=0.3).json()
    assert {k: v for k, v in same.items() if k != "head"} == CHAT | dict(user="nobody", temperature=0.3)
    headed = proxy.post("/v1/chat/completions", json=CHAT, headers={"X-User-Id": "ada", "X-Trace": "7"}).json()
    assert "Likes looms." in headed["messages"][0]["content"]
    odd = {"X-User-Id": "naïve ☂".encode()}
    assert "Likes number 4." in proxy.post("/v1/chat/completions", json=CHAT, headers=odd).text
    assert "x-user-id" not in headed["head"].lower() and "x-trace: 7" in headed["head"].lower()


@pytest.mark.parametrize("n", range(len(ODD)))
def test_ids_of_any_form(proxy, n):
    assert f"Likes number {n}." in ask(proxy, ODD[n]).json()["messages"][0]["content"]


@pytest.mark.parametrize("how, status", dict(hang=504, reset=502, garbage=502, busy=429).items())
def test_a_server_behind_that_fails(proxy, how, status):
    started = time.monotonic()
    assert ask(proxy, "ada", model=how).status_code == status
    assert time.monotonic() - started < 5
    assert ask(proxy, "ada").status_code == 200


def test_headers_go_through_as_they_are(proxy):
    many = [("X-Many", "a"), ("X-Many", "b"), ("X-Name", "naïve ☂".encode()), ("Expect", "100-continue")]
    head = proxy.post("/v1/chat/completions", json=CHAT, headers=many).json()["head"]
    assert head.lower().count("x-many: ") == 2 and "naïve ☂" in head and "expect" not in head.lower()
    r = ask(proxy, model="headers")
    assert r.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert dict(r.headers.raw)[b"x-place"] == "Zürich ☂".encode()


def test_a_caller_who_leaves_is_not_waited_for(upstream, tmp_path):
    ProfileStore(tmp_path / "profiles.db", create=True).close()
    p, client = served(tmp_path / "profiles.db", upstream, "--timeout", 60)  # longer than this test waits
    began = time.monotonic()
    with pytest.raises(httpx.ReadTimeout):
        client.post("/v1/chat/completions", json=CHAT | dict(model="hang"), timeout=0.3)
    while not any(t > began for t in LEFT) and time.monotonic() < began + 20:
        time.sleep(0.05)
    p.send_signal(15)
    p.wait()
    assert any(t > began for t in LEFT), "the proxy still waits for the server behind"


def test_a_server_behind_that_breaks_off(proxy):
    with pytest.raises(httpx.RemoteProtocolError):
        ask(proxy, "ada", model="half")
    assert ask(proxy, "ada").status_code == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b'{"messages": 3}', b'{"messages": [1]}', b"\xff\xfe"])
def test_a_body_of_another_form_goes_through(proxy, body):
    r = proxy.post("/v1/chat/completions", content=body, headers={"X-User-Id": "ada"})
    assert r.status_code in (200, 502)  # the server behind breaks off at what is no JSON object
    assert ask(proxy, "ada").status_code == 200


DEEP = b'{"messages": [{"content": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]}"
HALF = json.dumps(dict(messages=[dict(role="user", content="half a pair: \ud83d")])).encode()


@pytest.mark.parametrize("body", [DEEP, b'{"messages": [{"role": "user"}], "user": {"a": 1}}'])
def test_a_body_that_would_break_a_careless_proxy(proxy, body):
    assert proxy.post("/v1/chat/completions", content=body).status_code in (200, 502)
    assert ask(proxy, "ada").status_code == 200


def test_half_of_a_surrogate_pair_goes_through(proxy):
    got = proxy.post("/v1/chat/completions", content=HALF, headers={"X-User-Id": "ada"}).json()
    assert "looms" in got["messages"][0]["content"] and got["messages"][1]["content"] == "half a pair: \ud83d"


def test_what_is_too_large_is_refused(proxy):
    assert ask(proxy, "ada", filler="x" * (5 << 20)).status_code == 413


def test_200_clients_at_once_get_their_own_profile(proxy):
    async def all_of_them():
        async with httpx.AsyncClient(
            base_url=proxy.base_url, timeout=60, limits=httpx.Limits(max_connections=200), trust_env=False
        ) as client:
            bodies = [CHAT | dict(user=ODD[i % len(ODD)]) for i in range(200)]
            answers = await asyncio.gather(*(client.post("/v1/chat/completions", json=b) for b in bodies))
        return [a.json()["messages"][0]["content"] for a in answers]

    for i, content in enumerate(asyncio.run(all_of_them())):
        assert f"Likes number {i % len(ODD)}." in content


def test_a_key_is_needed_where_one_is_set(upstream, tmp_path, monkeypatch):
    monkeypatch.setenv("BUMP_SERVE_KEY", "secret")
    with ProfileStore(tmp_path / "profiles.db", create=True) as s:
        s.put([replace(ONE, user_id="ada")])
    from bump.serve import Serving, make_app

    with ProfileStore(tmp_path / "profiles.db") as store:
        app = make_app(Serving(store, upstream, key="secret", upstream_key="theirs"))

        async def of(*keys):
            transport = httpx.ASGITransport(app)
            async with (
                app.router.lifespan_context(app),
                httpx.AsyncClient(transport=transport, base_url="http://proxy") as client,
            ):
                for key in keys:
                    headers = {"Authorization": f"Bearer {key}"} if key else {}
                    yield await client.get("/profiles/ada", headers=headers)
                    yield await client.post("/v1/chat/completions", headers=headers, json=CHAT | dict(user="ada"))

        async def answers():
            return [r async for r in of(None, "secret!", "secret")]

        *refused, read, asked = asyncio.run(answers())
    assert [r.status_code for r in refused] == [401] * 4
    assert read.json()["profile"] == ONE.profile
    assert "authorization: bearer theirs" in asked.json()["head"].lower() and "secret" not in asked.json()["head"]


def test_refusals_before_it_listens(here, tmp_path, monkeypatch):
    monkeypatch.delenv("BUMP_SERVE_KEY", raising=False)
    up = ["--upstream", "http://127.0.0.1:9/v1"]
    assert "Which server" in here("serve", code=2).stderr
    assert "begins with http" in here("serve", "--upstream", "localhost", code=2).stderr
    assert "BUMP_SERVE_KEY" in here("serve", *up, "--host", "0.0.0.0", code=2).stderr
    assert "no such file" in here("serve", *up, "--store", tmp_path / "none.db", code=2).stderr


def test_a_port_that_is_taken_is_one_sentence(here, tmp_path, monkeypatch):
    with ProfileStore(tmp_path / "p.db", create=True):
        pass
    serve = ["serve", "--store", tmp_path / "p.db", "--upstream", "http://127.0.0.1:9/v1"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"Nothing can listen on 127.0.0.1:{port}" in one_sentence(here(*serve, "--port", port, code=2).stderr)
    assert "port is at most 65535" in one_sentence(here(*serve, "--port", 70000, code=2).stderr)
    for name in ("BUMP_SERVE_KEY", "BUMP_UPSTREAM_KEY"):
        monkeypatch.setenv(name, " ")
        assert f"{name} is there and empty" in one_sentence(here(*serve, code=2).stderr)
        monkeypatch.delenv(name)


def test_an_interrupted_proxy_ends_well(upstream, tmp_path):
    with ProfileStore(tmp_path / "p.db", create=True):
        pass
    p, client = served(tmp_path / "p.db", upstream)
    client.close()
    p.send_signal(2)
    assert "interrupted" not in p.finish(0)[1]
