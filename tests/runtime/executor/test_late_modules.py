"""What the import of Ray loads without need is loaded at its first use, once, and nobody else notices."""

from __future__ import annotations

import builtins
import functools
import gc
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tunekit.runtime.executor.late_modules import UNUSED, Later, put_off_modules

SLOW = "slow_to_load"
CODE = """
from pathlib import Path
with Path(__file__).with_name("loaded").open("a") as times:
    times.write("x")
from slow_to_load.part import Trouble
answer = 42
"""


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Make packages, of which one loads the other, and return a function that says how often that one was loaded."""
    files = {
        f"{SLOW}/__init__.py": CODE,
        f"{SLOW}/part.py": "class Trouble(Exception): pass\n",
        "hasty/__init__.py": f"import {SLOW}\nimport other\n",
        "hasty/early.py": f"import {SLOW}\nfound = {SLOW}.answer\n",
        "hasty/names.py": f"from {SLOW} import answer\n",
        "hasty/parts.py": f"import {SLOW}.part\n",
        "other/__init__.py": "",
        "other/user.py": f"import {SLOW}\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    times = tmp_path / SLOW / "loaded"
    yield lambda: len(times.read_text()) if times.exists() else 0
    for name in [name for name in sys.modules if name.partition(".")[0] in {SLOW, "hasty", "other"}]:
        del sys.modules[name]


def test_a_module_is_loaded_at_its_first_use(loaded: Any) -> None:
    with put_off_modules([SLOW], "hasty"):
        hasty: Any = importlib.import_module("hasty")
    assert isinstance(hasty.slow_to_load, Later)
    assert SLOW not in sys.modules
    assert loaded() == 0
    assert hasty.slow_to_load.answer == 42
    assert hasty.slow_to_load.answer == 42
    assert loaded() == 1
    assert hasty.slow_to_load.Trouble is sys.modules[SLOW].Trouble
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = hasty.slow_to_load.no_such_thing


def test_whoever_is_not_meant_gets_the_module_itself(loaded: Any) -> None:
    with put_off_modules([SLOW], "hasty"):
        hasty: Any = importlib.import_module("hasty")
        user: Any = importlib.import_module("other.user")
    assert user.slow_to_load is sys.modules[SLOW]
    assert hasty.slow_to_load.answer is user.slow_to_load.answer
    assert loaded() == 1


@pytest.mark.parametrize("module", ["early", "names", "parts"])
def test_what_is_needed_during_the_import_is_there_and_is_loaded_once(loaded: Any, module: str) -> None:
    """A class that is defined twice is caught by nobody who names the other one."""
    with put_off_modules([SLOW], "hasty"):
        importlib.import_module(f"hasty.{module}")
        slow = importlib.import_module(SLOW)
        assert slow.Trouble is importlib.import_module(f"{SLOW}.part").Trouble
    assert loaded() == 1


def test_one_that_is_loaded_is_imported_as_ever(loaded: Any) -> None:
    slow = importlib.import_module(SLOW)
    with put_off_modules([SLOW, "no_such_module"], "hasty"):
        hasty: Any = importlib.import_module("hasty")
    assert hasty.slow_to_load is slow
    assert loaded() == 1


def test_one_that_is_not_there_is_missed_at_once(loaded: Any, tmp_path: Path) -> None:
    (tmp_path / "other/lost.py").write_text("import no_such_module")
    with put_off_modules(["no_such_module"], "other"), pytest.raises(ModuleNotFoundError, match="no_such_module"):
        importlib.import_module("other.lost")
    assert loaded() == 0


def _fail() -> None:
    with put_off_modules([SLOW], "hasty"):
        assert not gc.isenabled()
        raise ImportError


def test_a_block_that_fails_leaves_nothing_behind(loaded: Any) -> None:
    before = builtins.__import__
    assert gc.isenabled()
    with pytest.raises(ImportError):
        _fail()
    assert gc.isenabled()
    assert builtins.__import__ is before
    assert importlib.import_module("hasty").slow_to_load is sys.modules[SLOW]
    assert loaded() == 1


def test_who_has_put_something_in_front_meanwhile_keeps_it(loaded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with put_off_modules([SLOW], "hasty"):
        ours = builtins.__import__
        theirs = functools.partial(ours)
        monkeypatch.setattr(builtins, "__import__", theirs)
    assert builtins.__import__ is theirs
    assert importlib.import_module("hasty").slow_to_load is sys.modules[SLOW]
    assert loaded() == 1


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
import jsonschema, requests, yaml
from ray._private import label_utils, state
from ray._private.runtime_env import plugin_schema_manager
assert label_utils.yaml.safe_load is yaml.safe_load
assert state.requests.Session is requests.Session
assert plugin_schema_manager.jsonschema.validate is jsonschema.validate
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=240)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr
