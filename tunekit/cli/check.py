"""``tunekit check``: kill a trainable once it has saved, restore it in a fresh process, and compare.

Exit status: 0, it comes back as it was saved; 1, it does not; 2, it could not be examined.
"""

from __future__ import annotations

import json
import re
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from tunekit.errors import ConfigError, TrainableError, TunekitError, ValidationError

if TYPE_CHECKING:
    from tunekit.validation.laboratory import Subject

_CANNOT = 2


@click.command()
@click.argument("target", metavar="FILE:NAME")
@click.option("--config", metavar="JSON", help="What the trainable is given, such as '{\"lr\": 0.1}'.")
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Iterations before the kill, and after the restore.",
)
def check(target: str, config: str | None, steps: int) -> None:
    """Kill a trainable once it has saved, restore it elsewhere, and compare.

    FILE:NAME is a Python file and the class or function in it, such as train.py:Digits. It is trained in a process of
    its own, which is killed with SIGKILL after it has saved; its checkpoint is moved, and a fresh process trains on
    from it. Results and saved states must be those of a run that nobody interrupted, bit for bit.

    Exits with 0 if they are, with 1 if they are not, which names what differs, and with 2 if nothing can be said.
    """
    subject = _subject(target, config, steps)
    # Imported here, because they would slow `--help` down.
    from tunekit.validation.laboratory import Processes  # noqa: PLC0415
    from tunekit.validation.validate import examine  # noqa: PLC0415

    try:
        with Processes(subject, kills=True) as processes:
            examine(subject, processes, steps)
    except ValidationError as error:
        _fail(error, 1)
    except TunekitError as error:
        _fail(error, _CANNOT)
    click.echo(
        f"{click.style('✓', fg='green')} {subject.name}: killed after it had saved, restored in a fresh process from "
        "another folder; results and saved states are those of a run that nobody interrupted, bit for bit"
    )


def _subject(target: str, config: str | None, steps: int) -> Subject:
    """Return what is to be examined, or end with the exit status that says why it cannot be."""
    from tunekit.validation.validate import subject_of  # noqa: PLC0415 - as above

    try:
        module, trainable = _load(target)
        return subject_of(trainable, _config(config), steps, module=module)
    except ValidationError as error:
        _fail(error, 1)
    except TunekitError as error:
        _fail(error, _CANNOT)


def _load(target: str) -> tuple[tuple[str, str], Any]:
    """Import the file as a script's neighbours would see it, and return its name, its place and the trainable.

    Raises:
        ConfigError: There is no such file, or no such name in it.
        TrainableError: It raises when it is imported.
    """
    path, colon, name = target.rpartition(":")
    if not colon or not path or not name:
        raise ConfigError(
            f"got {target!r}, but must be a file and a name in it, with a colon between them",
            hint="tunekit check train.py:Digits",
        )
    file = Path(path).expanduser().absolute()
    if not file.is_file():
        problem = "is a folder" if file.is_dir() else "does not exist"
        raise ConfigError(f"the file {path} {problem}", hint="give the file that defines the trainable")
    found = _module_name(file), str(file)
    sys.path.insert(0, str(file.parent))
    module = _imported(*found)
    if not hasattr(module, name):
        raise ConfigError(f"there is no {name!r} in {path}", hint=_suggestion(module, name))
    return found, getattr(module, name)


def _imported(name: str, file: str) -> Any:
    from tunekit.validation.child import load_file  # noqa: PLC0415 - as above

    try:
        return load_file(name, file)
    except (Exception, SystemExit) as error:
        lines = traceback.format_exception(type(error), error, error.__traceback__)
        raise TrainableError(
            f"{file} raised {type(error).__qualname__} when it was imported: {error}\n\n{''.join(lines).rstrip()}",
            hint="the file is imported, not run as a script: put what starts a sweep under "
            "if __name__ == '__main__', and run this where its imports can be found",
        ) from error


def _module_name(file: Path) -> str:
    """Return the name by which the file's neighbours import it; another one if that is taken."""
    name = re.sub(r"\W", "_", file.stem)
    taken = name in sys.stdlib_module_names or name in sys.modules
    return f"_checked_{name}" if taken or name[:1].isdigit() else name


def _suggestion(module: Any, name: str) -> str:
    from tunekit.config.problems import did_you_mean  # noqa: PLC0415 - as above
    from tunekit.trainable import Trainable  # noqa: PLC0415 - as above

    own = {key: value for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
    classes = [key for key, value in own.items() if isinstance(value, type) and issubclass(value, Trainable)]
    functions = [key for key, value in own.items() if callable(value) and not isinstance(value, type)]
    if meant := did_you_mean(name, [*classes, *functions]):
        return f"did you mean {meant!r}?"
    return f"it defines {', '.join([*classes, *functions]) or 'no class or function'}"


def _config(text: str | None) -> dict[str, Any] | None:
    """Return the config as a dict.

    Raises:
        ConfigError: It is not one.
    """
    if text is None:
        return None
    hint = "write an object in quotes, such as --config '{\"lr\": 0.1}'"
    try:
        config = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"--config is no JSON: {error}, got {text!r}", hint=hint) from error
    if not isinstance(config, dict):
        raise ConfigError(f"--config must be a JSON object, got {text}", hint=hint)
    return config


def _fail(error: TunekitError, status: int) -> NoReturn:
    click.echo(f"{click.style(type(error).__name__, fg='red', bold=True)}: {error}", err=True)
    sys.exit(status)
