"""Looks for everything that is wrong with an experiment, a trial or a checkpoint, and changes nothing.

An experiment may be running meanwhile: what looks wrong because something was published or deleted between two looks is
looked at once more.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from tunekit.errors import JournalCorruptError, JournalVersionError
from tunekit.journal.header import parse_header
from tunekit.store import layout
from tunekit.store.contents import HEADER, Contents, Kind, take_apart
from tunekit.store.inspection import Problem, inspect_checkpoint
from tunekit.store.manifest import Manifest
from tunekit.store.shelf import Found
from tunekit.upkeep.history import History, Known, read_history
from tunekit.upkeep.journals import journal_name, local_journal
from tunekit.upkeep.places import Place, find
from tunekit.upkeep.refusals import MARKER
from tunekit.upkeep.report import Meter, NoMeter, Report
from tunekit.upkeep.threads import each

_NOTHING = "nothing is to be done"


def verify(path: str | os.PathLike[str], *, meter: Meter | None = None) -> Report:
    """Check every hash, every manifest and the journal of an experiment, a trial or a checkpoint.

    Args:
        path: Its folder, as a local path or URI.
        meter: Told how far it has come.

    Raises:
        NothingHereError: There is nothing of the kind.
        ConfigError: The path cannot be used.
        StorageError: The storage failed.
    """
    return verify_place(find(path), meter or NoMeter())


def verify_place(place: Place, meter: Meter) -> Report:
    """Check what was found already; see ``verify``."""
    check = _Check(place, meter, Report(place.uri, place.kind))
    check.run()
    return check.report


@dataclass
class _Check:
    place: Place
    meter: Meter
    report: Report

    def run(self) -> None:
        is_experiment = self.place.kind is Kind.EXPERIMENT
        if is_experiment:
            self.header()
        history = self.history() if is_experiment else None
        parts = take_apart(self.place.shelf.files(), self.place.kind, journal=journal_name(self.place.shelf))
        self.meter.expect(sum(found.size for inside in parts.visible.values() for found in inside.values()))
        shown = self.checkpoints(parts)
        if MARKER in parts.bound:
            self.problem(MARKER, "a copy to this place was interrupted", "run the same tunekit cp again: it goes on")
        if history is not None:
            self.compare(history, parts, shown)

    def header(self) -> None:
        """Read ``experiment.json``."""
        try:
            parse_header(HEADER, self.place.shelf.store.read(HEADER))
        except FileNotFoundError:
            self.problem(
                HEADER, "it is missing", "bring it back from a copy: it does not change once a trial has started"
            )
        except (JournalCorruptError, JournalVersionError) as error:
            self.problem(HEADER, error.message, error.hint)

    def history(self) -> History | None:
        """Read the journal; None if that cannot be done."""
        shelf = self.place.shelf
        name = journal_name(shelf)
        files = [f"{name}/{key}" for key in sorted(shelf.files(name)) if not key.endswith("/")]
        try:
            with local_journal(shelf, name, files) as folder:
                history = read_history(folder)
        except (JournalCorruptError, JournalVersionError) as error:
            file = str(getattr(error, "path", name)).rpartition("/")[2]
            self.problem(f"{name}/{file}" if file.endswith(".jsonl") else name, error.message, error.hint)
            return None
        self.report.num_records = history.num_records
        if history.torn_bytes:
            last = f"{name}/{history.segments[-1].name}"
            torn = f"{history.torn_bytes} bytes behind its last whole record are what a crash left of the next one"
            self.note(last, torn, "nothing is to be done: the next run cuts them off")
        return history

    def checkpoints(self, parts: Contents) -> dict[str, Manifest]:
        """Compare every byte, and return the manifests of those checkpoints that are in order."""
        shown = {}
        visible = parts.visible
        for folder in sorted(parts.checkpoints.keys() - visible.keys()):
            self.note(folder, "it has no manifest, so it is no checkpoint", "tunekit gc removes it")
        found = each(lambda folder: self.checkpoint(folder, visible[folder]), visible, self.place.shelf)
        for folder, answer in zip(visible, found, strict=True):
            if answer is None:
                continue
            manifest, problems = answer
            self.report.problems += problems
            self.report.num_checkpoints += 1
            self.report.num_files += len(visible[folder])
            self.report.num_bytes += sum(max(0, file.size) for file in visible[folder].values())
            if manifest is not None and not problems:
                shown[folder] = manifest
        loose = [*parts.others.values(), *parts.journal.values()]
        self.report.num_files += len(loose)
        self.report.num_bytes += sum(max(0, found.size) for found in loose)
        return shown

    def checkpoint(self, folder: str, inside: Mapping[str, Found]) -> tuple[Manifest | None, list[Problem]] | None:
        """Compare one checkpoint with its manifest; None if a running experiment has deleted it meanwhile."""
        shelf = self.place.shelf
        manifest, problems = inspect_checkpoint(shelf, folder, inside, on_bytes=self.meter.advance)
        if problems and layout.MANIFEST not in shelf.files(folder):
            return None
        if manifest is not None and not problems and (expected := self.misplaced(folder, manifest)):
            key = f"{folder}/{layout.MANIFEST}"
            remedy = f"give the folder the name {expected} again"
            problems = [Problem(key, f"it is the manifest of {expected}", remedy)]
        return manifest, problems

    def misplaced(self, folder: str, manifest: Manifest) -> str:
        """Return where a checkpoint should be, or an empty string if it is there."""
        expected = layout.place(manifest.key)
        if self.place.kind is Kind.TRIAL:
            expected = expected.rpartition("/")[2]
        return "" if self.place.kind is Kind.CHECKPOINT or folder == expected else expected

    def compare(self, history: History, parts: Contents, shown: Mapping[str, Manifest]) -> None:
        """Hold what is visible against what the journal says."""
        missing = _missing(history, parts)
        unknown = _unknown(history, shown)
        if missing or unknown:
            again = self.history()
            if again is None:
                return
            missing = [known for known in missing if known in again.published]
            unknown = [folder for folder in unknown if folder in _unknown(again, shown)]
        for known in missing:
            self.missing(history, known)
        for folder in unknown:
            told = "the journal does not know it"
            self.note(
                folder, told, "the next run takes it in if the journal holds all of its results, else puts it aside"
            )
        for known in history.staged:
            staging = history.staging(known)
            is_there = staging in parts.aside or history.folder(known) in parts.checkpoints
            if not is_there and known in (self.history() or history).staged:
                self.note(staging, "it is gone, though the journal waits for it", _NOTHING)

    def missing(self, history: History, known: Known) -> None:
        """Tell of a checkpoint that the journal holds to be there."""
        folder = history.folder(known)
        if known.trial in history.unsure:
            told = "it is gone; the driver died before it could say whether it deleted it"
            self.note(folder, told, _NOTHING)
            return
        told = "it is missing, though the journal says that it was published and not deleted"
        self.problem(folder, told, "bring it back from a copy, or run on: the trial goes on from its checkpoint before")

    def problem(self, file: str, what: str, remedy: str) -> None:
        """Note something that is wrong."""
        self.report.problems.append(Problem(file, what, remedy))

    def note(self, file: str, what: str, remedy: str) -> None:
        """Note something that is worth knowing."""
        note = Problem(file, what, remedy)
        if note not in self.report.notes:
            self.report.notes.append(note)


def _missing(history: History, parts: Contents) -> list[Known]:
    """Return what the journal holds to be visible and is not; damage is told elsewhere."""
    visible = parts.visible
    return [known for known in history.published if history.folder(known) not in visible]


def _unknown(history: History, shown: Mapping[str, Manifest]) -> list[str]:
    """Return what is visible and in order, and not what the journal published or is about to publish."""
    digests = {*history.published.values(), *(manifest.get("digest") for manifest in history.staged.values())}
    adopted = {history.folder(known) for known, digest in history.published.items() if not digest}
    return [folder for folder, manifest in shown.items() if manifest.digest not in digests and folder not in adopted]
