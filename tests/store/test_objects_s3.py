"""The store for buckets against a real S3 server: the published suite, and what only a server can show."""

from __future__ import annotations

from pathlib import Path

import obstore
import pytest
from s3_server import BUCKET, S3Server

from tunekit.errors import StorageError
from tunekit.store import CheckpointIO, Store, open_store
from tunekit.store.layout import staging_name
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
