"""The parts of a copy: what is missing or different is brought from one shelf to another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tunekit.errors import CheckpointCorruptError, CheckpointError
from tunekit.store import folders
from tunekit.store.contents import Contents
from tunekit.store.copying import copy_checkpoint, plan, read_visible
from tunekit.store.inspection import Problem, read_manifest
from tunekit.store.layout import MANIFEST
from tunekit.store.manifest import Manifest
from tunekit.store.shelf import Found, Shelf
from tunekit.upkeep.report import Meter, Report
from tunekit.upkeep.threads import each

_DAMAGED = "it was left out of the copy: mend it, or copy again after the next checkpoint"


@dataclass
class CopyReport(Report):
    """What was copied. The counts of ``Report`` are those of the source."""

    target: str = ""
    num_copied: int = 0
    """Checkpoints."""
    num_kept: int = 0
    """Checkpoints that were there already."""
    num_removed: int = 0
    """Checkpoints that the source no longer has."""
    bytes_copied: int = 0
    verified: bool = False


class Wanted(NamedTuple):
    """A checkpoint of the source, to be copied."""

    at: str
    """Its folder there."""
    data: bytes
    """Its manifest."""
    manifest: Manifest
    """The same, checked."""


@dataclass
class Transfer:
    """From where, to where, and what was done."""

    source: Shelf
    target: Shelf
    report: CopyReport
    meter: Meter
    name: str = ""
    """What a single checkpoint, which is the source itself, is called at the target."""
    forced: frozenset[str] = frozenset()
    """Folders that are copied even if they look the same."""
    kept: set[str] = field(default_factory=set)
    """Folders that were there already."""
    copied: set[str] = field(default_factory=set)
    """Folders that were not, or had to be copied again."""

    def readable(self, parts: Contents) -> dict[str, Wanted]:
        """Return the manifests of the checkpoints that can be copied; what is wrong with the others is reported."""
        visible = parts.visible

        def read(folder: str) -> Wanted | CheckpointError:
            try:
                return Wanted(folder, *read_visible(self.source, folder, visible[folder], self._where(folder)))
            except CheckpointError as error:
                return error

        found = {}
        for folder, answer in zip(visible, each(read, visible, self.source), strict=True):
            if isinstance(answer, Wanted):
                found[folder] = answer
            else:
                self._report_damage(folder, answer)
        return found

    def shown(self, parts: Contents) -> dict[str, bytes]:
        """Return the manifests of what the target shows and what is as large as it should be."""
        visible = parts.visible

        def read(folder: str) -> bytes:
            try:
                return read_visible(self.target, folder or self.name, visible[folder], folder)[0]
            except CheckpointError:
                return b""

        found = zip(visible, each(read, visible, self.target), strict=True)
        return {folder: data for folder, data in found if data}

    def checkpoints(self, wanted: Mapping[str, Wanted], present: Mapping[str, bytes]) -> list[str]:
        """Bring the checkpoints over that the target lacks or has otherwise, and return the folders it has beyond.

        Raises:
            FileNotFoundError: One of the source is gone.
            StorageError: The storage failed.
        """
        whole = {folder: data for folder, data in present.items() if folder not in self.forced}
        todo = plan({folder: each.data for folder, each in wanted.items()}, whole)
        for folder in todo.copy:
            self.meter.expect(sum(entry.size for entry in wanted[folder].manifest.files))
        ends = self.source, self.target
        copied = each(lambda folder: self._checkpoint(folder, wanted[folder]), todo.copy, *ends, writes=True)
        for folder, num_bytes in zip(todo.copy, copied, strict=True):
            if isinstance(num_bytes, CheckpointCorruptError):
                self._report_damage(folder, num_bytes)
                continue
            self.copied.add(folder)
            self.report.bytes_copied += num_bytes
        self.kept = {*todo.keep} - self.copied
        self.report.num_kept, self.report.num_copied = len(self.kept), len(self.copied)
        return sorted(present.keys() - wanted.keys())

    def _checkpoint(self, folder: str, wanted: Wanted) -> int | CheckpointCorruptError:
        try:
            return copy_checkpoint(
                self.source,
                wanted.at,
                self.target,
                folder or self.name,
                data=wanted.data,
                manifest=wanted.manifest,
                where=self._where(wanted.at),
                on_bytes=self.meter.advance,
            )
        except CheckpointCorruptError as error:
            return error

    def files(self, wanted: Mapping[str, Found], present: Mapping[str, Found]) -> None:
        """Bring single files over that the target lacks or has otherwise.

        Raises:
            FileNotFoundError: One of the source is gone.
            StorageError: The storage failed.
        """
        for name, found in wanted.items():
            if found.size == folders.NOT_A_FILE:
                self.report.notes.append(
                    Problem(name, "it was not copied: it is not a regular file", "copy its content")
                )
                continue
            with self.source.opened(name) as path:
                same_size = name in present and present[name].size == found.size
                if not (same_size and self._digest(name) == folders.digest(path)[1]):
                    self.meter.expect(found.size)
                    self.target.put(name, path, self.meter.advance)
                    self.report.bytes_copied += found.size

    def names(self, parts: Contents) -> set[str]:
        """Return the names of the trials whose checkpoints the target shows."""
        found = (read_manifest(self.target, folder) for folder in parts.visible)
        return {manifest.trial_name for manifest in found if isinstance(manifest, Manifest)}

    def count(self, parts: Contents) -> None:
        """Note in the report what the source is."""
        visible = parts.visible.values()
        files = [
            *parts.others.values(),
            *parts.journal.values(),
            *(found for inside in visible for found in inside.values()),
        ]
        self.report.num_checkpoints = len(visible)
        self.report.num_files = len(files)
        self.report.num_bytes = sum(max(0, found.size) for found in files)

    def _digest(self, name: str) -> str:
        with self.target.opened(name) as path:
            return folders.digest(path)[1]

    def _where(self, folder: str) -> str:
        return f"{self.report.path.rstrip('/')}/{folder}".rstrip("/")

    def _report_damage(self, folder: str, error: CheckpointError) -> None:
        name = f"{folder}/{getattr(error, 'file', MANIFEST)}".lstrip("/")
        problem = Problem(name, str(getattr(error, "problem", error.message)), _DAMAGED)
        if problem not in self.report.problems:
            self.report.problems.append(problem)
