"""The codec loses nothing, and says so when it cannot read something."""

from __future__ import annotations

import json
import math
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.core.codec import OPEN_KINDS, Record, decode, decode_value, encode, encode_value
from tunekit.core.commands import Command, ContinueTrial, EndExperiment, PublishCheckpoint, TellSearcher
from tunekit.core.events import (
    CheckpointStaged,
    Draw,
    DriverStarted,
    ErrorInfo,
    Event,
    ResultReported,
    Settings,
    TimerFired,
    TrialRaised,
    TrialsSuggested,
    TrialStarted,
    WorkerLost,
)
from tunekit.errors import JournalCorruptError, JournalVersionError, ReportError
from tunekit.types import LossCause, Outcome

TEXT = st.text(st.characters(codec=None), max_size=5) | st.sampled_from(
    ["$", "$float", "$dict", "$x", '"$', "null", "[{"]
)
SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | TEXT
KEYS = TEXT | st.integers(-3, 3) | st.booleans() | st.none() | st.floats(allow_nan=False)


def nested(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(values, max_size=3)
    return (
        lists | lists.map(tuple) | st.dictionaries(TEXT, values, max_size=3) | st.dictionaries(KEYS, values, max_size=3)
    )


VALUES = st.recursive(SCALARS, nested, max_leaves=6)
FIELDS = st.dictionaries(TEXT, VALUES, max_size=4)
DRAWS = st.builds(Draw, values=FIELDS, shown=FIELDS)
RECORDS: st.SearchStrategy[Record] = st.one_of(
    st.builds(
        ResultReported,
        trial=st.integers(0, 10**6),
        attempt=st.just(1),
        iteration=st.integers(1, 10**9),
        metrics=FIELDS,
        at=st.floats(),
        timestamp=st.floats(),
    ),
    st.builds(TrialsSuggested, draws=st.lists(DRAWS, max_size=2), exhausted=st.booleans()),
    st.builds(
        CheckpointStaged,
        trial=st.just(0),
        attempt=st.just(1),
        iteration=st.just(3),
        manifest=FIELDS,
        score=st.none() | st.floats(),
    ),
    st.builds(
        DriverStarted,
        generation=st.integers(1, 9),
        settings=st.builds(Settings, metric=st.none() | TEXT, time_budget_s=st.none() | st.floats()),
        run=FIELDS,
    ),
    st.builds(TrialRaised, trial=st.just(0), attempt=st.just(1), error=st.builds(ErrorInfo, type=TEXT, message=TEXT)),
    st.builds(TellSearcher, trial=st.just(0), metrics=st.none() | FIELDS, failed=st.booleans()),
    st.builds(PublishCheckpoint, trial=st.just(0), attempt=st.just(1), iteration=st.just(1), manifest=FIELDS),
    st.builds(EndExperiment, outcome=st.sampled_from(Outcome), error=TEXT),
)


def result(**metrics: Any) -> ResultReported:
    return ResultReported(trial=1, attempt=1, iteration=1, metrics=metrics)


def strict(value: Any) -> Any:
    """Make a form in which == tells 1 from 1.0 and True, (1,) from [1], 0.0 from -0.0, and NaN is NaN."""
    if isinstance(value, msgspec.Struct):
        return type(value), strict(msgspec.structs.asdict(value))
    if isinstance(value, dict):
        return dict, [(strict(key), strict(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [strict(item) for item in value]
    return type(value), repr(value)


@given(VALUES)
def test_any_value_comes_back_as_it_was(value: Any) -> None:
    assert strict(decode_value(encode_value(value))) == strict(value)


@given(RECORDS)
def test_any_record_comes_back_as_it_was(record: Record) -> None:
    line = encode(record)
    assert b"\n" not in line
    assert b"\0" not in line
    assert line[:1] + line[-1:] == b"{}"
    assert strict(decode(line)) == strict(record)


@given(RECORDS)
def test_the_same_record_always_gives_the_same_line(record: Record) -> None:
    assert encode(record) == encode(decode(encode(record)))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, (1, 2), [(math.nan,)], {"a": {"b": math.inf}}])
@pytest.mark.parametrize(
    "of",
    [
        lambda value: result(loss=0.5, x=value),
        lambda value: TrialsSuggested(draws=[Draw(values={"x": value}, shown={"x": value})]),
        lambda value: DriverStarted(generation=1, settings=Settings(), run={"x": value}),
        lambda value: CheckpointStaged(trial=0, attempt=1, iteration=1, manifest={"x": value}),
        lambda value: PublishCheckpoint(trial=0, attempt=1, iteration=1, manifest={"x": value}),
        lambda value: TellSearcher(trial=0, metrics={"x": value}),
    ],
)
def test_what_json_lacks_survives_in_every_open_field(of: Any, value: Any) -> None:
    record = of(value)
    assert strict(decode(encode(record))) == strict(record)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_lacks_survives_in_typed_fields(value: float) -> None:
    for record in (TimerFired(at=value), DriverStarted(generation=1, settings=Settings(time_budget_s=value))):
        assert strict(decode(encode(record))) == strict(record)


def test_a_common_row_is_plain_json_without_a_tag() -> None:
    line = encode(result(loss=0.5, epoch=3, name="a", ok=True))
    assert msgspec.json.decode(line) == {
        "kind": "result",
        "trial": 1,
        "attempt": 1,
        "iteration": 1,
        "metrics": {"loss": 0.5, "epoch": 3, "name": "a", "ok": True},
    }


def test_tags_look_as_documented() -> None:
    value = [math.nan, -math.inf, (1, 2), {1: 2, "$x": 3}, "\ud800"]
    assert encode_value(value) == (
        b'[{"$float":"nan"},{"$float":"-inf"},{"$tuple":[1,2]},{"$dict":[[1,2],["$x",3]]},{"$text":"00d8"}]'
    )


def test_every_class_with_open_fields_is_known_as_one() -> None:
    kinds = [*get_args(Event), *get_args(Command)]
    opened = {kind for kind in kinds if "AnyType" in repr(msgspec.inspect.type_info(kind))}
    assert opened == OPEN_KINDS | {ResultReported}


@pytest.mark.parametrize("value", [b"bytes", {1, 2}, object(), 1j, [b"x"], {"a": {"b": {1}}}])
def test_a_value_without_a_json_form_is_refused_by_name(value: Any) -> None:
    with pytest.raises(ReportError, match=r"metrics/model\b.*of type (bytes|set|object|complex)"):
        encode(result(loss=0.5, model=value))


def test_subclasses_of_plain_types_are_written_as_the_plain_type() -> None:
    class Odd(float):
        pass

    assert strict(decode(encode(result(x=Odd(1.5), cause=LossCause.CRASHED)))) == strict(result(x=1.5, cause="crashed"))


def test_keys_that_the_field_does_not_allow_are_refused_before_they_are_written() -> None:
    metrics: Any = {1: [2]}
    with pytest.raises(ReportError, match="metrics: got keys"):
        encode(ResultReported(trial=1, attempt=1, iteration=1, metrics=metrics))


def test_fields_of_a_newer_version_are_ignored() -> None:
    line = b'{"kind":"worker_lost","trial":1,"attempt":2,"cause":"crashed","mood":{"$tuple":[]},"x":1}'
    assert decode(line) == WorkerLost(trial=1, attempt=2, cause=LossCause.CRASHED)
    assert decode(line.replace(b'"$tuple"', b'"tuple"')) == WorkerLost(trial=1, attempt=2, cause=LossCause.CRASHED)


@pytest.mark.parametrize(
    "line",
    [
        b'{"kind":"moon_landed"}',
        b'{"kind":"moon_landed","x":{"$tuple":[]}}',
        b'{"kind":"result"}',
        b'{"kind":"worker_lost","trial":1,"attempt":1,"cause":"bored"}',
        b'{"kind":"result","trial":1,"attempt":1,"iteration":1,"metrics":{"x":{"$decimal":"1"}}}',
    ],
)
def test_what_only_a_newer_version_can_have_written_is_called_that(line: bytes) -> None:
    with pytest.raises(JournalVersionError) as caught:
        decode(line)
    assert "newer" in caught.value.hint


@pytest.mark.parametrize(
    "line", [b"", b"{", b"\xff", b'{"kind":"timer_fired"', b'{"kind":"tell","trial":1,"metrics":{"$float":[]}}']
)
def test_what_nobody_can_have_written_is_called_damage(line: bytes) -> None:
    with pytest.raises(JournalCorruptError):
        decode(line)


def test_a_command_with_no_fields_but_its_own_round_trips() -> None:
    for record in (ContinueTrial(trial=0, attempt=1), ContinueTrial(trial=0, attempt=1, until=7)):
        assert decode(encode(record)) == record
    started = TrialStarted(trial=0, attempt=1)
    assert decode(encode(started)) == started


def test_settings_are_written_with_their_defaults() -> None:
    """Should a default change, an old journal is replayed with what was in force."""
    names = set(Settings.__struct_fields__)
    assert msgspec.json.decode(msgspec.json.encode(Settings())).keys() == names
    assert json.loads(encode(DriverStarted(generation=1, settings=Settings())))["settings"].keys() == names
