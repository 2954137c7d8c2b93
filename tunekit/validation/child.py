"""What a fresh process does: runs attempts exactly as a sweep's worker runs them, and tells what it saw."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import msgspec

from tunekit.config import CheckpointConfig
from tunekit.core.commands import ContinueTrial, StopTrial
from tunekit.core.events import (
    CheckpointStaged,
    Event,
    LaunchFailed,
    RestoreFailed,
    ResultReported,
    SaveFailed,
    TrialRaised,
    TrialReturned,
)
from tunekit.errors import TunekitError
from tunekit.runtime.attempt.attempt import run_attempt
from tunekit.runtime.line.spec import AttemptSpec, SweepSpec
from tunekit.store import layout
from tunekit.store import manifest as manifests
from tunekit.store.checkpoint_io import CheckpointIO
from tunekit.store.local import LocalStore
from tunekit.store.verify import verify_folder
from tunekit.trainable import BoundTrainable, OwnCopies, describe
from tunekit.trainable.bound import as_bound
from tunekit.validation.files import state_of
from tunekit.validation.jobs import RESTORING, Job, Outcome, Reply, Row, Run, Saved, Trouble
from tunekit.validation.probe import Probe
from tunekit.validation.watching import watching

SEED = 1
Send = Callable[[Reply], None]


def main() -> None:
    """Read a job from the standard input, and write the replies to the descriptor that the last argument names."""
    job = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Job)
    with os.fdopen(int(sys.argv[-1]), "wb") as pipe:

        def send(reply: Reply) -> None:
            data = msgspec.msgpack.encode(reply)
            pipe.write(len(data).to_bytes(8, "big") + data)
            pipe.flush()

        work(job, send)


def work(job: Job, send: Send) -> None:
    """Do the job, and send what came of each part of it."""
    sys.path[:] = job.sys_path
    try:
        if job.module:
            load_file(*job.module)
        # One and the same class for all runs: what its instances share is shared by the trials of a worker. But each
        # run has a config and parameters of its own, for it may change them.
        copies = OwnCopies(as_bound(cloudpickle.loads(job.trainable)))
        trainables = [copies() for _ in job.runs]
        configs = [cloudpickle.loads(job.config) for _ in job.runs]
        if job.states:
            send(Reply(states=[state_of(Path(folder), job.roots) for folder in job.states]))
    except Exception:  # noqa: BLE001 - whatever user code does when it is imported
        return send(Reply(error=traceback.format_exc()))
    seen: dict[str, bytes] = {}
    for number, (run, trainable, config) in enumerate(zip(job.runs, trainables, configs, strict=True)):
        is_last = number == len(job.runs) - 1
        if run.puts_back:
            run = msgspec.structs.replace(run, put_back=seen)  # noqa: PLW2901 - the same run, completed
        attempt = Attempt(job, run, str(number), send if job.dies and is_last else None)
        outcome = attempt.run(trainable, config)
        if run.resume_from is None and "watched" in outcome.looks:
            seen = outcome.looks["watched"].generators
        send(Reply(outcome=outcome))
    return None


def load_file(name: str, file: str) -> Any:
    """Import a file as the module ``name``, unless it is there."""
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class Attempt:
    """One attempt, in an experiment folder of its own; also the channel to a driver that publishes every checkpoint.

    Args:
        job: What it belongs to.
        run: What to do.
        name: Of its folder.
        last_words: Where to send the outcome before waiting to be killed; None: it ends in peace.
    """

    def __init__(self, job: Job, run: Run, name: str, last_words: Send | None) -> None:
        """Make the folder; nothing runs yet."""
        self._job = job
        self._run = run
        self._name = name
        self._last_words = last_words
        self._outcome = Outcome()
        self._folder = Path(job.root, name)
        self._folder.mkdir(parents=True)
        self._io = CheckpointIO(LocalStore(self._folder))
        self._probe = Probe(run, self._outcome, str(self._folder), job.roots)
        self._trial_name = ""
        self.is_saving = False

    def run(self, bound: BoundTrainable, config: dict[str, Any]) -> Outcome:
        """Run it to its end."""
        info = describe(bound)
        self._trial_name = layout.trial_name(info.name, 0)
        if self._run.resume_from is not None and self._job.checkpoint is not None:
            place = layout.checkpoint_path(self._trial_name, self._run.resume_from)
            shutil.copytree(self._job.checkpoint, self._folder / place)
        is_class = info.kind == "class"
        sweep = SweepSpec(
            experiment="validation",
            path=str(self._folder),
            seed=SEED,
            stop={"training_iteration": self._run.iterations},
            # A function is asked at each report, because it need not have a saver.
            checkpoint=CheckpointConfig(
                checkpoint_frequency=1 if is_class and self._run.saves else 0,
                checkpoint_at_end=True if is_class else None,
            ),
            saves_behind=False,
            capture_output=False,
        )
        spec = AttemptSpec(
            trial=0,
            attempt=1 if self._run.resume_from is None else 2,
            trial_name=self._trial_name,
            config=config,
            resume_from=self._run.resume_from,
            resources=info.resources(config) if callable(info.resources) else info.resources,
        )
        with watching(self._probe, bound) as watched:
            run_attempt(sweep, spec, watched, self, self._io, owns_process=True)
        self._look_at_given()
        return self._outcome

    # -- the channel ---------------------------------------------------------------------------------------------------

    def send(self, event: Event) -> None:
        """Write down what happened; publish what was staged."""
        outcome = self._outcome
        match event:
            case ResultReported():
                outcome.rows.append(Row(event.iteration, dict(event.metrics)))
                self._probe.row(event.iteration)
            case CheckpointStaged():
                self._publish(event)
                self._wait_to_die(is_over=event.iteration == self._run.iterations)
            case SaveFailed():
                outcome.storage = f"{event.error.type}: {event.error.message}"
            case TrialReturned():
                outcome.is_stopped = len(outcome.rows) > 0 and outcome.rows[-1].iteration >= self._run.iterations
                self._wait_to_die(is_over=True)
            case TrialRaised() | RestoreFailed() | LaunchFailed():
                self._note(event)
            case _:
                pass

    def wait(self) -> ContinueTrial | StopTrial:
        """Let it go on."""
        return ContinueTrial(trial=0, attempt=1)

    def pending_stop(self) -> StopTrial | None:
        """Never stop it."""
        return None

    def outlook(self) -> None:
        """Expect nothing: nothing is lost here."""

    def flush(self) -> None:
        """Nothing is held back."""

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _publish(self, event: CheckpointStaged) -> None:
        self._io.publish(self._trial_name, event.iteration, event.attempt, event.manifest)
        place = layout.checkpoint_path(self._trial_name, event.iteration)
        manifest = manifests.check(event.manifest, place)
        files = {entry.name: entry.xxh3_128 for entry in manifest.files}
        self._outcome.saves.append(Saved(event.iteration, f"{self._name}/{place}", files))

    def _note(self, event: TrialRaised | RestoreFailed | LaunchFailed) -> None:
        error = event.error
        method = self._probe.method_of(error.type) if isinstance(event, TrialRaised) else RESTORING
        self._outcome.trouble = Trouble(
            method, self._probe.iteration, error.type, error.message, error.traceback, error.hint
        )

    def _look_at_given(self) -> None:
        """Compare the checkpoint that it went on from with its manifest again: the next attempt may need it too."""
        if self._run.resume_from is None or not self._outcome.is_opened:
            return
        place = self._folder / layout.checkpoint_path(self._trial_name, self._run.resume_from)
        try:
            verify_folder(place, where="its checkpoint")
        except TunekitError as error:
            self._outcome.changed = error.message

    def _wait_to_die(self, *, is_over: bool) -> None:
        """Send the outcome and wait for SIGKILL, so that nothing of user code that would come later runs."""
        if self._last_words is None or not is_over or self._outcome.trouble is not None:
            return
        self._probe.check_handed_in()
        self._look_at_given()
        self._last_words(Reply(outcome=self._outcome))
        if threading.current_thread() is threading.main_thread():
            while True:
                signal.pause()
        threading.Event().wait()


if __name__ == "__main__":
    main()
