"""What a worker is hired for, asked for until somebody answers."""

from __future__ import annotations

import pickle

import pytest

from tunekit import __version__
from tunekit.errors import ConfigError
from tunekit.runtime.line.door import Door, Errand, Visitor, door_name
from tunekit.runtime.line.hiring import Contract, fetch_contract
from tunekit.runtime.line.relay import Relay
from tunekit.runtime.line.spec import SweepSpec

CONTRACT = Contract(worker=7, sweep=SweepSpec(experiment="e", path="p", seed=0), trainable=b"t")
PICKLED = CONTRACT.to_bytes()


def test_a_contract_is_asked_for_until_somebody_answers() -> None:
    """As while the relay is on its way, and when an answer gets lost."""
    asked: list[bytes] = []

    def ask(frame: bytes, timeout_s: float) -> bytes:
        assert timeout_s > 0
        asked.append(frame)
        if len(asked) < 3:
            raise ValueError("no such actor")
        return PICKLED

    assert fetch_contract(ask, "a1") == CONTRACT
    assert asked == [b"a1"] * 3


def test_who_was_given_up_meanwhile_is_hired_for_nothing() -> None:
    assert fetch_contract(lambda frame, _: b"", "a1") is None


def test_a_driver_that_never_answers_is_given_up_with_its_error() -> None:
    def ask(frame: bytes, timeout_s: float) -> bytes:
        raise ConnectionError(f"{frame!r} {timeout_s}")

    with pytest.raises(ConnectionError, match="a1"):
        fetch_contract(ask, "a1", timeout_s=0.1)


@pytest.mark.parametrize("sent", [b"0.0.7\nunreadable", b"0.0.7\n" + PICKLED, pickle.dumps(CONTRACT)])
def test_what_another_version_sends_is_not_read(sent: bytes) -> None:
    """What it says may have moved, or mean something else; that a module is missing would lead nobody to the reason."""
    with pytest.raises(ConfigError) as caught:
        fetch_contract(lambda frame, _: sent, "a1")
    assert f"tunekit {__version__} is installed on" in str(caught.value)
    shown = "0.0.7" if sent.startswith(b"0.0.7") else ""
    assert f"the driver runs {shown}" in str(caught.value)
    assert "\n\nhint: install the same version" in str(caught.value)


def test_a_contract_names_its_version() -> None:
    sweep = SweepSpec(experiment="e", path="p", seed=0, version=__version__)
    contract = Contract(worker=7, sweep=sweep)
    assert Contract.from_bytes(contract.to_bytes()) == contract


def test_the_contract_comes_through_the_door_and_through_the_relay() -> None:
    name = door_name()
    door = Door(name, {Errand.CONTRACT: lambda actor: PICKLED if actor == b"a1" else b""})
    relay = Relay(name, 1)
    ask = Visitor(name, Errand.CONTRACT, lambda frame, _: frame)
    for way in (ask, relay.contract):
        assert fetch_contract(way, "a1") == CONTRACT
        assert fetch_contract(way, "a2") is None
    ask.close()
    relay.close()
    door.close()
