"""From a URI of a bucket to its parts and back; nothing secret gets in."""

from __future__ import annotations

import pickle

import obstore
import pytest

from tunekit.errors import ConfigError, StorageError
from tunekit.store import open_store, resolve
from tunekit.store.joining import joined
from tunekit.store.object_client import ConflictError, RequestError
from tunekit.store.object_uri import parse
from tunekit.store.obstore_client import ObstoreClient


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("s3://bucket", "s3://bucket"),
        ("S3://bucket/a//b/", "s3://bucket/a/b"),
        ("s3a://bucket/a", "s3://bucket/a"),
        ("s3://b/ä b%25%3F", "s3://b/ä b%25%3F"),
        ("s3://b/x?region=eu-central-1", "s3://b/x?region=eu-central-1"),
        ("s3://b/x/?endpoint_override=http://h:9", "s3://b/x?endpoint=http://h:9"),
        ("s3://b?scheme=http&endpoint_override=h:9&region=r", "s3://b?endpoint=http://h:9&region=r"),
        ("s3://b?endpoint=h:9", "s3://b?endpoint=https://h:9"),
        ("gcs://b/x", "gs://b/x"),
        ("abfs://container/x?account_name=a", "az://container/x?account_name=a"),
    ],
)
def test_a_uri_has_one_form(text: str, canonical: str) -> None:
    """S003-24."""
    assert resolve(text) == canonical
    assert resolve(canonical) == canonical


@pytest.mark.parametrize("text", ["s3://", "s3:///folder", "s3://key:secret@bucket/x", "s3://bucket/x#y"])
def test_a_uri_without_a_bucket_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"storage_path: got .*but must be s3://bucket/folder"):
        resolve(text)


@pytest.mark.parametrize("option", ["secret_access_key=x", "access_key_id=x", "session_token=x", "rgion=x"])
def test_secrets_and_unknown_options_are_refused(option: str) -> None:
    with pytest.raises(ConfigError, match="but must be of") as caught:
        resolve(f"s3://bucket/x?region=r&{option}")
    assert "AWS_SECRET_ACCESS_KEY" in caught.value.hint
    assert "=x" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        *("s3://u@bucket/x?secret_key=hunter2", "s3:///x?secret_key=hunter2", "s3://bucket/x#a?secret=hunter2"),
        *(
            "s3://u:hunter2/x@bucket",
            "s3://u:hunter2@bucket",
            "s3://b?endpoint=http://u:hunter2@h",
            "ftp2://u:hunter2/x@h",
        ),
        *("s3://b?endpoint=u:hunter2/x@h", "ftp2://h/x?password=hunter2"),
    ],
)
def test_a_uri_that_is_refused_is_shown_without_secrets(text: str) -> None:
    with pytest.raises(ConfigError, match="storage_path: got") as caught:
        resolve(text)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize("folder", ["s3://b/x?region=r", "s3://b", "gs://b/ä b"])
def test_what_is_joined_is_parsed_alike(folder: str) -> None:
    place, name = parse(folder), "digits 50%?#"
    assert place is not None
    inside = parse(joined(folder, name))
    assert inside == place._replace(folder="/".join(filter(None, [place.folder, name])))
    assert str(inside) == joined(folder, name)


def test_a_client_travels_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process reads the credentials of its own environment, so that they can be renewed."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ali baba")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "open sesame")
    place = parse("s3://bucket/x?endpoint=http://127.0.0.1:9")
    assert place is not None
    client = ObstoreClient(place)
    assert client._store is not None
    pickled = pickle.dumps(client)
    assert b"sesame" not in pickled
    assert pickle.loads(pickled).uri == client.uri


def test_half_of_the_credentials_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "open sesame")
    with pytest.raises(StorageError, match="Missing AccessKeyId") as caught:
        open_store("s3://bucket/x?endpoint=http://127.0.0.1:9")
    assert "credentials" in caught.value.hint
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("uri", ["s3://b/x?skip_signature=true", "gs://b/x", "az://c/x?account_name=a&use_azure_cli=1"])
def test_a_client_of_each_service_can_be_made(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options mean something to it; whether the service answers is not known."""
    place = parse(uri)
    assert place is not None
    assert ObstoreClient(place)._store.prefix == "x"


def test_an_upload_that_is_not_found_any_more_is_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a lost reply to its end; a small object that cannot be put has no bucket."""
    place = parse("s3://bucket/x?skip_signature=true")
    assert place is not None

    def not_found(*args: object, **kwargs: object) -> None:
        raise FileNotFoundError("NoSuchUpload")

    monkeypatch.setattr(obstore, "put", not_found)
    for size, may_pass in [(10, False), (6 << 20, True)]:
        with pytest.raises(RequestError, match="NoSuchUpload") as caught:
            ObstoreClient(place).put("key", bytes(size))
        assert caught.value.may_pass is may_pass
    with pytest.raises(ConflictError):
        ObstoreClient(place).swap("key", b"", "tag")
