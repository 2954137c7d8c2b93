"""What may be shown to a person."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.errors import ConfigError
from tunekit.printable import HIDDEN, is_secret, one_line, printable, without_secrets

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202etxt.exe\r\b\x00\ud800"


@given(st.text())
def test_nothing_that_steers_is_left(text: str) -> None:
    shown = printable(text)
    shown.encode()  # A lone surrogate cannot be printed at all.
    assert all(char.isprintable() or char in "\n\t \u200c\u200d" or ord(char) >= 0xA0 for char in shown)
    assert not set(shown) & set("\x1b\x9b\r\b\x07\u202e\u2066")
    assert printable(shown) == shown
    assert "\n" not in one_line(text)


@given(st.text(st.characters(categories=["L", "N", "P", "S"])))
def test_words_are_left_as_they_are(text: str) -> None:
    assert printable(f"{text}\n\t{text}") == f"{text}\n\t{text}"


def test_what_steers_is_written_out() -> None:
    assert printable("a\x1b[2Jb\u202ec\ud800") == "a\\x1b[2Jb\\u202ec\\ud800"
    assert one_line("a\nb\r\n  c") == "a b c"


def test_passwords_in_uris_are_hidden() -> None:
    assert printable("got 's3://me:hunter2@b/x' and http://a:1/b@c") == "got 's3://(hidden)@b/x' and http://a:1/b@c"


def test_errors_steer_nothing() -> None:
    """Also those that come from a worker; the parts of the error are as they were."""
    error = pickle.loads(pickle.dumps(ConfigError(f"got {HOSTILE}", hint=HOSTILE)))
    assert printable(str(error)) == str(error)
    assert HOSTILE in error.message


@pytest.mark.parametrize(
    "name",
    ["password", "db/password", "dbPassword", "apiKey", "API_KEY", "hf_token", "hub-token", "AWS_SECRET", "pwd"],
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize("name", ["max_tokens", "tokenizer", "author", "lr", "key", "monkey", "num_keys", "compass"])
def test_names_of_no_secrets(name: str) -> None:
    assert not is_secret(name)


def test_secrets_are_taken_out_of_a_text() -> None:
    inner = [{"password": "hunter2", "tokens": ["visible"]}]
    config = {"lr": 0.1, "name": "hunter", "db": inner, "auth": ["s3cr3t", "ab"]}
    text = without_secrets("hunter with hunter2 and s3cr3t, visible, ab", config)
    assert text == f"hunter with {HIDDEN} and {HIDDEN}, visible, ab"
