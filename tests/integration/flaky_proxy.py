"""A proxy before an HTTP server that answers some requests with trouble, as networks and services do."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Trouble = Literal["reply lost", "busy", "half a reply", ""]
"""The request is carried out and the connection cut, before or in the reply; it is not carried out, and 503
is the answer; none."""


@contextmanager
def flaky_proxy(endpoint: str, trouble: Callable[[str, str, bool], Trouble]) -> Iterator[str]:
    """Give the address of a proxy.

    Args:
        endpoint: The server behind it.
        trouble: Told method, path and whether the request is conditional, says what happens to it.
    """
    behind = urlsplit(endpoint).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            conditional = any(self.headers.get(name) for name in ("If-None-Match", "If-Match"))
            what = trouble(self.command, self.path, conditional)
            if what == "busy":
                self.reply(503, [], b"<Error><Code>SlowDown</Code></Error>")
                return
            connection = http.client.HTTPConnection(behind, timeout=240)
            try:
                connection.request(self.command, self.path, body, dict(self.headers))
                found = connection.getresponse()
                content = found.read()
            finally:
                connection.close()
            if what == "reply lost":
                self.close_connection = True
            elif what == "half a reply":
                self.close_connection = True
                self.reply(found.status, found.getheaders(), content, part=len(content) // 2)
            else:
                self.reply(found.status, found.getheaders(), content)

        def reply(self, status: int, headers: list[tuple[str, str]], content: bytes, part: int | None = None) -> None:
            self.send_response_only(status)
            length = str(len(content))
            for name, value in headers:
                if name.lower() == "content-length":
                    length = value if self.command == "HEAD" else length
                elif name.lower() not in {"transfer-encoding", "connection"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", length)
            self.end_headers()
            self.wfile.write(content[:part])

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
            pass

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815 - names that http.server looks for

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
