"""Names: what is made parses back, and what would leave the folder is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunekit.config.problems import why_no_folder_name
from tunekit.errors import ConfigError, ConfigTypeError
from tunekit.store import layout

BAD_NAMES = [
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "a\\b",
    "/etc",
    ".hidden",
    "a\0b",
    "a\nb",
    "x" * 201,
    "ä" * 101,
    "\ud800",
    " ",
    " a",
    "a\u2003",
]
BAD_PATHS = ["", "/a", "../a", "a/../b", "a//b", "./a", "a/", "a\\b", "C:a", "a\0", "a\n", "x" * 1025, "\udcff"]
names = st.text(min_size=1, max_size=60).filter(lambda name: not why_no_folder_name(name))
counts = st.integers(min_value=0, max_value=10**18 - 1)


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_would_leave_the_folder_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"experiment name: got .*, but it") as caught:
        layout.check_name(name, "experiment name")
    assert "200 bytes" in caught.value.hint


@pytest.mark.parametrize("name", ["a", "träin_00001", "a b", "x" * 200, "a.b", "-rf", "~"])
def test_other_names_are_taken_as_they_are(name: str) -> None:
    assert layout.check_name(name) == name


def test_a_name_that_is_no_text_is_a_type_error() -> None:
    with pytest.raises(ConfigTypeError, match="name: got 7, but must be a string"):
        layout.check_name(7)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_files_outside_of_a_checkpoint_are_refused(path: str) -> None:
    assert layout.path_problem(path)


@pytest.mark.parametrize("path", ["a", "a/b", "...", "a..b", ".hidden", "a b/ü", "x" * 1024])
def test_files_inside_of_a_checkpoint_are_fine(path: str) -> None:
    assert layout.path_problem(path) == ""


@pytest.mark.parametrize(
    ("given_name", "expected"),
    [("train", "train"), ("<lambda>", "lambda"), ("a/../b", "a_.._b"), ("", "trainable"), ("...", "trainable"),
     ("größe", "gr_e"), ("x" * 300, "x" * 100),
     ("_" * 99 + "a.b", "a"), ("partial(f, 3)", "partial_f_3"), ("_private_", "private")],
)  # fmt: skip
def test_trainables_of_any_name_give_a_safe_one(given_name: str, expected: str) -> None:
    assert layout.safe_trainable_name(given_name) == expected


def test_places_are_as_documented() -> None:
    """S003-4: checkpoint folders are numbered by the iteration, with six digits."""
    assert layout.trial_name("train", 7) == "train_00007"
    assert layout.checkpoint_path("train_00007", 50) == "train_00007/checkpoint_000050"
    assert layout.staging_name("train_00007", 50, 2) == ".staging/train_00007.50.2"
    assert layout.quarantine_name("train_00007", 50, 2) == ".quarantine/train_00007.50.2"
    assert layout.trash_name("train_00007/checkpoint_000050") == ".trash/train_00007~checkpoint_000050"


@given(st.text(), counts)
def test_every_trial_name_is_safe_and_parses_back(trainable: str, index: int) -> None:
    name = layout.trial_name(trainable, index)
    assert why_no_folder_name(name) == ""
    assert layout.parse_trial_name(name) == (layout.safe_trainable_name(trainable), index)


@given(names, counts, counts, st.booleans())
def test_keys_parse_back(trial: str, iteration: int, attempt: int, exact: bool) -> None:  # noqa: FBT001
    key = layout.CheckpointKey(trial, iteration, attempt, exact)
    assert layout.parse_key_name(layout.key_name(*key)) == key


@given(names, counts, counts, st.booleans())
def test_places_parse_back_and_differ(trial: str, iteration: int, attempt: int, exact: bool) -> None:  # noqa: FBT001
    key = layout.CheckpointKey(trial, iteration, attempt, exact)
    parent, _, name = layout.place(key).rpartition("/")
    assert parent == trial
    assert layout.parse_place(trial, name, attempt) == key
    assert layout.place(key) != layout.place(key._replace(exact=not exact))


@pytest.mark.parametrize("name", ["failure_5_1", "failure_000005", "failure_0000005_1", "failure_000005_01", "x"])
def test_other_folders_are_no_failure_checkpoints(name: str) -> None:
    assert layout.parse_failure_name(name) is None
    assert layout.parse_place("train_00000", name, 1) is None


def test_failure_checkpoints_have_a_place_of_their_own() -> None:
    assert layout.failure_path("train_00000", 50, 2) == "train_00000/failure_000050_2"
    assert layout.parse_failure_name("failure_000050_2") == (50, 2)


@given(counts, counts)
def test_checkpoint_names_parse_back_to_numbers(first: int, second: int) -> None:
    """Also beyond six digits, where text would sort differently than numbers."""
    found = [layout.parse_checkpoint_name(layout.checkpoint_name(number)) for number in (first, second)]
    assert found == [first, second]


@pytest.mark.parametrize("name", ["checkpoint_5", "checkpoint_0000005", "checkpoint_00000x", "checkpoint", "x", ""])
def test_other_folders_are_no_checkpoints(name: str) -> None:
    assert layout.parse_checkpoint_name(name) is None


@pytest.mark.parametrize("name", ["a.1", "a.01.1", "a.1.x", ".1.1", "..1.1", "a/b.1.1", "a.1.1.", "a.-1.1"])
def test_other_names_are_no_keys(name: str) -> None:
    assert layout.parse_key_name(name) is None


@given(st.text())
def test_parsing_never_raises(name: str) -> None:
    layout.parse_key_name(name)
    layout.parse_trial_name(name)
    layout.parse_checkpoint_name(name)


@pytest.mark.parametrize("iteration", [-1, 10**18])
def test_numbers_out_of_range_are_refused(iteration: int) -> None:
    with pytest.raises(ConfigError, match="iteration: got"):
        layout.checkpoint_name(iteration)


@pytest.mark.parametrize("iteration", [1.0, "1", True, None])
def test_numbers_of_another_type_are_refused(iteration: object) -> None:
    with pytest.raises(ConfigTypeError, match="iteration: got"):
        layout.checkpoint_name(iteration)  # type: ignore[arg-type]
