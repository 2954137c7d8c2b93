"""A metadata service on loopback that stands in for those of three clouds."""

from __future__ import annotations

import json
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

AWS, GCP, AZURE = "/latest/", "/computeMetadata/", "/metadata/"
TOKENS = "/latest/api/token"
ACTION = "/latest/meta-data/spot/instance-action"
REBALANCE = "/latest/meta-data/events/recommendations/rebalance"
PREEMPTED = "/computeMetadata/v1/instance/preempted"
EVENTS = "/metadata/scheduledevents?api-version=2020-07-01"
NAME = "/metadata/instance/compute/name?api-version=2021-02-01&format=text"


def etag(page: str) -> str:
    """Return a name for a content, with what has to be escaped in it."""
    return f"{len(page)}/{zlib.crc32(page.encode()):x}"


class Service:
    """What is said now, by path, and what was asked."""

    def __init__(self) -> None:
        self.pages: dict[str, str] = {
            NAME: "spot-1",
            EVENTS: '{"DocumentIncarnation":1,"Events":[]}',
            PREEMPTED: "FALSE",
        }
        self.token = "t1"
        self.status = 200
        self.asked: list[tuple[str, str]] = []
        self.address = ""
        self.is_over = False

    def answer(self, method: str, path: str, headers: Any) -> tuple[int, str]:
        """Answer as the real ones do, headers that they insist on included."""
        self.asked.append((method, path))
        if self.status != 200:
            return self.status, "busy"
        if path == TOKENS:
            is_right = method == "PUT" and headers.get("X-aws-ec2-metadata-token-ttl-seconds", "").isdecimal()
            return (200, self.token) if is_right else (400, "")
        if path.startswith(AWS) and headers.get("X-aws-ec2-metadata-token") != self.token:
            return 401, ""
        if path.startswith(GCP) and headers.get("Metadata-Flavor") != "Google":
            return 403, ""
        if path.startswith(AZURE) and headers.get("Metadata") != "true":
            return 400, ""
        if path.startswith(f"{PREEMPTED}?"):
            path = self._wait(path)
        return (200, self.pages[path]) if path in self.pages else (404, "not found")

    def _wait(self, path: str) -> str:
        """Hold the answer back until the page is another one than the client knows, or so many seconds have passed."""
        path, _, query = path.partition("?")
        wish = parse_qs(query, strict_parsing=True)
        assert wish["wait_for_change"] == ["true"]
        deadline = time.monotonic() + float(wish["timeout_sec"][0])
        while etag(self.pages[path]) == wish["last_etag"][0] and time.monotonic() < deadline and not self.is_over:
            time.sleep(0.01)
        return path

    def give_notice(self, cloud: str, after_s: float = 50.0) -> None:
        """Have this machine go after so many seconds, as that cloud says it."""
        at = datetime.fromtimestamp(time.time() + after_s, UTC)
        match cloud:
            case "aws":
                self.pages[ACTION] = json.dumps({"action": "terminate", "time": at.strftime("%Y-%m-%dT%H:%M:%SZ")})
            case "gcp":
                self.pages[PREEMPTED] = "TRUE"
            case "azure":
                event = {"EventId": "e", "EventType": "Preempt", "EventStatus": "Scheduled", "Resources": ["spot-1"]}
                event["NotBefore"] = at.strftime("%a, %d %b %Y %H:%M:%S GMT")
                self.pages[EVENTS] = json.dumps({"DocumentIncarnation": 2, "Events": [event]})
            case _:
                raise AssertionError(cloud)


@contextmanager
def service() -> Iterator[Service]:
    """Run a service."""
    said = Service()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            status, body = said.answer(self.command, self.path, self.headers)
            self.send_response(status)
            self.send_header("ETag", etag(body))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_PUT = _answer  # noqa: N815 - as http.server calls them

        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    said.address = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield said
    finally:
        said.is_over = True
        server.shutdown()
        thread.join()
        server.server_close()
