"""The entry point of the ``tunekit`` command."""

from __future__ import annotations

import sys

import click

from tunekit import __version__
from tunekit.errors import TunekitError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tunekit")
def cli() -> None:
    """Hyperparameter sweeps on Ray that lose nothing and compute nothing twice."""


@cli.command()
@click.option(
    "--scheduler",
    type=click.Choice(["fifo", "asha"]),
    default="fifo",
    show_default=True,
    help="fifo: every trial runs to its end; asha: weak trials end early.",
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False),
    help="Where the two sweeps go, and stay. Default: a temporary folder, removed at the end.",
)
@click.option("--trials", type=click.IntRange(2, 64), default=8, show_default=True, help="Trials of each sweep.")
@click.option("--epochs", type=click.IntRange(4, 64), default=8, show_default=True, help="Epochs of each trial.")
def demo(scheduler: str, folder: str | None, trials: int, epochs: int) -> None:
    """Kill a sweep twice, and show that nothing is lost.

    Trains a small network on scikit-learn's digits, once undisturbed and once with a worker and then the driver
    killed on the way, and compares every metric of every trial and iteration bit for bit. Takes one or two minutes.
    """
    # Imported here, because rich and the rest would slow `--help` down.
    from tunekit.cli.demo import run_demo  # noqa: PLC0415
    from tunekit.cli.demo_process import Plan  # noqa: PLC0415

    sys.exit(run_demo(Plan(scheduler=scheduler, folder=folder, num_trials=trials, epochs=epochs)))


def main() -> None:
    """Run the command; an error of tunekit is a message, not a traceback."""
    try:
        cli()
    except TunekitError as error:
        click.echo(f"{click.style(type(error).__name__, fg='red', bold=True)}: {error}", err=True)
        sys.exit(1)
