"""An exception of user code as text, without the secrets of its trial."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tunekit.printable import HIDDEN
from tunekit.runtime.line.failure import error_info

SECRET = "s\\ecret'\nhunter2\n"


def raised(error: Exception) -> Exception:
    try:
        raise error  # noqa: TRY301 - for its traceback
    except Exception as caught:  # noqa: BLE001
        return caught


def test_message_and_traceback_quote_a_configuration_without_its_secrets() -> None:
    config = {"lr": 0.1, "password": SECRET}
    info = error_info(raised(RuntimeError(f"bad {config}")), config)
    assert info.message == f"bad {{'lr': 0.1, 'password': \"{HIDDEN}\"}}"
    assert "hunter2" not in info.traceback
    assert "bad {'lr'" in info.traceback


def test_a_secret_at_the_cut_is_not_shown_in_half() -> None:
    config = {"token": "hunter2" * 1_000}
    info = error_info(raised(RuntimeError("x" * 6_000 + config["token"] + "y" * 45_000)), config)
    assert "hunter2" not in info.message
    assert "hunter2" not in info.traceback


def test_nothing_is_shown_if_the_configuration_cannot_be_searched() -> None:
    class Broken(Mapping[str, Any]):
        def __getitem__(self, key: str) -> Any:
            raise OSError

        def __iter__(self) -> Iterator[str]:
            return iter(["password"])

        def __len__(self) -> int:
            return 1

    info = error_info(raised(RuntimeError("hunter2")), {"db": Broken()})
    assert "hunter2" not in f"{info.message}{info.traceback}"
    assert "OSError" in info.message
