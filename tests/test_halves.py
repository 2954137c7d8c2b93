"""Two halves of the tests at once, and a command beside them: all are run and shown, and each can fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "halves.py"
TESTS = """
import pytest

@pytest.mark.ray
def test_with(): assert {ray}, "with is bad"

def test_without(): assert {rest}, "without is bad"

@pytest.mark.soak
def test_soak(): assert False, "soaks"

@pytest.mark.ray
@pytest.mark.soak
def test_soak_with(): assert False, "soaks"
"""


def start(folder: Path, *arguments: str, ray: bool = True, rest: bool = True) -> subprocess.Popen[str]:
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n ray\n soak\n")
    (folder / "test_all.py").write_text(TESTS.format(ray=ray, rest=rest))
    command = [sys.executable, str(SCRIPT), "ray", ".", "-p", "no:cacheprovider", *arguments]
    # Ctrl-C must reach it: what a shell starts in the background ignores that, and so would all that it starts.
    hears = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            command,
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # None is used, and they take their time to load.
        )
    finally:
        signal.signal(signal.SIGINT, hears)


def run(folder: Path, *arguments: str, ray: bool = True, rest: bool = True) -> tuple[int, str]:
    process = start(folder, *arguments, ray=ray, rest=rest)
    said, _ = process.communicate(timeout=240)
    return process.returncode, said


def test_both_halves_are_run_and_shown(tmp_path: Path) -> None:
    status, said = run(tmp_path, "-v")
    assert status == 0, said
    with_it, without_it = said.split("without the marker 'ray'")
    assert "::test_with PASSED" in with_it
    assert "::test_without PASSED" in without_it
    assert said.count("1 passed, 3 deselected") == 2, said


@pytest.mark.parametrize("bad", ["ray", "rest"])
def test_either_can_fail_and_hides_nothing(tmp_path: Path, bad: str) -> None:
    status, said = run(tmp_path, "-v", **{bad: False})
    assert status == 1
    word, other = ("with", "without") if bad == "ray" else ("without", "with")
    assert f"{word} is bad" in said
    assert f"::test_{other} PASSED" in said
    end = said.splitlines()[-2:]
    assert end[0] == f"{'=' * 20} failed {'=' * 20}"
    assert end[1].startswith(f"FAILED test_all.py::test_{word}")
    assert said.rindex(f"{word} is bad") > said.rindex(f"::test_{other} PASSED"), "what failed is shown last"


@pytest.mark.parametrize("code", [0, 3])
def test_a_command_beside_them_is_shown_and_counts(tmp_path: Path, code: int) -> None:
    (tmp_path / "lint.py").write_text(f"import sys; print('looked at', 'it'); sys.exit({code})")
    command = f"{sys.executable} lint.py"
    status, said = run(tmp_path, "--beside", command)
    assert status == (code > 0)
    assert said.index(f"{'=' * 20} {command}") < said.index("looked at it") < said.index("without the marker")
    assert said.count("1 passed") == 2, said
    if code:
        end = said[said.index(f"{'=' * 20} failed {'=' * 20}") :]
        assert "looked at it" in end
        assert end.splitlines()[-1] == f"FAILED {command}: exit status 3"


def test_the_marked_half_reads_only_files_that_name_the_marker(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text("def test_other(): pass")
    (tmp_path / "test_more.py").write_text("import pytest\npytestmark = [pytest.mark.ray]\ndef test_more(): pass")
    with_it, without_it = run(tmp_path)[1].split("without the marker 'ray'")
    assert "2 passed, 3 deselected" in with_it
    assert "2 passed, 4 deselected" in without_it


def test_ctrl_c_ends_both_in_their_own_way(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "import pathlib, time\n"
        "def pytest_runtest_call(item):\n"
        "    pathlib.Path(item.name).touch()\n"
        "    time.sleep(600)\n"
        "def pytest_sessionfinish(session):\n"
        "    time.sleep(0.5)\n"
        "    print('cleaned up')\n"
    )
    process = start(tmp_path)
    while not ((tmp_path / "test_with").exists() and (tmp_path / "test_without").exists()):
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 1
    assert said.count("cleaned up") == 2
    assert said.count("to show a full traceback on KeyboardInterrupt") == 2


def test_a_half_may_have_none_of_the_tests_that_are_asked_for_but_not_both(tmp_path: Path) -> None:
    assert run(tmp_path, "-k", "without")[0] == 0
    assert run(tmp_path, "-k", "nothing")[0] == 1
