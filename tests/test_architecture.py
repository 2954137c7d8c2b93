"""What the import contracts cannot say: sizes, and purity down to single names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import tunekit

PACKAGE = Path(tunekit.__file__).parent
ROOT = PACKAGE.parent
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 80
SAYS_WHY = re.compile(r"^ *# Long because .{20,}", re.MULTILINE)
"""What lets a file or a function be longer."""
PURE = ["core", "schedulers", "space", "config", "types", "errors"]
FORBIDDEN = {
    "asyncio", "datetime", "fsspec", "io", "logging", "multiprocessing", "numpy", "optuna", "os", "pandas", "pathlib",
    "pyarrow", "random", "ray", "secrets", "shutil", "signal", "socket", "subprocess", "tempfile", "threading", "time",
    "torch", "uuid",
}  # fmt: skip
WORDS_TO_AVOID = {"manager", "helper", "helpers", "util", "utils", "wrapper", "controller", "misc", "common"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources(*roots: Path) -> list[Path]:
    return sorted(path for root in roots for path in root.rglob("*.py"))


def pure_sources() -> list[Path]:
    single = [PACKAGE / f"{name}.py" for name in PURE]
    return sources(*(PACKAGE / name for name in PURE)) + [path for path in single if path.exists()]


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield what a module imports anywhere, in functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


EVERY_FILE = sources(PACKAGE, ROOT / "tests", ROOT / "benchmarks", ROOT / "doc_code")


@pytest.mark.parametrize("path", EVERY_FILE, ids=relative)
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    is_short = text.count("\n") <= MAX_FILE_LINES
    assert is_short or SAYS_WHY.search(text), f"{relative(path)} is too long to be read in one sitting"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, Function):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            place = f"{relative(path)}:{node.lineno} {node.name}"
            is_short = length <= MAX_FUNCTION_LINES
            assert is_short or SAYS_WHY.search(ast.get_source_segment(text, node) or ""), f"{place} has {length} lines"


@pytest.mark.parametrize("path", pure_sources(), ids=relative)
def test_pure_modules_import_no_world(path: Path) -> None:
    """No Ray, clock, thread, chance, file or logger in the core and the policies."""
    roots = {name.partition(".")[0] for name in imported(ast.parse(path.read_text()))}
    assert not roots & FORBIDDEN


@pytest.mark.parametrize("path", pure_sources(), ids=relative)
def test_pure_modules_call_no_world(path: Path) -> None:
    """Nor the builtins that read the world, nor the iteration of a set, whose order differs between processes."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"open", "input", "print", "hash", "breakpoint"}, f"line {node.lineno}"
        iterated = node.iter if isinstance(node, ast.For | ast.comprehension) else None
        assert not isinstance(iterated, ast.Set | ast.SetComp), "the order of a set differs between processes"


def test_module_names_say_what_they_hold() -> None:
    assert not [relative(path) for path in sources(PACKAGE) if WORDS_TO_AVOID & set(path.stem.split("_"))]


def test_every_package_says_what_it_is_for() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), f"{relative(path)} has no docstring"
