"""What the demo prints at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from tunekit.cli.demo_compare import Difference

_MAX_SHOWN = 10


def print_table(console: Console, table: Mapping[str, Any], attempts: Mapping[int, int]) -> None:
    """Print every trial, the best one marked, and the best configuration."""
    names = sorted({name for trial in table["trials"] for name in trial["config"]})
    view = Table(title="the sweep that was killed twice", box=box.SIMPLE_HEAD, collapse_padding=True)
    view.add_column("trial", no_wrap=True)
    for name in [*names, "epochs", "lives", "loss", "accuracy"]:
        view.add_column(name, justify="right")
    for index, trial in enumerate(table["trials"]):
        last = trial["rows"][-1] if trial["rows"] else {}
        values = [_short(trial["config"][name]) for name in names]
        lives = attempts.get(index, 0)
        view.add_row(
            trial["name"],
            *values,
            str(last.get("training_iteration", 0)),
            f"[red]{lives}[/]" if lives > 1 else str(lives),
            _short(last.get("val_loss")),
            f"{last['accuracy']:.2%}" if last else "",
            style="bold green" if trial["name"] == table["best"] else "",
        )
    console.print(view)
    best = next(trial for trial in table["trials"] if trial["name"] == table["best"])
    config = ", ".join(f"{name}={_short(best['config'][name])}" for name in names)
    console.print(f"best: [bold]{config}[/], accuracy [bold]{best['rows'][-1]['accuracy']:.2%}[/]")


def print_conclusion(console: Console, differences: Sequence[Difference], *, num_rows: int, cost: int) -> None:
    """Print whether the two sweeps agree, and what the kills cost.

    Args:
        console: Where to.
        differences: What they do not share.
        num_rows: Results that were compared.
        cost: Results that were computed twice.
    """
    if differences:
        console.print(f"[bold red]{len(differences)} values differ[/] (undisturbed != disturbed)")
        for difference in differences[:_MAX_SHOWN]:
            console.print(f"  {difference}", markup=False)
        if len(differences) > _MAX_SHOWN:
            console.print(f"  … and {len(differences) - _MAX_SHOWN} more")
        return
    again = "1 epoch was" if cost == 1 else f"{cost} epochs were"
    console.print(
        f"[bold green]identical, bit for bit[/]: every metric of all {num_rows} results, and where each trial "
        f"ended; because of the two kills {again} computed twice"
    )


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value if value is not None else "")
