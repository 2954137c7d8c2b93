"""``tunekit cp``, ``verify`` and ``gc`` as they are typed: what they print, where, and with which exit status."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from experiments import Built, built, content
from rich.console import Console

from tunekit.cli import upkeep
from tunekit.cli.main import main
from tunekit.cli.upkeep import size
from tunekit.core.commands import LaunchTrial
from tunekit.core.events import Draw, ResultReported, TrialReturned, TrialsSuggested, TrialStarted
from tunekit.journal.lock import DriverLock

MODEL = "walk_00001/checkpoint_000002/model.bin"


@pytest.fixture
def exp(tmp_path: Path) -> Path:
    built(tmp_path / "exp")
    return tmp_path / "exp"


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tunekit", *map(str, arguments)])
        with pytest.raises(SystemExit) as status:
            main()
        out, err = capsys.readouterr()
        assert isinstance(status.value.code, int)
        return status.value.code, out, err

    return call


def test_cp(run: Run, exp: Path, tmp_path: Path) -> None:
    to = tmp_path / "copy"
    assert run("cp", exp, to, "--verify") == (
        0, f"✓ {to}: 9 checkpoints copied ({copied(to)} in all); every byte verified\n", ""
    )  # fmt: skip
    assert run("cp", exp, to) == (0, f"✓ {to}: 0 checkpoints copied (0 bytes in all), 9 there already\n", "")
    assert content(to) == content(exp)
    code, out, _ = run("cp", exp, to, "--json")
    report = json.loads(out)
    assert (code, report["num_kept"], report["clean"], report["target"]) == (0, 9, True, str(to))


def copied(folder: Path) -> str:
    """All bytes but those of the manifests."""
    return size(sum(len(data) for name, data in content(folder).items() if not name.endswith("MANIFEST.json")))


def test_cp_tells_of_damage_and_fails(run: Run, exp: Path, tmp_path: Path) -> None:
    (exp / MODEL).write_bytes(b"")
    code, out, err = run("cp", exp, tmp_path / "copy")
    assert (code, err) == (1, "")
    first, second, last = out.splitlines()
    assert first == f"✗ {MODEL}: it has 0 bytes, its manifest says 2000"
    assert second.startswith("    it was left out of the copy")
    assert last.startswith(f"✗ {tmp_path / 'copy'}: 8 checkpoints copied")


def test_cp_refuses(run: Run, exp: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").touch()
    code, out, err = run("cp", exp, tmp_path / "thesis")
    assert (code, out) == (1, "")
    assert err.startswith("ExperimentExistsError: ")
    assert "\n\nhint: name another target" in err
    with DriverLock(exp):
        code, out, err = run("cp", exp, tmp_path / "copy")
        assert (code, out) == (1, "")
        assert err.endswith("hint: wait until it ends, or copy what is safe by now: tunekit cp --while-running\n")
        assert run("cp", exp, tmp_path / "copy", "--while-running")[0] == 0


def test_verify(run: Run, exp: Path) -> None:
    num_bytes = size(sum(map(len, content(exp).values())))
    code, out, err = run("verify", exp)
    assert (code, err) == (0, "")
    assert out == f"✓ {exp}: experiment, whole (9 checkpoints, 28 records in the journal, 38 files, {num_bytes})\n"
    assert run("verify", exp / "walk_00001")[1].startswith(f"✓ {exp}/walk_00001: trial, whole (3 checkpoints, 12 files")
    assert "checkpoint, whole (4 files" in run("verify", (exp / MODEL).parent)[1]


def test_verify_names_each_problem_and_its_remedy(run: Run, exp: Path) -> None:
    (exp / MODEL).unlink()
    (exp / "walk_00000/checkpoint_000009").mkdir()
    code, out, err = run("verify", exp)
    assert (code, err) == (1, "")
    assert out.splitlines()[:4] == [
        f"✗ {MODEL}: it is missing",
        "    bring the checkpoint back from a copy (tunekit cp), or leave it: a resume goes on from the one before",
        "· walk_00000/checkpoint_000009: it has no manifest, so it is no checkpoint",
        "    tunekit gc removes it",
    ]
    assert f"✗ {exp}: experiment, 1 problem (" in out
    code, out, _ = run("verify", exp, "--json")
    report = json.loads(out)
    assert code == 1
    assert [(problem["file"], problem["problem"]) for problem in report["problems"]] == [(MODEL, "it is missing")]
    assert len(report["notes"]) == 1


@pytest.mark.parametrize(
    "arguments",
    [["verify", "nowhere"], ["verify"], ["verify", ".", "--what"], ["cp", "nowhere", "there"], ["gc", "nowhere"],
     ["gc", ".", "--older-than", "soon"], ["gc", ".", "--older-than", "-1"], ["verify", "."]],
    ids=" ".join,
)  # fmt: skip
def test_usage_is_two(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err


def test_ls(run: Run, tmp_path: Path) -> None:
    exp = tmp_path / "exp"
    made = Built(exp)
    made.record(
        TrialsSuggested(draws=[Draw(), Draw()]),
        LaunchTrial(trial=0, attempt=2),
        TrialStarted(trial=0, attempt=2, at=1.0, took_s=0.5),
        ResultReported(trial=0, attempt=2, iteration=3, metrics={}, at=5.5, blocked_s=0.5),
        TrialReturned(trial=0, attempt=2, at=5.5),
    )
    made.save(0, 3, attempt=2)
    made.close()
    code, out, err = run("ls", exp)
    assert (code, err) == (0, "")
    assert [line.split() for line in out.splitlines() if "walk" in line] == [
        ["walk_00000", "2", "3", "1", "3000"], ["walk_00001", "0", "0", "0"]
    ]  # fmt: skip
    assert out.splitlines()[-2:] == [
        " useful  4 s, 80.0 %", " lost    1 s, 20.0 % (checkpointing 0.5 s, restoring 0.5 s)"
    ]  # fmt: skip
    assert json.loads(run("ls", exp, "--json")[1])["spent_s"]["useful"] == 4.0
    assert json.loads(run("ls", exp / "walk_00000", "--json")[1])["rows"] == [
        {"checkpoint": "checkpoint_000003", "attempt": 2, "reason": "", "bytes": 3000}
    ]
    rows = json.loads(run("ls", exp / "walk_00000/checkpoint_000003", "--json")[1])["rows"]
    assert {row["file"]: row["bytes"] for row in rows}.items() > {"model.bin": 2000, "empty": 0}.items()
    assert run("ls", tmp_path)[0] == 2


def test_gc(run: Run, tmp_path: Path) -> None:
    exp = tmp_path / "exp"
    made = Built(exp)
    (made.io.begin("walk_00001", 4, 1) / "x").write_bytes(b"1" * 1234)
    made.close()
    nothing = (0, f"{exp}: nothing to remove\n", "")
    found = "  .staging/walk_00001.4.1  1.2 kB, 1 file: staged, and never published\n"
    assert run("gc", exp) == nothing
    assert run("gc", exp, "--dry-run", "--older-than", "0") == (0, f"{found}{exp}: 1.2 kB would be removed\n", "")
    assert (exp / ".staging/walk_00001.4.1/x").exists()
    for path in (exp / ".staging/walk_00001.4.1", exp / ".staging/walk_00001.4.1/x"):
        os.utime(path, (time.time() - 100, time.time() - 100))
    assert run("gc", exp, "--older-than", "2min") == nothing
    code, out, _ = run("gc", exp, "--older-than", "90s", "--json")
    assert (code, json.loads(out)["num_bytes"], json.loads(out)["removed"]) == (0, 1234, True)
    assert not (exp / ".staging").exists()


def test_sizes_as_people_read_them() -> None:
    assert [size(number) for number in (0, 1, 999, 1000, 1_234_567, 10**9, 5 * 10**15)] == [
        "0 bytes", "1 byte", "999 bytes", "1.0 kB", "1.2 MB", "1.0 GB", "5000.0 TB"
    ]  # fmt: skip


def test_a_terminal_is_shown_how_far_a_large_copy_is(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built(tmp_path / "exp", trials=1, steps=1, num_bytes=2_000_000)
    shown = io.StringIO()

    def console(**settings: object) -> Console:
        return Console(file=shown if settings.get("stderr") else None, force_terminal=True, highlight=False, width=70)

    monkeypatch.setattr(upkeep, "Console", console)
    code, out, err = run("cp", tmp_path / "exp", tmp_path / "copy")
    assert (code, err) == (0, "")
    assert "copying" in shown.getvalue()
    assert "3.0/3.0 MB" in shown.getvalue()
    assert "\x1b[32m✓" in out


class Trap:
    """Kills whoever unpickles it."""

    def __reduce__(self) -> tuple[object, ...]:
        return (os._exit, (77,))


def test_nothing_of_the_user_is_run_and_nothing_heavy_loaded(exp: Path, tmp_path: Path) -> None:
    """A checkpoint that is a pickle of death is copied and checked like any other. S000-25."""
    made = Built.again(exp)
    folder = made.io.begin("walk_00000", 9, 1)
    for name in ("state.pkl", "sitecustomize.py", "conftest.py", "model.pt"):
        (folder / name).write_bytes(pickle.dumps(Trap()))
    made.io.publish("walk_00000", 9, 1, made.io.seal("walk_00000", 9, 1, metadata={}))
    made.close()
    code = (
        "import sys\n"
        "from tunekit.cli.main import cli\n"
        "heavy = {'ray', 'torch', 'pandas', 'numpy', 'optuna', 'sklearn', 'cloudpickle'}\n"
        f"for line in (['cp', {str(exp)!r}, {str(tmp_path / 'copy')!r}, '--verify'],\n"
        f"             ['verify', {str(exp)!r}], ['ls', {str(exp)!r}], ['gc', {str(exp)!r}, '--dry-run']):\n"
        "    try:\n"
        "        cli(line)\n"
        "    except SystemExit as status:\n"
        "        assert not status.code, line\n"
        "print(*sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == ""


def test_help_is_quick(tmp_path: Path) -> None:
    code = "import sys, tunekit.cli.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=240)
    assert not {"rich", "msgspec", "obstore", "tunekit.upkeep", "tunekit.store"} & set(done.stdout.split())
