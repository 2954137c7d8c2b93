"""What the import of Ray loads without need is loaded at its first use, once, and others get the module itself."""

from __future__ import annotations

import gc
import importlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tunekit.runtime.executor.late_modules import UNUSED, Later, put_off_modules

NAME = "slow_to_load"
CODE = """
import time
time.sleep(0.05)
from pathlib import Path
with Path(__file__).with_name("loaded").open("a") as times:
    times.write("x")
answer = 42
"""


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a function that says how often the module was loaded."""
    package = tmp_path / NAME
    package.mkdir()
    (package / "__init__.py").write_text(CODE)
    (package / "part.py").write_text("from slow_to_load import answer\nhalf = answer // 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    times = package / "loaded"
    yield lambda: len(times.read_text()) if times.exists() else 0
    for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        del sys.modules[name]


def test_a_module_is_loaded_at_its_first_use(loaded: Any) -> None:
    with put_off_modules([NAME]):
        kept = importlib.import_module(NAME)
    assert isinstance(kept, Later)
    assert NAME not in sys.modules
    assert loaded() == 0
    assert kept.answer == 42
    assert kept.answer == 42
    assert loaded() == 1
    assert not isinstance(sys.modules[NAME], Later)
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = kept.no_such_thing


def test_whoever_imports_it_afterwards_gets_the_module_itself(loaded: Any) -> None:
    with put_off_modules([NAME]):
        kept = importlib.import_module(NAME)
    module = importlib.import_module(NAME)
    assert type(module) is ModuleType
    assert kept.answer is module.answer
    assert loaded() == 1


@pytest.mark.parametrize("line", ["from slow_to_load import answer", "import slow_to_load.part"])
def test_what_needs_it_during_the_import_has_it(loaded: Any, line: str) -> None:
    with put_off_modules([NAME]):
        exec(line, {})
        assert not isinstance(sys.modules[NAME], Later)
    assert loaded() == 1
    assert importlib.import_module(f"{NAME}.part").half == 21


def test_threads_that_use_it_at_once_load_it_once(loaded: Any) -> None:
    with put_off_modules([NAME]):
        kept = importlib.import_module(NAME)
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(kept.answer)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [42] * 8
    assert loaded() == 1


def test_one_that_is_loaded_or_not_there_is_left_alone(loaded: Any) -> None:
    module = importlib.import_module(NAME)
    with put_off_modules([NAME, "no_such_module"]):
        assert sys.modules[NAME] is module
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("no_such_module")
    assert sys.modules[NAME] is module
    assert loaded() == 1


def _fail() -> None:
    with put_off_modules([NAME]):
        assert not gc.isenabled()
        raise ImportError


def test_a_block_that_fails_leaves_nothing_behind(loaded: Any) -> None:
    assert gc.isenabled()
    with pytest.raises(ImportError):
        _fail()
    assert gc.isenabled()
    assert NAME not in sys.modules
    assert loaded() == 0


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with put_off_modules([]):
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_driver_that_is_about_to_join_ray_has_loaded_none_of_them() -> None:
    """And those parts of Ray that use them reach the very modules that others import."""
    code = f"""
import sys
from tunekit.runtime.executor.late_modules import put_off_modules
with put_off_modules():
    import tunekit.runtime.executor.ray_executor
print(*[name for name in {UNUSED!r} if name in sys.modules])
import jsonschema, requests
from ray._private import state
from ray._private.runtime_env import plugin_schema_manager
assert state.requests.Session is requests.Session
assert plugin_schema_manager.jsonschema.validate is jsonschema.validate
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=240)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr
