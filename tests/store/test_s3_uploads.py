"""What is asked about unfinished uploads, and what is made of the answers; a real server answers in test_objects_s3."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tunekit.store.object_client import RequestError
from tunekit.store.object_uri import parse
from tunekit.store.s3_uploads import S3Uploads

ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "ali", "AWS_SECRET_ACCESS_KEY": "open sesame", "AWS_SESSION_TOKEN": "token"}
PAGE = """<?xml version="1.0"?><ListMultipartUploadsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
<IsTruncated>{more}</IsTruncated><NextKeyMarker>x/a b</NextKeyMarker><NextUploadIdMarker>+1</NextUploadIdMarker>
<Upload><Key>x/{key}</Key><UploadId>1</UploadId><Initiated>2026-01-02T03:04:05.000Z</Initiated></Upload>
</ListMultipartUploadsResult>"""


@contextmanager
def server(*answers: tuple[int, str]) -> Iterator[tuple[S3Uploads, list[tuple[str, str, dict[str, str]]]]]:
    """Give one that says this, and what it was asked."""
    asked: list[tuple[str, str, dict[str, str]]] = []
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            asked.append((self.command, self.path, {name.lower(): value for name, value in self.headers.items()}))
            status, body = left.pop(0)
            self.send_response_only(status)
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_DELETE = answer  # noqa: N815 - names that http.server looks for

    made = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        place = parse(f"s3://bucket/x?endpoint=http://127.0.0.1:{made.server_address[1]}&region=r")
        assert place
        yield S3Uploads(place, ENVIRONMENT), asked
    finally:
        made.shutdown()
        thread.join()
        made.server_close()


def test_pages_are_followed_to_the_end() -> None:
    with server((200, PAGE.format(more="true", key="a b")), (200, PAGE.format(more="false", key="c"))) as (
        uploads,
        asked,
    ):
        assert [upload.key for upload in uploads.found()] == ["x/a b", "x/c"]
    assert [path for _, path, _ in asked] == [
        "/bucket?prefix=x%2F&uploads=",
        "/bucket?key-marker=x%2Fa%20b&prefix=x%2F&upload-id-marker=%2B1&uploads=",
    ]
    sent = asked[0][2]
    assert sent["x-amz-security-token"] == "token"
    assert "SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token" in sent["authorization"]
    assert "sesame" not in str(asked)


def test_an_upload_that_is_gone_is_aborted() -> None:
    with server((200, PAGE.format(more="false", key="ü+")), (404, ""), (403, "")) as (uploads, asked):
        [upload] = uploads.found()
        uploads.abort(upload)
        with pytest.raises(RequestError, match="403") as caught:
            uploads.abort(upload)
    assert not caught.value.may_pass
    assert asked[1][:2] == ("DELETE", "/bucket/x/%C3%BC%2B?uploadId=1")


@pytest.mark.parametrize(
    ("status", "body", "may_pass"),
    [(503, "", True), (501, "", False), (200, "<html>", False), (200, "<a><Upload/></a>", False)],
)
def test_other_answers_are_errors(status: int, body: str, may_pass: bool) -> None:  # noqa: FBT001 - a parameter
    with server((status, body)) as (uploads, _), pytest.raises(RequestError) as caught:
        list(uploads.found())
    assert caught.value.may_pass is may_pass
