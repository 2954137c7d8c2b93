"""The entry point of the ``tunekit`` command."""

from __future__ import annotations

import sys

import click

from tunekit import __version__
from tunekit.cli.check import check
from tunekit.errors import TunekitError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tunekit")
def cli() -> None:
    """Hyperparameter sweeps on Ray that lose nothing and compute nothing twice."""


@cli.command()
@click.option(
    "--scheduler",
    type=click.Choice(["fifo", "asha"]),
    default="asha",
    show_default=True,
    help="asha: weak trials end early; fifo: every trial runs to its end.",
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


_AGE = "Seconds, or a text such as 30min or 2h"


@cli.command()
@click.argument("source")
@click.argument("target")
@click.option("--verify", is_flag=True, help="Read the copy back and compare every byte with its hash.")
@click.option("--while-running", is_flag=True, help="Copy a running experiment, as it is at one moment.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def cp(source: str, target: str, *, verify: bool, while_running: bool, as_json: bool) -> None:
    """Copy an experiment, a trial or a checkpoint.

    SOURCE and TARGET are local paths or URIs. TARGET is the name of the copy itself, not of a folder to put it into.
    Run it again to go on after an interruption, or to bring a copy up to date: only what is missing or different is
    copied. Nothing is overwritten but an earlier copy of the same. Exit status: 0, or 1 if something was damaged.
    """
    from tunekit.cli.upkeep import run_cp  # noqa: PLC0415 - as above

    sys.exit(run_cp(source, target, verify=verify, while_running=while_running, as_json=as_json))


@cli.command()
@click.argument("path")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def verify(path: str, *, as_json: bool) -> None:
    """Check every hash, every manifest and the journal.

    PATH is an experiment, a trial or a checkpoint: a local folder or a URI. Nothing is changed. Exit status: 0 if all
    is well, 1 if there are problems, 2 if there is nothing of the kind at PATH.
    """
    from tunekit.cli.upkeep import run_verify  # noqa: PLC0415 - as above

    sys.exit(run_verify(path, as_json=as_json))


@cli.command()
@click.argument("path")
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
def ls(path: str, *, as_json: bool) -> None:
    """List trials, checkpoints or files.

    PATH is an experiment (its trials are listed), a trial (its checkpoints) or a checkpoint (its files): a local folder
    or a URI. Nothing is loaded, and the script is not needed.
    """
    from tunekit.cli.upkeep import run_ls  # noqa: PLC0415 - as above

    sys.exit(run_ls(path, as_json=as_json))


@cli.command()
@click.argument("path")
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@click.option("--quarantine", is_flag=True, help="Remove damaged checkpoints that were put aside, too.")
@click.option(
    "--older-than", default="1h", show_default=True, help=f"How long ago it was changed last. {_AGE}.", metavar="AGE"
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def gc(path: str, *, dry_run: bool, quarantine: bool, older_than: str, as_json: bool) -> None:
    """Remove what crashes have left in an experiment.

    PATH is the experiment's folder or URI. What can be seen as a checkpoint is never touched, nor anything while a
    driver runs the experiment.
    """
    from tunekit.cli.upkeep import run_gc  # noqa: PLC0415 - as above

    sys.exit(run_gc(path, dry_run=dry_run, quarantine=quarantine, older_than=older_than, as_json=as_json))


cli.add_command(check)


def main() -> None:
    """Run the command; an error of tunekit is a message, not a traceback."""
    try:
        cli()
    except TunekitError as error:
        click.echo(f"{click.style(type(error).__name__, fg='red', bold=True)}: {error}", err=True)
        sys.exit(getattr(error, "exit_code", 1))
