"""A store in a bucket of an object store: S3, Google Cloud Storage, Azure, and what speaks like them.

There, an object appears whole or not at all, nothing can be renamed, and a reply can be lost while the write was done.
So each attempt uploads to keys that nobody else writes (``object_places``), and one small conditional write, the
manifest's, makes them visible. Deleting goes the other way round. Bytes go from the worker to the service and from the
service to the worker; clones and what is put aside are copied inside the service.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Sequence
from pathlib import Path

from tunekit.errors import StorageError
from tunekit.store import layout
from tunekit.store.base import PutOutcome, storage_errors
from tunekit.store.object_client import Listed, ObjectClient, Patience
from tunekit.store.object_folders import FOLDERS, LocalFolders
from tunekit.store.object_places import EMPTY, Place, data_of, manifest_key, place_of, staged, stays, visible
from tunekit.store.object_requests import ObjectRequests


class ObjectStore:
    """Objects below one folder of a bucket.

    Args:
        client: Asks the service.
        patience: How long requests are tried again.
        local_folders: Where local copies lie; replaced by tests.
    """

    def __init__(
        self, client: ObjectClient, *, patience: Patience | None = None, local_folders: LocalFolders | None = None
    ) -> None:
        """Remember the parts; nothing is asked yet."""
        self._client = client
        self._requests = ObjectRequests(client, patience or Patience())
        self._folders = local_folders or FOLDERS

    def __repr__(self) -> str:
        """Return the class and the URI."""
        return f"ObjectStore({self.uri!r})"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as the client, which carries what is needed to reach the bucket but no secrets."""
        return (ObjectStore, (self._client,))

    @property
    def uri(self) -> str:
        """The URI of the folder."""
        return self._client.uri

    @property
    def client(self) -> ObjectClient:
        """Asks the service; a request of its own is not tried again."""
        return self._client

    def check(self) -> None:
        """Ask for something.

        Raises:
            StorageError: The bucket cannot be reached or read.
        """
        try:
            self._requests.ask("open", "", lambda: next(iter(self._client.listed("")), None))
        except FileNotFoundError as error:
            raise StorageError(
                f"could not open {self._requests.where('')}: there is no such bucket",
                hint="create it, or check its name",
                path=self.uri,
            ) from error

    # -- staging and publishing ----------------------------------------------------------------------------------------

    def scratch(self, staging: str) -> Path:
        """Return a new local folder to upload from."""
        full = self._full(staging)
        if full in self._folders.uploaded or full in self._folders.scratch:
            self.remove(staging)
        with storage_errors("create a folder for", staging):
            path = self._folders.scratch[full] = self._folders.new()
        return path

    def persist(self, staging: str, files: Sequence[str]) -> None:
        """Upload the files, several at a time; the local folder goes away."""
        full = self._full(staging)
        path = self._folders.scratch.get(full)
        if path is None:
            return  # uploaded before
        self._folders.uploaded.add(full)
        self._requests.upload(place_of(staging).prefix, path, files)
        self._folders.scratch.pop(full, None)
        shutil.rmtree(path, ignore_errors=True)

    def clone(self, folder: str, staging: str) -> None:
        """Copy the files of ``folder`` inside the service, without its manifest."""
        found = set(self._published(folder)) - {layout.MANIFEST}
        data = data_of(self.read(manifest_key(folder))) if found else ""
        if not found and not self._listing(folder):
            raise FileNotFoundError(errno.ENOENT, "no such folder", self._requests.where(folder))
        full, prefix = self._full(staging), place_of(staging).prefix
        if full in self._folders.uploaded:
            self.remove(staging)
        self._folders.uploaded.add(full)
        start = f"{folder}/{data}/" if data else f"{folder}/"
        self._requests.copy({f"{folder}/{name}": prefix + f"{folder}/{name}".removeprefix(start) for name in found})
        self._requests.mark(prefix, found)

    def commit(self, staging: str, folder: str, manifest: bytes) -> None:
        """Create the manifest, or put it in the place of an older one, in one request for all who look."""
        key = manifest_key(folder)
        place = place_of(staging)
        try:
            shown, tag = self.read_tagged(key)
        except FileNotFoundError:
            shown, tag = b"", None
        there = self._keys_below(f"{folder}/")
        if shown != manifest:
            self._bring_together(place, folder, there)
            outcome = self.replace(key, manifest, tag)
            if outcome not in {PutOutcome.CREATED, PutOutcome.MINE}:
                where = self._requests.where(folder)
                raise StorageError(
                    f"could not publish {where}: its manifest was not stored (outcome: {outcome})",
                    hint="check that the storage is reachable, and that no other driver runs this experiment",
                    path=where,
                )
        keep = data_of(manifest) or ""  # one that was copied here from a disk has its files beside it
        marker = f"{folder}/{keep}/{EMPTY}"
        old = [each for each in there if each != key and keep and not stays(each, folder, keep)]
        self._requests.delete([*old, marker] if marker in there else old)
        if place.folder != folder:
            self._requests.delete(self._keys_below(place.prefix))

    def remove(self, folder: str, *, aside: str = "") -> None:
        """Delete the manifest, then the rest; before, copy it to ``aside`` if that is given."""
        if folder.startswith(f"{layout.STAGING}/"):
            return self._remove_staged(folder)
        if aside:
            self._put_aside(folder, aside)
        return self._delete_folder(folder)

    # -- reading -------------------------------------------------------------------------------------------------------

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the size of every object in sight; below ``.staging``, of those out of sight."""
        if folder == layout.STAGING:
            return self._staged_sizes()
        return {name: entry.size for name, entry in self._seen(folder).items() if name.rpartition("/")[2] != EMPTY}

    def has(self, folder: str) -> bool:
        """Return whether something is in sight below a folder, or staged under its name."""
        return bool(self._seen(folder))

    def read(self, key: str) -> bytes:
        """Return the content of one object."""
        return self.read_tagged(key)[0]

    def read_tagged(self, key: str) -> tuple[bytes, str]:
        """Return the content of one object and the service's tag of it."""
        return self._requests.read_tagged(key)

    def local(self, folder: str) -> Path:
        """Download the folder into a new one, which the caller may remove.

        Otherwise it is removed when the process ends, or when several others have been downloaded since.
        """
        found = self._seen(folder) if folder.startswith(f"{layout.STAGING}/") else self._published(folder)
        if not found:
            raise FileNotFoundError(errno.ENOENT, "no such folder", self._requests.where(folder))
        sizes = {name: entry.size for name, entry in found.items() if name.rpartition("/")[2] != EMPTY}
        prefix = place_of(folder).prefix

        def fill(path: Path) -> None:
            for parent in {(path / name).parent for name in found}:
                parent.mkdir(parents=True, exist_ok=True)
            self._requests.download(prefix, path, sizes)

        return self._folders.downloaded(fill)

    # -- single objects ------------------------------------------------------------------------------------------------

    def put_if_absent(self, key: str, data: bytes) -> PutOutcome:
        """Create an object under the condition that it does not exist."""
        return self._requests.write_if(key, data, lambda: self._client.create(key, data))

    def replace(self, key: str, data: bytes, tag: str | None) -> PutOutcome:
        """Overwrite an object under the condition that its tag is still the same."""
        if tag is None:
            return self.put_if_absent(key, data)
        return self._requests.write_if(key, data, lambda: self._client.swap(key, data, tag))

    def data_folder(self, staging: str) -> str:
        """Return the attempt's own folder."""
        return place_of(staging).data

    def abort_uploads(self, older_than_s: float) -> list[str]:
        """Drop the parts of large files whose writers died. Not tried again: that is done another day."""
        return self._requests.abort_uploads(older_than_s)

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _bring_together(self, place: Place, folder: str, there: Sequence[str]) -> None:
        """See that the staged files are where the manifest will look for them."""
        elsewhere = place.folder != folder
        found = [
            key for key in (self._keys_below(place.prefix) if elsewhere else there) if key.startswith(place.prefix)
        ]
        if not found:
            raise FileNotFoundError(errno.ENOENT, "neither staged nor published", self._requests.where(folder))
        if elsewhere:
            start = f"{folder}/{place.data}/" if place.data else f"{folder}/"
            self._requests.copy({key: start + key.removeprefix(place.prefix) for key in found})

    def _remove_staged(self, staging: str) -> None:
        full = self._full(staging)
        if path := self._folders.scratch.pop(full, None):
            shutil.rmtree(path, ignore_errors=True)
        prefix = place_of(staging).prefix
        self._requests.delete([prefix + name for name in self._staged_listing(staging, in_doubt=False)])
        self._folders.uploaded.discard(full)

    def _put_aside(self, folder: str, aside: str) -> None:
        """Copy a folder, its manifest last: a copy with a manifest is whole. One that is not is gone on with."""
        keys = {f"{folder}/{name}" for name in self._published(folder)}
        if not keys:
            return
        manifest = {manifest_key(folder)} & keys
        place, count = aside, 1
        while (there := set(self._listing(place))) and (not manifest or layout.MANIFEST in there):
            count += 1
            place = f"{aside}-{count}"
        self._requests.copy({key: place + key.removeprefix(folder) for key in keys - manifest})
        self._requests.copy({key: place + key.removeprefix(folder) for key in manifest})

    def _delete_folder(self, folder: str) -> None:
        """Delete a folder, every manifest first.

        Of a checkpoint only what its manifest says to be its own, and what older attempts left: a newer one may have
        staged its files beside them. What nobody can tell whose it is stays out of sight, to be swept.
        """
        keys = self._keys_below(f"{folder}/")
        own = manifest_key(folder)
        data = data_of(self.read(own)) if own in keys else None
        manifests = [key for key in keys if key.rpartition("/")[2] == layout.MANIFEST]
        self._requests.delete(manifests)
        self._requests.delete(
            [key for key in keys if key not in manifests and not stays(key, folder, data or "", also=False)]
        )

    def _published(self, folder: str) -> dict[str, Listed]:
        """Return what a published folder consists of by names relative to it, without what other attempts left."""
        found = self._listing(folder)
        if layout.MANIFEST not in found:
            return found
        data = data_of(self.read(manifest_key(folder)))
        if not data:
            return found
        return {name: entry for name, entry in found.items() if name == layout.MANIFEST or name.startswith(f"{data}/")}

    def _listing(self, folder: str) -> dict[str, Listed]:
        """Return what is in sight below a folder by names relative to it."""
        prefix = f"{folder}/" if folder else ""
        found = self._requests.listed(prefix)
        seen = visible(found)
        return {key.removeprefix(prefix): entry for key, entry in found.items() if key in seen}

    def _seen(self, folder: str) -> dict[str, Listed]:
        return self._staged_listing(folder) if folder.startswith(f"{layout.STAGING}/") else self._listing(folder)

    def _staged_listing(self, staging: str, *, in_doubt: bool = True) -> dict[str, Listed]:
        """Return what is staged under a name, unless it is published.

        Args:
            staging: The name.
            in_doubt: Whether to take it for staged when the manifest beside it is damaged and cannot say.
        """
        place = place_of(staging)
        found = self._requests.listed(place.prefix)
        if found and place.data and self._is_published(place, in_doubt=not in_doubt):
            return {}
        return {key.removeprefix(place.prefix): entry for key, entry in found.items()}

    def _is_published(self, place: Place, *, in_doubt: bool) -> bool:
        try:
            data = data_of(self.read(manifest_key(place.folder)))
        except FileNotFoundError:
            return False
        return in_doubt if data is None else data == place.data

    def _staged_sizes(self) -> dict[str, int]:
        own = f"{self._full(layout.STAGING)}/"
        result = {f"{full.removeprefix(own)}/": 0 for full in list(self._folders.scratch) if full.startswith(own)}
        keys = self._requests.listed("")
        inside = f"{layout.STAGING}/"
        for key in keys:
            if key.startswith(inside):
                result[key.removeprefix(inside)] = keys[key].size
        for staging in staged(keys, self.read):
            name = staging.removeprefix(inside)
            result.pop(f"{name}/", None)
            prefix = place_of(staging).prefix
            for key, entry in keys.items():
                if key.startswith(prefix):
                    empty = key == prefix + EMPTY
                    result[f"{name}/" + ("" if empty else key.removeprefix(prefix))] = 0 if empty else entry.size
        return result

    def _keys_below(self, prefix: str) -> list[str]:
        return list(self._requests.listed(prefix))

    def _full(self, folder: str) -> str:
        return f"{self.uri}\n{folder}"
