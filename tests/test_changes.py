"""A script that was changed: what is refused, what new trials are drawn from, and where another experiment begins."""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Any

import pytest
from trainables import Make, maker, square

import tunekit as tk
from tunekit.core.events import DriverStarted
from tunekit.errors import ConfigError, ExperimentMismatchError
from tunekit.journal.header import read_header
from tunekit.journal.log import read_records
from tunekit.types import TrialStatus

EXTEND = {"on_change": "extend"}
FORK = {"on_change": "fork"}
WIDE = {"x": tk.uniform(10, 20), "depth": tk.randint(1, 9)}


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return maker(tmp_path)


def drawn(results: Any) -> list[Any]:
    return [result.config for result in results]


def warnings(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if text in record.getMessage()]


def test_only_known_policies_are_accepted() -> None:
    with pytest.raises(ConfigError, match=r"on_change: got 'ask', but must be"):
        tk.RunConfig(on_change="ask")


# -- extend ------------------------------------------------------------------------------------------------------------


def test_new_trials_are_drawn_from_the_new_space_and_old_ones_stay(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Said once, and recorded, so that every later run and reader knows which trial is of which space."""
    first = tk.inline(make(num_samples=2))
    extended = functools.partial(make, space=WIDE, run=EXTEND)
    second = tk.inline(extended(num_samples=4))
    [said] = warnings(caplog, "was changed")
    assert "param_space/x/" in said
    assert "its 2 trials so far keep their configurations" in said
    assert drawn(second)[:2] == drawn(first)
    assert all(10 <= config["x"] <= 20 and 1 <= config["depth"] < 9 for config in drawn(second)[2:])
    again = tk.inline(extended(num_samples=5))
    assert len(warnings(caplog, "was changed")) == 1
    assert drawn(again)[:4] == drawn(second)
    plain = make(space=WIDE, num_samples=5)
    assert drawn(plain.get_results()) == drawn(again), "the changed space is the experiment's now"
    assert [dict(result.rows[0])["loss"] for result in plain.get_results()] == [r.rows[0]["loss"] for r in again]
    with pytest.raises(ExperimentMismatchError, match="param_space/depth") as caught:
        tk.inline(make(num_samples=6))
    assert "on_change='extend'" in caught.value.hint
    restored = tk.Tuner.restore(tmp_path / "exp", square).get_results()
    assert drawn(restored) == drawn(again)


def test_a_space_may_change_again_and_back(make: Make) -> None:
    spaces = [{"x": tk.uniform(0, 1)}, WIDE, {"x": tk.choice([7.0])}, {"x": tk.uniform(0, 1)}]
    all_drawn: list[Any] = []
    for number, space in enumerate(spaces, start=1):
        results = tk.inline(make(space=space, run=EXTEND, num_samples=2 * number))
        assert drawn(results)[: len(all_drawn)] == all_drawn
        all_drawn = drawn(results)
    assert [config["x"] for config in all_drawn[4:6]] == [7.0, 7.0]
    assert all(0 <= config["x"] <= 1 for config in [*all_drawn[:2], *all_drawn[6:]])


def slow(config: dict[str, Any]) -> None:
    tk.report({"loss": config["x"]})
    if not config["flag"].exists():
        raise KeyboardInterrupt
    tk.report({"loss": config["x"] / 2})


def test_trials_that_go_on_are_of_the_old_space(make: Make, tmp_path: Path) -> None:
    """An attempt after the change gets the very configuration of the one before."""
    flag = tmp_path / "flag"
    space = {"x": tk.uniform(0, 1), "flag": tk.choice([flag])}
    with pytest.raises(KeyboardInterrupt):
        tk.inline(make(slow, metric="loss", mode="min", space=space, num_samples=2))
    flag.touch()
    wide = {"x": tk.uniform(5, 6), "flag": tk.choice([tmp_path, flag])}
    results = tk.inline(make(slow, metric="loss", mode="min", space=wide, run=EXTEND, num_samples=3))
    assert [result.status for result in results] == [TrialStatus.COMPLETED] * 3
    assert [result.config["x"] >= 5 for result in results] == [False, False, True]


class Relu:
    """A class that a space may hold."""


class Gelu:
    """Another one."""


def by_class(config: dict[str, Any]) -> None:
    tk.report({"loss": float(len(config["layer"].__name__))})


def test_objects_are_those_that_the_script_still_has(make: Make) -> None:
    """Code is never stored: what a trial holds is taken from the new space, wherever it is there, or missed by name."""
    layers = functools.partial(make, by_class, metric="loss", mode="min", run=EXTEND)
    first = tk.inline(layers(space={"layer": tk.choice([Relu]), "k": (1, 2)}, num_samples=2))
    assert {config["layer"] for config in drawn(first)} == {Relu}
    second = tk.inline(layers(space={"layer": tk.choice([Gelu, Relu])}, num_samples=6))
    assert drawn(second)[:2] == [{"layer": Relu, "k": (1, 2)}] * 2
    assert {config["layer"] for config in drawn(second)[2:]} == {Relu, Gelu}
    third = tk.inline(layers(space={"layer": tk.choice([Gelu])}, num_samples=7))
    assert drawn(third[6:]) == [{"layer": Gelu}]
    with pytest.raises(ConfigError, match=r"by_class_00000 was drawn .* holds <Relu>.*\n\nhint: .*fork"):
        _ = third[0].config
    assert third[0].metrics["config"]["k"] == (1, 2)
    assert [str(layer) for layer in third.get_dataframe()["config/layer"][[0, 6]]] == ["<Relu>", str(Gelu)]
    assert str(third[0].metrics_dataframe["config/layer"][0]) == "<Relu>"


def test_a_trial_that_could_not_go_on_is_named_before_anything_starts(make: Make, tmp_path: Path) -> None:
    def interrupted(config: dict[str, Any]) -> None:
        tk.report({"loss": 1.0})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tk.inline(make(interrupted, space={"layer": tk.choice([Relu])}, metric="loss", mode="min"))
    before = (tmp_path / "exp/journal/000000000001.jsonl").read_bytes()
    with pytest.raises(ConfigError, match="holds <Relu>"):
        tk.inline(make(interrupted, space={"layer": tk.choice([Gelu])}, metric="loss", mode="min", run=EXTEND))
    assert (tmp_path / "exp/journal/000000000001.jsonl").read_bytes() == before


def test_a_value_that_a_function_made_stays(make: Make) -> None:
    first = tk.inline(make(space={"x": tk.sample_from(lambda _: 0.25)}, num_samples=1))
    second = tk.inline(make(space={"x": tk.uniform(0, 0.1)}, num_samples=2, run=EXTEND))
    assert drawn(second)[0] == drawn(first)[0] == {"x": 0.25}


def test_a_grid_is_not_extended(make: Make) -> None:
    """Its cells are numbered, so that the trials so far would stand for others."""
    tk.inline(make(space={"x": tk.grid_search([1, 2])}))
    with pytest.raises(ExperimentMismatchError, match="options") as caught:
        tk.inline(make(space={"x": tk.grid_search([1, 2, 3])}, run=EXTEND))
    assert "A grid cannot be extended" in caught.value.hint
    more = tk.inline(make(space={"x": tk.grid_search([1, 2]), "y": tk.uniform(0, 1)}, num_samples=2, run=EXTEND))
    assert [config["x"] for config in drawn(more)] == [1, 2, 1, 2]


class Learning(tk.RandomSearch):
    """Notes what it is told, and cannot make anything of a draw of another space."""

    learns = True
    told: list[int] = []  # noqa: RUF012 - of the newest run

    def begin(self, space: Any, **known: Any) -> Any:
        state = super().begin(space, **known)
        Learning.told = []

        def tell(trial: int, draw: Any, metrics: Any, failed: bool) -> None:  # noqa: FBT001 - a seam
            space.resolve(draw.values)
            Learning.told.append(trial)

        state.tell = tell  # type: ignore[method-assign]
        return state


def test_a_searcher_that_learns_hears_of_its_own_space_only(make: Make) -> None:
    tk.inline(make(num_samples=2, search_alg=Learning()))
    assert Learning.told == [0, 1]
    for num_samples in (4, 5):
        tk.inline(make(space=WIDE, num_samples=num_samples, search_alg=Learning(), run=EXTEND))
        assert Learning.told == [*range(2, num_samples)]


def test_a_stop_function_sees_the_configurations_that_trials_have(make: Make) -> None:
    seen: list[float] = []

    def stop(_: str, result: dict[str, Any]) -> bool:
        seen.append(result["config"]["x"])
        return False

    old = tk.inline(make(num_samples=1, run={"stop": stop}))
    seen.clear()
    tk.inline(make(space={"x": tk.uniform(3, 4)}, num_samples=2, run={"stop": stop, **EXTEND}))
    assert seen[:3] == [old[0].config["x"]] * 3
    assert all(3 <= x <= 4 for x in seen[3:])


# -- fork --------------------------------------------------------------------------------------------------------------


def test_a_changed_script_goes_on_under_another_name(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The first experiment stays as it is, and the same script finds its own again."""
    tk.inline(make(num_samples=2))
    before = {path: path.read_bytes() for path in (tmp_path / "exp").rglob("*") if path.is_file()}
    wide = make(space=WIDE, run=FORK, num_samples=2)
    forked = tk.inline(wide)
    assert warnings(caplog, "goes on as")[-1].endswith("it goes on as 'exp-2'")
    assert all(config["x"] >= 10 for config in drawn(forked))
    assert drawn(wide.get_results()) == drawn(forked)
    tk.inline(make(run=FORK, num_samples=2, scheduler=tk.ASHA(max_t=5)))
    assert drawn(tk.inline(make(space=WIDE, run=FORK, num_samples=3)))[:2] == drawn(forked)
    tk.inline(make(run=FORK, num_samples=2))
    assert {path: path.read_bytes() for path in before if "driver" not in path.name and "journal" not in str(path)} == {
        path: data for path, data in before.items() if "driver" not in path.name and "journal" not in str(path)
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exp", "exp-2", "exp-3"]
    header = read_header(tmp_path / "exp-3")
    assert header is not None
    assert header.name == "exp-3"
    assert [len(list(drivers(tmp_path / name))) for name in ("exp", "exp-2", "exp-3")] == [2, 2, 1]


def drivers(experiment: Path) -> list[DriverStarted]:
    return [record for record in read_records(experiment / "journal") if isinstance(record, DriverStarted)]


@pytest.mark.parametrize("policy", ["error", "extend", "fork"])
@pytest.mark.parametrize("change", [{"mode": "max"}, {"metric": "other"}])
def test_another_question_is_always_an_error(make: Make, policy: str, change: dict[str, str], tmp_path: Path) -> None:
    tk.inline(make(num_samples=1))
    with pytest.raises(ExperimentMismatchError, match=next(iter(change))) as caught:
        tk.inline(make(num_samples=1, run={"on_change": policy}, **change))
    assert "a name of its own" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["exp"]


@pytest.mark.parametrize("policy", ["error", "extend"])
def test_what_the_experiment_is_may_change_under_a_new_name_only(make: Make, policy: str) -> None:
    tk.inline(make(num_samples=1))
    with pytest.raises(ExperimentMismatchError, match="seed") as caught:
        tk.inline(make(num_samples=1, seed=5, run={"on_change": policy}))
    assert "on_change='fork'" in caught.value.hint


# -- code --------------------------------------------------------------------------------------------------------------


def trainable_of(tmp_path: Path, code: str) -> Any:
    path = tmp_path / f"code_{abs(hash(code))}.py"
    path.write_text(code)
    namespace: dict[str, Any] = {"__name__": "code"}
    exec(compile(code, str(path), "exec"), namespace)
    return namespace["train"]


CODE = """
import tunekit as tk

def train(config):
    tk.report({"loss": 1.0})
"""


def test_changed_code_is_said_once(make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Comments and layout are no code."""

    def run(code: str, num_samples: int) -> int:
        caplog.clear()
        tk.inline(make(trainable_of(tmp_path, code), metric="loss", mode="min", num_samples=num_samples))
        return len(warnings(caplog, "the code of train was changed"))

    with caplog.at_level(logging.WARNING):
        assert run(CODE, 1) == 0
        assert run(CODE, 2) == 0
        assert run(CODE.replace("1.0})", "1.0})  # as ever"), 3) == 0
        assert run(CODE.replace("1.0", "2.0"), 3) == 0, "nothing is computed"
        assert run(CODE.replace("1.0", "2.0"), 4) == 1
        assert run(CODE.replace("1.0", "2.0"), 5) == 0
