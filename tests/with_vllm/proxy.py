"A proxy in front of a real server that forwards requests, or misbehaves as told."

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding", "host", "date", "server"}


class Proxy:
    """`fault(n, path, body)` says what happens to the n-th request.

    None (forward it), "500", "401", "429" (with Retry-After: 1), "hang", "drop" (no answer, closed connection),
    "truncated" (half of the JSON, well-formed HTTP) or "cut" (connection closed in the middle)."""

    def __init__(self, upstream: str, fault: Callable = lambda n, path, body: None):
        self.upstream, self.fault, self.seen, self.stopped = upstream, fault, [], threading.Event()
        self.lock, self.client = threading.Lock(), httpx.Client(timeout=300)
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                proxy.handle(self, None)

            def do_POST(self):
                proxy.handle(self, self.rfile.read(int(self.headers["Content-Length"])))

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def handle(self, h: BaseHTTPRequestHandler, body: bytes | None) -> None:
        with self.lock:
            self.seen.append((time.monotonic(), h.path))
            fault = self.fault(len(self.seen), h.path, (body or b"").decode())
        try:
            self.misbehave(h, fault) if fault in ("500", "401", "429", "hang", "drop") else self.forward(h, body, fault)
        except (httpx.HTTPError, OSError):
            h.close_connection = True  # upstream or client is gone

    def misbehave(self, h: BaseHTTPRequestHandler, fault: str) -> None:
        h.close_connection = True
        if fault == "hang":
            self.stopped.wait()
            return
        if fault == "drop":
            return
        h.send_response(int(fault))
        if fault == "429":
            h.send_header("Retry-After", "1")
        h.send_header("Content-Length", "0")
        h.end_headers()

    def forward(self, h: BaseHTTPRequestHandler, body: bytes | None, fault: str | None) -> None:
        r = self.client.request(
            h.command,
            self.upstream + h.path,
            content=body,
            headers={k: v for k, v in h.headers.items() if k.lower() not in HOP},
        )
        data = r.content[: len(r.content) // 2] if fault else r.content
        h.send_response(r.status_code)
        for k, v in r.headers.items():
            if k.lower() not in HOP:
                h.send_header(k, v)
        h.send_header("Content-Length", str(len(r.content) if fault == "cut" else len(data)))
        h.end_headers()
        h.wfile.write(data)
        if fault == "cut":
            h.close_connection = True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.server.shutdown()
        self.server.server_close()
        self.client.close()
