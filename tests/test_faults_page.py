"""``docs/faults.md`` is true: each fault has a test that exists, or a reason why there is none."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "faults.md"
NUM_FAULTS = 66
_NAMED = re.compile(r"`(?P<path>(?:tests|benchmarks)/\S+?\.py)(?:::(?P<name>[\w:]+))?`(?P<long> \(long\))?")
_REASON = re.compile(r"No test: .{20,}")


class Row(NamedTuple):
    key: str
    cells: list[str]


def rows(page: str, columns: int) -> list[Row]:
    """Return the rows of all tables of so many columns, without their heads."""
    found = []
    for table in re.findall(r"^\|.*\n\|[-|]+\|\n((?:\|.*\n)+)", page, re.MULTILINE):
        for line in table.splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if len(cells) == columns:
                found.append(Row(cells[0], cells))
    return found


@cache
def found_in(path: str) -> dict[str, bool]:
    """Return the tests of a file, and whether each is left to long runs."""
    tree = ast.parse((ROOT / path).read_text())
    everywhere = any(_is_long(node.value) for node in tree.body if isinstance(node, ast.Assign) and _marks(node))
    found: dict[str, bool] = {}
    scopes: list[tuple[str, list[ast.stmt]]] = [("", tree.body)]
    for prefix, body in scopes:
        for node in body:
            if isinstance(node, ast.ClassDef):
                scopes.append((f"{prefix}{node.name}::", node.body))
            elif isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
                found[prefix + node.name] = everywhere or any(_is_long(each) for each in node.decorator_list)
    return found


def _marks(node: ast.Assign) -> bool:
    return any(isinstance(target, ast.Name) and target.id == "pytestmark" for target in node.targets)


def _is_long(node: ast.expr) -> bool:
    """Return whether a mark, or a list of them, is ``soak``; one of a single parameter is not the test's."""
    marks = node.elts if isinstance(node, ast.List) else [node]
    return any(ast.unparse(mark) == "pytest.mark.soak" for mark in marks)


def problems(text: str) -> list[str]:
    """Return what is wrong with the tests that a text names."""
    found = []
    for named in _NAMED.finditer(text):
        path, name = named["path"], named["name"]
        if not (ROOT / path).exists():
            found.append(f"there is no {path}")
        elif path.startswith("tests/") and name not in found_in(path):
            found.append(f"{path} has no {name}")
        elif path.startswith("tests/") and found_in(path)[name] != bool(named["long"]):
            found.append(f"{path}::{name} is long, or not, otherwise than it says")
    return found


FAULTS = rows(PAGE.read_text(), 4)
BARS = rows(PAGE.read_text(), 3)


def test_every_fault_is_there_once() -> None:
    assert len({row.key for row in FAULTS}) == len(FAULTS) == NUM_FAULTS
    assert len(BARS) >= 12


@pytest.mark.parametrize("row", [*FAULTS, *BARS], ids=lambda row: row.key[:40])
def test_every_fault_has_a_test_or_a_reason(row: Row) -> None:
    text = " ".join(row.cells)
    assert problems(text) == []
    assert bool(_NAMED.search(text)) != bool(_REASON.search(text)), "a test, or the words `No test:` and a reason"


def test_every_backquoted_test_is_understood() -> None:
    """One that is written in another way would not be looked at."""
    assert PAGE.read_text().count("::test") == sum(bool(named["name"]) for named in _NAMED.finditer(PAGE.read_text()))


@pytest.mark.parametrize(
    "text",
    [
        "`tests/test_nowhere.py::test_x`",
        "`tests/test_faults_page.py::test_nothing`",
        "`tests/test_faults_page.py::test_every_fault_is_there_once` (long)",
        "`tests/test_crash_points.py::test_any_call_goes_wrong`",
        "`benchmarks/nothing.py`",
    ],
)
def test_this_test_can_fail(text: str) -> None:
    assert len(problems(text)) == 1


def test_tests_in_classes_are_found() -> None:
    assert "TestClimber::test_it_does_learn" in found_in("tests/search/test_learning.py")
