"""The record in every checkpoint that makes it one: ``MANIFEST.json``.

It lists each file with its size and xxh3-128, says which trial, iteration and attempt wrote them and how good the trial
was then, and closes with a digest of itself, taken over its own canonical JSON without that field. Nothing in it is
absolute, so a folder means the same wherever it is copied to. Fields that this version does not know are kept and count
for the digest; a newer format version is refused.

Between processes and in the journal a manifest travels as a plain dict (a *document*), the digest included, so that
what the driver writes is to the letter what the worker sealed.
"""

from __future__ import annotations

import contextlib
import platform
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
import xxhash

import tunekit
from tunekit.config.problems import why_no_folder_name
from tunekit.core import codec
from tunekit.errors import CheckpointCorruptError, CheckpointVersionError, JournalVersionError, ReportError, SaveError
from tunekit.store import layout
from tunekit.store.layout import CheckpointKey
from tunekit.types import Json

FORMAT = codec.FORMAT_VERSION
MAX_FILES = 10_000
"""The list of files goes through the journal; more files than this belong into an archive."""
MAX_BYTES = 1 << 24

_Hex = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
_Count = Annotated[int, msgspec.Meta(ge=0, lt=10**18)]


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a checkpoint."""

    name: str
    """Relative to the folder of the files, with ``/``."""
    size: _Count
    xxh3_128: _Hex


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The checked content of a manifest."""

    format: int
    trial_name: str
    iteration: _Count
    attempt: _Count
    files: Annotated[list[FileEntry], msgspec.Meta(max_length=MAX_FILES)]
    """Sorted by name."""
    digest: _Hex
    data: str = ""
    """Folder inside the checkpoint in which the files are. Empty: the checkpoint's own folder."""
    metrics: dict[str, Any] = {}
    """The row of results at this iteration."""
    score: float | None = None
    """What retention ranks it by."""
    time_total_s: float = 0.0
    """Seconds of training that led to it."""
    reason: str = ""
    """Why it was saved."""
    config_digest: str = ""
    environment: dict[str, Any] = {}
    """Versions and devices that it was written with; see ``environment()``."""
    exact: bool = True
    """Whether going on from it continues the trial bit for bit. Not so for one that was saved after an exception."""
    parent: _Count | None = None
    """Iteration of the checkpoint that this one goes back to: the one saved before it, or else resumed from."""
    donor: str | None = None
    """Place of another trial's checkpoint that this one goes back to, such as ``train_00003/checkpoint_000010``."""

    @property
    def key(self) -> CheckpointKey:
        """What makes this checkpoint unique."""
        return CheckpointKey(self.trial_name, self.iteration, self.attempt, self.exact)


def seal(key: CheckpointKey, files: Sequence[FileEntry], metadata: Mapping[str, Json]) -> dict[str, Json]:
    """Return the document of a checkpoint.

    Args:
        key: What the checkpoint is.
        files: Its files.
        metadata: What else to remember; see the fields of ``Manifest``. Others are kept as they are.

    Raises:
        SaveError: Too many files, or something in ``metadata`` that JSON cannot say.
    """
    if len(files) > MAX_FILES:
        raise SaveError(
            f"a checkpoint may hold at most {MAX_FILES} files, got {len(files)}",
            hint="put the many small files into one archive (tarfile, zipfile) before saving",
        )
    document = {
        "exact": key.exact,
        **{str(name): plain(value, str(name)) for name, value in metadata.items()},
        "format": FORMAT,
        "trial_name": key.trial_name,
        "iteration": key.iteration,
        "attempt": key.attempt,
        "files": [msgspec.structs.asdict(entry) for entry in sorted(files, key=lambda entry: entry.name)],
    }
    document.pop("digest", None)
    return {**document, "digest": digest(document)}


def environment() -> dict[str, Json]:
    """Return what a checkpoint that this process writes is written with.

    Versions of NumPy and torch, and ``device``, are of what the process has loaded and begun to use: looking loads and
    initialises nothing, so it can be asked beside user code.
    """
    found: dict[str, Json] = {
        "tunekit": tunekit.__version__,
        "python": platform.python_version(),
        "platform": f"{sys.platform}-{platform.machine()}",
        "device": "cpu",
    }
    found |= {name: str(sys.modules[name].__version__) for name in ("numpy", "torch") if _is_loaded(name)}
    if "torch" in found:
        with contextlib.suppress(Exception):  # Whatever goes by that name, it must not cost a checkpoint.
            found |= _of_torch(sys.modules["torch"])
    return found


def _of_torch(torch: Any) -> dict[str, Json]:
    found: dict[str, Json] = {"threads": int(torch.get_num_threads())}
    if torch.cuda.is_initialized():
        found["device"] = "cuda"
        found["device_name"] = str(torch.cuda.get_device_name())
        found["cuda"] = str(torch.version.cuda or torch.version.hip)
    return found


def _is_loaded(module: str) -> bool:
    """Return whether a module is loaded, and not only half, as in the middle of an import by another thread."""
    found = sys.modules.get(module)
    return hasattr(found, "__version__") and not getattr(getattr(found, "__spec__", None), "_initializing", False)


def digest(document: Mapping[str, Json]) -> str:
    """Return the digest that closes ``document``."""
    rest = {name: value for name, value in document.items() if name != "digest"}
    return xxhash.xxh3_128_hexdigest(codec.encode_value(_sorted(rest)))


def encode(document: Mapping[str, Json]) -> bytes:
    """Return the file's content, without a newline at its end, so that any cut is noticed."""
    return msgspec.json.format(codec.encode_value(_sorted(document)), indent=1)


def decode(data: bytes, where: str) -> Manifest:
    """Return the checked content of the manifest's file of the checkpoint ``where``; see ``check`` for the errors."""
    return check(parse(data, where), where)


def parse(data: bytes, where: str) -> Any:
    """Return the document in the manifest's file of the checkpoint ``where``, unchecked.

    Raises:
        CheckpointCorruptError: It is no JSON that tunekit writes.
    """
    if len(data) > MAX_BYTES:
        raise corrupt(where, layout.MANIFEST, f"it is {len(data)} bytes long, at most {MAX_BYTES} are allowed")
    try:
        return codec.decode_value(data)
    except (msgspec.DecodeError, JournalVersionError, ValueError, TypeError, RecursionError) as error:
        raise corrupt(where, layout.MANIFEST, f"it is not JSON of ours ({error})") from error


def check(document: Any, where: str) -> Manifest:
    """Return the checked content of a document.

    Args:
        document: A manifest as a dict.
        where: The checkpoint's folder, for messages.

    Raises:
        CheckpointCorruptError: It is not a manifest, does not match its digest, or lists files outside of its folder.
        CheckpointVersionError: A newer tunekit wrote it.
    """
    if not isinstance(document, Mapping):
        raise corrupt(where, layout.MANIFEST, "it is not a JSON object")
    version = document.get("format")
    if isinstance(version, int) and version > FORMAT:
        raise CheckpointVersionError(
            f"the checkpoint {where} has format version {version}, but this tunekit reads versions up to {FORMAT}",
            hint="install a newer tunekit to use this checkpoint; nothing was changed",
            path=where,
            version=version,
        )
    try:
        if document.get("digest") != digest(document):
            raise corrupt(where, layout.MANIFEST, "its content does not match its own digest")
        manifest = msgspec.convert(document, Manifest, strict=True)
    except (msgspec.ValidationError, ReportError, TypeError, RecursionError) as error:
        raise corrupt(where, layout.MANIFEST, str(error)) from error
    if problem := _problem(manifest):
        raise corrupt(where, layout.MANIFEST, problem)
    return manifest


def plain(value: Any, where: str) -> Json:
    """Return ``value`` as JSON can say it, tuples as lists; NaN and infinities are allowed.

    Raises:
        SaveError: It is something else; ``where`` is the way to it.
    """
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)  # numpy's float64 and enums are subclasses that other encoders treat as strangers
    if value is None:
        return None
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}/{index}") for index, item in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: plain(item, f"{where}/{name}") for name, item in value.items()}
    raise SaveError(
        f"{where}: got {type(value).__qualname__}, but a checkpoint's record holds only "
        "None, bool, int, float, str, and lists and string-keyed dicts of them",
        hint="convert it, for example with float(x) or x.tolist(), or save it in a file of the checkpoint",
    )


def _problem(manifest: Manifest) -> str:
    """Return what is wrong with a manifest whose types are right, or an empty string."""
    names = [entry.name for entry in manifest.files]
    folders = {name[:end] for name in names for end, char in enumerate(name) if char == "/"}
    problems = [(f"file {name!r}", layout.path_problem(name)) for name in names]
    problems.append((f"trial name {manifest.trial_name!r}", why_no_folder_name(manifest.trial_name)))
    if manifest.data:
        problems.append((f"data folder {manifest.data!r}", why_no_folder_name(manifest.data)))
    if manifest.format != FORMAT:
        problems.append(("its format version", f"it is {manifest.format}"))
    if layout.MANIFEST in names:
        problems.append(("its list of files", "it contains the manifest itself"))
    if len(set(names)) < len(names) or folders.intersection(names):
        problems.append(("its list of files", "a name is used twice"))
    return next((f"{what}: {problem}" for what, problem in problems if problem), "")


def corrupt(where: str, file: str, problem: str) -> CheckpointCorruptError:
    """Return the error for a damaged checkpoint.

    Args:
        where: The checkpoint's folder.
        file: The damaged file, relative to it.
        problem: What is wrong with it, as a clause.
    """
    return CheckpointCorruptError(
        f"the checkpoint {where} is damaged: {file}: {problem}",
        hint="restore the folder from a copy, or use another checkpoint of the trial; "
        "a running sweep puts this one aside and goes on from the previous one",
        path=where,
        file=file,
        problem=problem,
    )


def _sorted(value: Json) -> Json:
    """Return ``value`` with the keys of its dicts in order, so that equal documents have equal text."""
    if isinstance(value, Mapping):
        return {name: _sorted(value[name]) for name in sorted(value)}
    if isinstance(value, list | tuple):
        return [_sorted(item) for item in value]
    return value
