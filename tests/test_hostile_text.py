"""Text from user code and from files steers no terminal, and secrets of a configuration are not shown."""

from __future__ import annotations

import io
import logging
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import tunekit as tk
from tunekit.cli.main import cli
from tunekit.printable import printable

HOSTILE = "\x1b]0;owned\x07 \x1b[2J\x9b31m \u202etxt.exe \x08\x7f"
SECRET = "hunter2-0451"


def noisy(config: dict[str, Any]) -> None:
    tk.report({"loss": 1.0, f"x{HOSTILE}": HOSTILE})
    raise RuntimeError(f"{HOSTILE} could not log in with {config['db']['password']!r} and {config.get('api_key')}")


def tuner(root: Path, verbose: int, password: str = SECRET) -> tk.Tuner:
    return tk.Tuner(
        noisy,
        param_space={"db": {"password": password}, "api_key": tk.choice([f"{SECRET}-a", f"{SECRET}-b"])},
        tune_config=tk.TuneConfig(metric="loss", mode="min", num_samples=2, seed=1),
        run_config=tk.RunConfig(
            name="e", storage_path=str(root), failure_config=tk.FailureConfig(max_failures=1), verbose=verbose
        ),
    )


@pytest.fixture
def shown(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> str:
    """Everything that came of a sweep, of looking at it, and of running it with another secret."""
    caplog.set_level(logging.DEBUG)
    results = tk.inline(tuner(tmp_path, 3))
    parts = [repr(results), *(repr(result) for result in results), *(str(result.error) for result in results)]
    with pytest.raises(tk.TunekitError) as caught:
        tk.inline(tuner(tmp_path, 3, password=f"{SECRET}-other"))
    parts.append(str(caught.value))
    for line in (["verify"], ["ls"], ["gc", "--dry-run"], ["verify", "--json"], ["ls", "--json"]):
        done = CliRunner().invoke(cli, [*line, str(tmp_path / "e")])
        parts += [done.output, str(done.exception)]
    captured = capfd.readouterr()
    return "\n".join([*parts, captured.out, captured.err, caplog.text])


def test_nothing_steers_the_terminal(shown: str) -> None:
    assert "owned" in shown
    assert printable(shown) == shown


def test_no_secret_is_shown(shown: str, tmp_path: Path) -> None:
    """Neither in progress nor in errors and logs, a quoted line of a trace included; the header keeps the space."""
    assert "could not log in" in shown
    assert "param_space/db/value/password: not the same" in shown
    assert SECRET not in shown
    log = "".join(path.read_text() for path in tmp_path.rglob("trial.log"))
    assert "could not log in" in log
    assert SECRET not in log
    assert SECRET in (tmp_path / "e" / "experiment.json").read_text()


def test_hostile_names_of_files_are_shown_as_what_they_are(tmp_path: Path) -> None:
    """Planted by somebody who may write into the folder."""
    tk.inline(tuner(tmp_path, 0))
    (tmp_path / "e" / f"x{HOSTILE}").mkdir()
    (tmp_path / "e" / ".staging" / f"y{HOSTILE}").mkdir(parents=True)
    (tmp_path / "e" / ".staging" / f"y{HOSTILE}" / f"z{HOSTILE}").write_text("")
    for line in (["verify"], ["ls"], ["gc", "--dry-run"], ["gc"]):
        done = CliRunner().invoke(cli, [*line, str(tmp_path / "e")])
        assert printable(done.output) == done.output, line


def test_progress_on_any_stream(tmp_path: Path) -> None:
    from tunekit.callbacks.progress import Progress
    from tunekit.core.events import ErrorInfo, SaveFailed
    from tunekit.core.state import State
    from tunekit.schedulers import FIFO
    from tunekit.types import Mode

    stream = io.StringIO()
    event = SaveFailed(trial=0, attempt=1, iteration=1, error=ErrorInfo(type="E", message=HOSTILE))
    Progress(lambda trial: f"t{HOSTILE}", stream=stream).observe([event], State(scheduler=FIFO().begin(Mode.MIN)))
    assert "owned" in stream.getvalue()
    assert printable(stream.getvalue()) == stream.getvalue()


def test_nobody_else_may_look_into_an_experiment(tmp_path: Path) -> None:
    """Its folder is closed to others; what holds configurations, once more by itself. A copy is closed likewise."""
    tk.inline(tuner(tmp_path, 0))
    CliRunner().invoke(cli, ["cp", str(tmp_path / "e"), str(tmp_path / "copy")], catch_exceptions=False)
    for name in ("e", "copy"):
        root = tmp_path / name
        assert stat.S_IMODE(root.stat().st_mode) == 0o700, name
    private = [tmp_path / "e" / "experiment.json", *(tmp_path / "e" / "journal").glob("*")]
    assert len(private) >= 2
    for path in private:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
