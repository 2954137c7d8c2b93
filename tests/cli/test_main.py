"""The command itself: fast, and polite when something is missing."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import tunekit
from tunekit.cli import demo as demo_module
from tunekit.cli.demo_process import DemoError, Plan
from tunekit.cli.main import cli, main


def test_version() -> None:
    assert tunekit.__version__ in CliRunner().invoke(cli, ["--version"]).output


def test_help_loads_neither_ray_nor_torch_nor_rich() -> None:
    """`tunekit --help` has nothing to wait for."""
    code = "import sys, tunekit.cli.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=240)
    assert not {"ray", "torch", "rich", "numpy"} & set(done.stdout.split())


def test_an_error_is_a_message_with_a_hint(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(plan: Plan) -> int:
        raise DemoError(f"no luck with {plan.scheduler}", hint="try again")

    monkeypatch.setattr(demo_module, "run_demo", fail)
    monkeypatch.setattr(sys, "argv", ["tunekit", "demo", "--scheduler", "asha"])
    with pytest.raises(SystemExit) as status:
        main()
    assert status.value.code == 1
    assert capsys.readouterr().err == "DemoError: no luck with asha\n\nhint: try again\n"


def test_the_demo_names_the_packages_that_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "sklearn" else object())
    with pytest.raises(DemoError, match=r"sklearn cannot be imported\n\nhint: pip install 'tunekit\[demo\]'"):
        demo_module.run_demo(Plan())


def test_the_demo_never_writes_into_a_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("two years of work")
    with pytest.raises(DemoError, match="is not empty"):
        demo_module.run_demo(Plan(folder=str(tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
