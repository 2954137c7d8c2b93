"""The public names, and what importing them costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tunekit
import tunekit.config
import tunekit.store

HEAVY = {"fsspec", "numpy", "optuna", "pandas", "pyarrow", "ray", "sklearn", "torch"}


def modules_after(code: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter has loaded after running ``code``."""
    code = f"{code}\nimport sys\nprint(*sorted(name.partition('.')[0] for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=240)
    return set(done.stdout.split())


def test_import_loads_nothing_heavy() -> None:
    """`import tunekit` starts no framework."""
    assert not modules_after("import tunekit") & HEAVY


def test_configuring_a_sweep_loads_no_framework() -> None:
    """Describing a sweep needs neither Ray nor torch: only running it does."""
    code = "import tunekit as tk; tk.TuneConfig(), tk.RunConfig(), tk.uniform(0, 1), tk.ASHA, tk.report, tk.Trainable"
    assert not modules_after(code) & {"optuna", "pandas", "ray", "torch"}


def test_a_worker_loads_what_it_needs_for_its_first_line() -> None:
    """Each import delays it: what reads journals, buckets and saved dicts is loaded by trials that use it."""
    code = "import sys, tunekit.runtime.worker; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=240)
    unneeded = {"journal.folder", "store.dicts", "store.arrays", "store.objects", "core.experiment"}
    assert not {f"tunekit.{name}" for name in unneeded} & set(done.stdout.split())


@pytest.mark.parametrize("name", tunekit.__all__)
def test_every_public_name_is_reachable_and_documented(name: str) -> None:
    value = getattr(tunekit, name)
    if not isinstance(value, str):  # what a text means is said where it is defined
        assert value.__doc__, f"{name} has no docstring"
        assert value.__module__.startswith("tunekit."), f"{name} comes from {value.__module__}"


@pytest.mark.parametrize("package", [tunekit, tunekit.config, tunekit.store])
def test_static_and_lazy_names_agree(package: Any) -> None:
    """What a type checker sees is what the interpreter finds, from the same modules."""
    seen: dict[str, str] = {}
    for block in ast.parse(Path(package.__file__).read_text()).body:
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING":
            for node in block.body:
                assert isinstance(node, ast.ImportFrom)
                seen |= {alias.name: str(node.module) for alias in node.names}
    assert set(seen) == set(package.__all__) - {"__version__"}
    assert {name: f"{package.__name__}.{module}" for name, module in package._HOME.items()} == seen
    assert set(seen) <= set(dir(package))
    for name, module in seen.items():
        assert getattr(package, name) is getattr(sys.modules[module], name)


def test_all_public_errors_are_exported() -> None:
    """Errors that a caller could want to catch are one import away; bugs of tunekit itself are not for catching."""
    from tunekit import errors

    tree = {name for name, value in vars(errors).items() if isinstance(value, type) and name.endswith("Error")}
    internal = {
        "CoreBugError",
        "InvalidTransitionError",
        "InvariantViolationError",
        "JournalCorruptError",
        "JournalVersionError",
        "ReplayMismatchError",
    }
    assert tree - internal == {name for name in tunekit.__all__ if name.endswith("Error")}


@pytest.mark.parametrize("package", [tunekit, tunekit.config, tunekit.store])
def test_a_name_that_a_package_does_not_have_is_no_attribute(package: Any) -> None:
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'no_such_thing'"):
        _ = package.no_such_thing
    assert not hasattr(package, "__path_of_nothing__")


@pytest.mark.parametrize("package", [tunekit, tunekit.config, tunekit.store])
def test_a_type_checker_does_not_see_that_names_are_loaded_on_demand(package: Any) -> None:
    """It would believe in any name."""
    for block in ast.parse(Path(package.__file__).read_text()).body:
        if "on_demand(" in ast.unparse(block):
            assert isinstance(block, ast.If)
            assert ast.unparse(block.test) == "not TYPE_CHECKING"
