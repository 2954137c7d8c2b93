"""``tunekit cp``, ``verify``, ``ls`` and ``gc``: what ``tunekit.upkeep`` found, for people and for scripts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from tunekit.config.durations import parse_duration
from tunekit.printable import one_line, printable
from tunekit.results.ledger import in_two_lines
from tunekit.store.inspection import Problem
from tunekit.upkeep.clearing import ClearReport, clear
from tunekit.upkeep.copying import copy
from tunekit.upkeep.listing import listing
from tunekit.upkeep.report import Meter, NoMeter, Report
from tunekit.upkeep.transfer import CopyReport
from tunekit.upkeep.verifying import verify

_UNITS = ("bytes", "kB", "MB", "GB", "TB")
_THOUSAND = 1000


class _Bar:
    """A meter on the terminal. It shows nothing before there is much to do."""

    def __init__(self, progress: Progress, what: str) -> None:
        self._progress = progress
        self._task = progress.add_task(what, total=0, visible=False)
        self._total = 0

    def expect(self, num_bytes: int) -> None:
        """Lengthen the bar."""
        self._total += num_bytes
        self._progress.update(self._task, total=self._total, visible=self._total >= _THOUSAND**2)

    def advance(self, num_bytes: int) -> None:
        """Fill it."""
        self._progress.advance(self._task, num_bytes)


def run_cp(source: str, target: str, *, verify: bool, while_running: bool, as_json: bool) -> int:
    """Copy, tell about it, and return the exit status."""
    with _meter("copying") as meter:
        report = copy(source, target, verify=verify, while_running=while_running, meter=meter)
    return _told(report, _copied(report), as_json=as_json)


def _copied(report: CopyReport) -> str:
    counts = [f"{_count(report.num_copied, 'checkpoint')} copied ({size(report.bytes_copied)} in all)"]
    if report.num_kept:
        counts.append(f"{report.num_kept} there already")
    if report.num_removed:
        counts.append(f"{report.num_removed} removed that the source no longer has")
    told = f"{escape(printable(report.target))}: {', '.join(counts)}"
    verified = "; every byte verified" if report.verified else ""
    return f"{_mark(report)} {told}{verified}"


def run_verify(path: str, *, as_json: bool) -> int:
    """Check, tell about it, and return the exit status."""
    with _meter("verifying") as meter:
        report = verify(path, meter=meter)
    return _told(report, _verified(report), as_json=as_json)


def _verified(report: Report) -> str:
    counts = [_count(report.num_checkpoints, "checkpoint")] if report.kind != "checkpoint" else []
    if report.num_records:
        counts.append(_count(report.num_records, "record") + " in the journal")
    counts += [_count(report.num_files, "file"), size(report.num_bytes)]
    verdict = "whole" if report.is_clean else f"[red]{_count(len(report.problems), 'problem')}[/]"
    return f"{_mark(report)} {escape(printable(report.path))}: {report.kind}, {verdict} ({', '.join(counts)})"


def _told(report: Report, summary: str, *, as_json: bool) -> int:
    """Tell about a report, and return the exit status."""
    if as_json:
        _print_json(report.as_json())
    else:
        console = _console()
        _tell_problems(console, report)
        console.print(summary, soft_wrap=True)
    return 0 if report.is_clean else 1


def run_ls(path: str, *, as_json: bool) -> int:
    """List, and return the exit status."""
    table = listing(path)
    if as_json:
        _print_json(table.as_json())
        return 0
    view = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for number, column in enumerate(table.columns):
        view.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in table.rows:
        view.add_row(*(escape("" if value is None else one_line(str(value))) for value in row))
    console = _console()
    console.print(view, soft_wrap=True)
    for line in in_two_lines(table.spent):
        console.print(f" {line}", markup=False, soft_wrap=True)
    return 0


def run_gc(path: str, *, dry_run: bool, quarantine: bool, older_than: str, as_json: bool) -> int:
    """Clear up, tell about it, and return the exit status."""
    older_than_s = _seconds(older_than)
    report = clear(path, dry_run=dry_run, quarantine=quarantine, older_than_s=older_than_s)
    if as_json:
        _print_json(report.as_json())
    else:
        _tell_garbage(_console(), report)
    return 0


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        found = parse_duration(text)
        if found is None:
            raise click.BadParameter(f"{text!r} is no length of time such as 90, 30min or 2h") from None
        return found
    if not seconds >= 0:
        raise click.BadParameter(f"{text!r} is below zero")
    return seconds


def _tell_garbage(console: Console, report: ClearReport) -> None:
    for item in report.items:
        line = f"  {item.place}  {size(item.num_bytes)}, {_count(item.num_files, 'file')}: {item.why}"
        console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
    for key in report.uploads:
        console.print(
            f"  {printable(key)}: an upload that nobody finished, dropped",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    done = "removed" if report.removed else "would be removed"
    told = f"{size(report.num_bytes)} {done}" if report.items else "nothing to remove"
    console.print(f"{escape(printable(report.path))}: {told}", soft_wrap=True)


def _tell_problems(console: Console, report: Report) -> None:
    _tell(console, "[red]✗[/]", report.problems)
    _tell(console, "[yellow]·[/]", report.notes)


def _tell(console: Console, mark: str, problems: Sequence[Problem]) -> None:
    for problem in problems:
        what = escape(printable(f"{problem.file}: {problem.problem}"))
        console.print(f"{mark} {what}", soft_wrap=True)
        if problem.remedy:
            console.print(f"    {printable(problem.remedy)}", style="dim", markup=False, soft_wrap=True)


def _mark(report: Report) -> str:
    return "[green]✓[/]" if report.is_clean else "[red]✗[/]"


def size(num_bytes: int) -> str:
    """Return a number of bytes as people read it."""
    value, unit = float(num_bytes), 0
    while value >= _THOUSAND and unit < len(_UNITS) - 1:
        value, unit = value / _THOUSAND, unit + 1
    return _count(num_bytes, "byte") if unit == 0 else f"{value:.1f} {_UNITS[unit]}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _print_json(document: dict[str, Any]) -> None:
    click.echo(json.dumps(document, indent=1))


def _console() -> Console:
    return Console(highlight=False)


@contextmanager
def _meter(what: str) -> Iterator[Meter]:
    """Give a bar on the terminal, and nothing where there is none."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield NoMeter()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Bar(progress, what)
