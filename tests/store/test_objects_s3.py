"""The store for buckets against a real S3 server: the published suite, and what only a server can show."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import obstore
import pytest
from flaky_proxy import Trouble, flaky_proxy
from s3_server import BUCKET, S3Server

from tunekit.errors import StorageError
from tunekit.store import CheckpointIO, PutOutcome, Store, open_store
from tunekit.store.layout import checkpoint_path, staging_name
from tunekit.store.object_uri import parse
from tunekit.store.s3_uploads import S3Uploads
from tunekit.testing.store_contract import StoreContract

pytestmark = pytest.mark.s3


class TestObjectStoreOnS3(StoreContract):
    @pytest.fixture
    def store(self, s3_uri: str) -> Store:
        return open_store(s3_uri)


TRIAL = "train_00007"


def begin_upload(uri: str, key: str) -> S3Uploads:
    """Do the first half of an upload in parts, as a writer does that is killed then."""
    place = parse(uri)
    assert place
    uploads = S3Uploads(place)
    uploads._ask("POST", f"/{place.folder}/{key}", {"uploads": ""})
    return uploads


def test_uploads_that_nobody_finishes_are_dropped_after_a_while(s3_uri: str) -> None:
    """S003-12: what a killed writer leaves behind is in no listing."""
    key = "train_00007/checkpoint_000005/d-1/model ü+%.pt"
    uploads = begin_upload(
        s3_uri, key.replace(" ", "%20").replace("ü", "%C3%BC").replace("%.", "%25.").replace("+", "%2B")
    )
    others = begin_upload(f"{s3_uri}-other", "x")
    store = open_store(s3_uri)
    assert store.sizes("") == {}
    assert store.abort_uploads(3600.0) == []
    CheckpointIO(store).sweep()
    assert [upload.key for upload in uploads.found()] == [s3_uri.removeprefix(f"s3://{BUCKET}/") + f"/{key}"]
    assert store.abort_uploads(0.0) == [key]
    assert list(uploads.found()) == []
    assert len(list(others.found())) == 1


def test_without_credentials_uploads_are_left_to_the_bucket(s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    begin_upload(s3_uri, "x")
    store = open_store(s3_uri)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert store.abort_uploads(0.0) == []


def test_a_large_file_goes_up_and_comes_down_in_parts(s3_uri: str, tmp_path: Path) -> None:
    io = CheckpointIO(open_store(s3_uri))
    data = bytes(range(256)) * (40 << 12) + b"and a bit"
    (io.begin(TRIAL, 5, 1) / "model").write_bytes(data)
    io.publish(TRIAL, 5, 1, io.seal(TRIAL, 5, 1, metadata={}))
    assert (io.verify(TRIAL, 5) / "model").read_bytes() == data
    with pytest.raises(FileNotFoundError):
        io.store.read(f"{staging_name(TRIAL, 5, 1)}/model")


def test_what_is_too_large_is_copied_all_the_same(s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 copies up to 5 GB."""
    io = CheckpointIO(open_store(s3_uri))
    data = bytes(range(256)) * (24 << 10)
    (io.begin(TRIAL, 5, 1) / "model").write_bytes(data)
    io.publish(TRIAL, 5, 1, io.seal(TRIAL, 5, 1, metadata={}))

    def too_large(*args: object) -> None:
        raise obstore.exceptions.GenericError("non-2xx status code: 400 Bad Request: EntityTooLarge")

    monkeypatch.setattr(obstore, "copy", too_large)
    io.store.clone(checkpoint_path(TRIAL, 5), staging_name(TRIAL, 6, 1))
    assert (io.store.local(staging_name(TRIAL, 6, 1)) / "model").read_bytes() == data


def test_wrong_credentials_are_an_error_before_anything_happens(s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S003-24."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StorageError, match="could not open s3://") as caught:
        open_store(s3_uri)
    assert "credentials" in caught.value.hint


def test_nobody_there_is_an_error_before_anything_happens(s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S003-24: and its message names the place."""
    monkeypatch.setattr("tunekit.store.opening._FIRST_ANSWER_S", 0.0)
    monkeypatch.setattr("tunekit.store.obstore_client._RETRY", {"max_retries": 0})
    with pytest.raises(StorageError, match="could not open s3://") as caught:
        open_store(f"{s3_uri}?endpoint=http://127.0.0.1:9")
    assert "reachable" in caught.value.hint


def test_options_travel_in_the_uri(s3_uri: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.delenv("AWS_REGION")
    uri = f"{s3_uri}?endpoint_override={s3_server.endpoint}&region=us-east-1"
    store = open_store(uri)
    store.put_if_absent("key", b"here")
    assert open_store(store.uri, create=False).read("key") == b"here"
    assert obstore.get(s3_server.client(), f"{s3_uri.removeprefix(f's3://{BUCKET}/')}/key").bytes() == b"here"


# -- trouble on the wire -----------------------------------------------------------------------------------------------


@contextmanager
def once(
    what: Trouble, method: str, *, conditional: bool, mark: str = ""
) -> Iterator[Callable[[str, str, bool], Trouble]]:
    """Give trouble for the first request of a kind, of which there must be one."""

    def trouble(asked: str, path: str, is_conditional: bool) -> Trouble:  # noqa: FBT001 - as the proxy calls it
        is_meant = asked == method and is_conditional == conditional and mark in path
        return left.pop() if left and is_meant else ""

    left = [what]
    yield trouble
    assert left == [], "there was no such request"


@pytest.mark.parametrize(("what", "outcome"), [("reply lost", PutOutcome.MINE), ("busy", PutOutcome.CREATED)])
def test_a_lost_reply_is_told_from_a_lost_race(
    s3_uri: str, s3_server: S3Server, what: Trouble, outcome: PutOutcome
) -> None:
    """By client and service themselves: the write was done, the connection broke, and the second try conflicts."""
    with once(what, "PUT", conditional=True) as trouble, flaky_proxy(s3_server.endpoint, trouble) as endpoint:
        store = open_store(f"{s3_uri}?endpoint={endpoint}", create=False)
        assert store.put_if_absent("key", b"ours") is outcome
        assert store.put_if_absent("key", b"theirs") is PutOutcome.LOST
    with once(what, "PUT", conditional=True) as trouble, flaky_proxy(s3_server.endpoint, trouble) as endpoint:
        store = open_store(f"{s3_uri}?endpoint={endpoint}", create=False)
        _, tag = store.read_tagged("key")
        assert store.replace("key", b"newer", tag) is outcome
        assert store.replace("key", b"theirs", tag) is PutOutcome.LOST
        assert store.read("key") == b"newer"


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        *itertools.product(
            ["PUT partNumber=2", "POST uploads", "POST uploadId=", "POST delete", "GET list", "GET"],
            ["reply lost", "busy"],
        ),
        ("GET list", "half a reply"),
        ("GET model", "half a reply"),
        ("GET MANIFEST", "half a reply"),
    ],
)
def test_trouble_that_passes_is_not_noticed(s3_uri: str, s3_server: S3Server, kind: str, what: Trouble) -> None:
    """A part of an upload, its begin and its end, a deletion, a listing, a download."""
    method, _, mark = kind.partition(" ")
    with (
        once(what, method, conditional=False, mark=mark) as trouble,
        flaky_proxy(s3_server.endpoint, trouble) as endpoint,
    ):
        io = CheckpointIO(open_store(f"{s3_uri}?endpoint={endpoint}", create=False))
        (io.begin(TRIAL, 5, 1) / "model").write_bytes(bytes(range(256)) * (6 << 12))
        io.publish(TRIAL, 5, 1, io.seal(TRIAL, 5, 1, metadata={}))
        assert io.visible(TRIAL) == [(5, 1)]
        io.verify(TRIAL, 5)
        io.delete(TRIAL, 5, 1)
    assert open_store(s3_uri).sizes("") == {}
