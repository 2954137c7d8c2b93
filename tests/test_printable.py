"""What may be shown to a person."""

from __future__ import annotations

import json
import pickle
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.errors import ConfigError
from tunekit.printable import HIDDEN, is_secret, masked, one_line, printable, without_secrets

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
    assert (
        printable("s3://u:hunter2/x@b, https://ghp_1@c/d; s3://b/x@v2")
        == f"s3://{HIDDEN}@b, https://{HIDDEN}@c/d; s3://b/x@v2"
    )


def test_errors_steer_nothing() -> None:
    """Also those that come from a worker; the parts of the error are as they were."""
    error = pickle.loads(pickle.dumps(ConfigError(f"got {HOSTILE}", hint=HOSTILE)))
    assert printable(str(error)) == str(error)
    assert HOSTILE in error.message


@pytest.mark.parametrize(
    "name",
    [
        *("password", "db/password", "dbPassword", "apiKey", "API_KEY", "hf_token", "hub-token", "AWS_SECRET", "pwd"),
        *("ssh_key", "licenseKey", "connection_string", "dsn", "db_url", "DATABASE_URL", "sas", "passcode", "cookie"),
        *("pin", "user_pin", "db_pass", "azure/account_key", "user_pin/choice", "slack_webhook_url"),
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "max_tokens",
            "tokenizer",
            "author",
            "lr",
            "key",
            "monkey",
            "num_keys",
            "compass",
            "pin_memory",
            "pass_through",
        ),
        *("sort_key", "image_url", "spinning", "saskia", "cookiecutter"),
    ],
)
def test_names_of_no_secrets(name: str) -> None:
    assert not is_secret(name)


@pytest.mark.parametrize(
    ("value", "is_one"),
    [("sk_live_51H8zQqLr", True), (b"1234", True), (["a" * 40], True), ("image", False), ("obs/agent_0:rgb1", False)],
)
def test_a_key_is_a_secret_if_it_does_not_read_as_a_name(value: Any, *, is_one: bool) -> None:
    assert is_secret("stripe_key", value) is is_one
    assert masked([{"stripe_key": value}]) == [{"stripe_key": HIDDEN if is_one else value}]
    assert is_secret("key_size", value) is False


def test_secrets_are_taken_out_of_a_text() -> None:
    inner = [{"password": "hunter2", "tokens": ["visible"]}]
    config = {"lr": 0.1, "name": "hunter", "db": inner, "auth": ["s3cr3t", "ab"], "image_key": "image"}
    text = without_secrets("hunter with hunter2 and s3cr3t, visible, ab, image", config)
    assert text == f"hunter with {HIDDEN} and {HIDDEN}, visible, ab, image"


HOSTILE_SECRETS = [
    *(
        "a\\b'hunter2",
        "line one\nhunter2",
        'both " and \'hunter2"',
        "pâß\u20achunter2",
        "\ud800hunter2",
        "a/b hunter2+%41",
    ),
    *("''\"\"\\\\hunter2\\", "\thunter2\x1b\x00 "),
]


@pytest.mark.parametrize("secret", HOSTILE_SECRETS)
@pytest.mark.parametrize("is_text", [True, False])
def test_a_secret_is_found_however_it_is_quoted(secret: str, *, is_text: bool) -> None:
    value = secret if is_text else secret.encode("utf-8", "surrogatepass") + b"\xff"
    config = {"it's": 'a "name"', "db": {"password": value}}
    told = [str(value), repr(value), f"{config}", f"{config!a}", str(KeyError(value)), repr(RuntimeError(f"{config}"))]
    told += [quote(value, "", errors="surrogatepass") if isinstance(value, str) else quote(value)]
    if is_text:
        told += [json.dumps(config), json.dumps(config, ensure_ascii=False), json.dumps(f"{config}")]
    for text in told:
        shown = without_secrets(f"<{text}>", config)
        assert HIDDEN in shown, text
        assert "hunter2" not in shown, text


def test_numbers_in_other_numbers_are_left() -> None:
    config = {"password": 12345678, "pin": 1234, "auth": {"n": 100_000, "f": -0.1234567, "on": True}, "seed": 1234567}
    text = without_secrets("12345678 1234 [12345678,100000] 1000000 4.100000 100000.5 -0.1234567 True 1234567", config)
    shown = f"{HIDDEN} 1234 [{HIDDEN},{HIDDEN}] 1000000 4.100000 {HIDDEN} -{HIDDEN} True 1234567"
    assert text == shown


def test_keys_in_a_secret_and_passwords_in_uris_are_secrets() -> None:
    config = {
        "tokens": 1,
        "token": {"tok_8a51fe": "alice", "username": "bob"},
        "where": ["postgres://me:hunter2%21@host/db", "https://ghp_123@git"],
        "stripe_key": "sk_live_51H8zQqLr",
    }
    text = without_secrets("tok_8a51fe of alice, username; hunter2%21, hunter2!, ghp_123, sk_live_51H8zQqLr", config)
    assert text == f"{HIDDEN} of {HIDDEN}, username; {', '.join([HIDDEN] * 4)}"


def test_a_configuration_that_holds_itself_has_an_end() -> None:
    config: dict[str, Any] = {"token": ["s3cr3t"], "many": [0.5] * 10}
    config["self"] = [config]
    config["token"].append(config["token"])
    assert without_secrets("s3cr3t", config) == HIDDEN
