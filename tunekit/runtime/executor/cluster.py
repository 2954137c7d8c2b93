"""Ray itself: started quietly when it is not running, joined when it is, left as it was found."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray._private import client_mode_hook
from ray.exceptions import RuntimeEnvSetupError

from tunekit.errors import ExperimentError
from tunekit.runtime.executor.late_modules import put_off_modules
from tunekit.runtime.executor.late_serializers import put_off_serializers, withdraw
from tunekit.runtime.executor.private_ray import answers, private, would_be_started
from tunekit.runtime.line.shapes import Node

_nodes: Callable[[], list[dict[str, Any]]] = ray.nodes


class Cluster:
    """The Ray cluster that this process is connected to, and whether it is ours to end.

    Sweeps that run at the same time in one process share the connection, and the last one disconnects.

    Args:
        address: Where Ray runs; None: what ``RAY_ADDRESS`` says, else the cluster that ``ray start`` left running on
            this machine, else a new local one: as ``ray.init()`` does. Without meaning when this process is connected
            already.

    Raises:
        ExperimentError: Ray could not be started or joined.
    """

    def __init__(self, address: str | None = None) -> None:
        """Connect, unless the user has done so."""
        self.is_joined = _connection.enter(self, _address(address))
        """Whether the connection was there before any sweep."""
        self._later = None
        try:
            self._later = put_off_serializers()
            self.here: str = ray.get_runtime_context().get_node_id()
            """Id of the driver's node."""
        except BaseException:
            self.leave()
            raise

    def nodes(self) -> list[Node]:
        """Return the machines that are alive."""
        return [Node(node["NodeID"], node["Resources"]) for node in _nodes() if node["Alive"]]

    def free(self) -> Mapping[str, float]:
        """Return what nobody uses at the moment, all machines together."""
        return dict(ray.available_resources())  # type: ignore[no-untyped-call]

    def logs(self) -> Path | None:
        """Return the folder of Ray's logs on this machine; None if it is not known."""
        try:
            node: Any = ray._private.worker._global_node  # noqa: SLF001 - Ray has no public question for it
            return Path(node.get_logs_dir_path())
        except Exception:  # noqa: BLE001 - nor a promise that this one stays
            return None

    def growth(self) -> list[Mapping[str, float]]:
        """Return what the nodes have that an autoscaler may add; nothing if it is not known to be there."""
        try:
            config = ray._private.state.state.get_cluster_config()  # noqa: SLF001 - Ray has no public question for it
        except Exception:  # noqa: BLE001 - nor a promise that this one stays
            return []
        groups = config.node_group_configs if config is not None else ()
        return [dict(group.resources) for group in groups if group.max_count]

    def leave(self) -> None:
        """Disconnect if we connected and no other sweep goes on; a local cluster of ours ends with that."""
        if self._later is not None:
            withdraw(self._later)
        _connection.leave(self)


def is_there(address: str | None = None) -> bool:
    """Return whether a cluster is there to be joined, so that none would be started or waited for.

    Args:
        address: As for ``Cluster``.

    Raises:
        ExperimentError: It would be reached through Ray Client.
    """
    address = _address(address)
    return ray.is_initialized() or answers(address)


def node_of(actor: str, error: BaseException) -> str:
    """Return the id of the node on which an actor could not be started; empty if it is not known, or there was none.

    Args:
        actor: Its id.
        error: What Ray raised. Of an actor that it could place nowhere it would name the node of its owner.
    """
    try:
        info: Any = ray._private.state.actors(actor)  # noqa: SLF001 - Ray has no public question for it
        is_placed = info["Pid"] or isinstance(error, RuntimeEnvSetupError)
        return str(info["Address"]["NodeID"]) if is_placed else ""
    except Exception:  # noqa: BLE001 - nor a promise that this one stays
        return ""


class _Connection:
    """This process's connection to Ray, and the sweeps that it was made for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sweeps: set[Cluster] = set()
        self._environment: dict[str, str | None] = {}
        """What Ray has changed in the environment, as it was before; while Ray runs, it needs its own."""

    def enter(self, sweep: Cluster, address: str | None) -> bool:
        """Connect if nobody has. Return whether the connection is somebody else's."""
        with self._lock:
            if not ray.is_initialized():
                self._sweeps.clear()  # Should there be any, somebody has disconnected them.
                before = dict(os.environ)
                try:
                    _connect(address)
                except BaseException:  # By then Ray may have connected.
                    self._note_changes(before)
                    self._disconnect()
                    raise
                self._note_changes(before)
            elif not self._sweeps:
                return True
            self._sweeps.add(sweep)
            return False

    def _note_changes(self, before: Mapping[str, str]) -> None:
        changed = {name for name, _ in before.items() ^ os.environ.items()}
        self._environment = {name: before.get(name) for name in changed}

    def leave(self, sweep: Cluster) -> None:
        """Disconnect after the last sweep."""
        with self._lock:
            if sweep in self._sweeps:
                self._sweeps.remove(sweep)
                if not self._sweeps:
                    self._disconnect()

    def _disconnect(self) -> None:
        if ray.is_initialized():
            ray.shutdown()
            for name, value in self._environment.items():
                _set(name, value)


_connection = _Connection()


def _address(address: str | None) -> str | None:
    """Return where Ray runs, as far as it is said.

    Raises:
        ExperimentError: It would be reached through Ray Client; or is, by a connection of the user's.
    """
    address = address or os.environ.get("RAY_ADDRESS") or None
    if ray.is_initialized():
        is_client = client_mode_hook.client_mode_should_convert()  # type: ignore[no-untyped-call]
    else:
        is_client = (address or "").startswith("ray://")
    if is_client:
        raise ExperimentError(
            "this process would reach Ray through Ray Client (ray://…), and its workers could not reach it",
            hint="run the script on a node of the cluster, for instance by `ray job submit`",
        )
    return address


def _connect(address: str | None) -> None:
    try:
        with contextlib.ExitStack() as during:
            during.enter_context(_undisturbed())
            during.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            during.enter_context(private() if would_be_started(address) else put_off_modules())
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
    except Exception as error:
        what = f"joined at {address}" if address not in {None, "local"} else "started or joined"
        raise ExperimentError(
            f"Ray could not be {what}: {error}",
            hint="start it yourself with ray.init(…) before fit(), or use tunekit.inline, which needs no Ray; "
            "`ray stop` makes it forget a cluster that has died",
        ) from error


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep Ray from changing what belongs to this process: how it ends, and its environment."""
    name = "RAY_USAGE_STATS_ENABLED"
    value = os.environ.get(name)
    # Ray would report usage statistics to its makers; a cluster that we start does not.
    os.environ.setdefault(name, "0")
    try:
        with _same_handlers():
            yield
    finally:
        _set(name, value)


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


@contextmanager
def _same_handlers() -> Iterator[None]:
    """Put signal handlers back: with Ray's, SIGTERM would end a driver at once instead of cleanly."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Ray installs none then.
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except SystemExit as end:
        if isinstance(end, KeyboardInterrupt):  # Ours, from a second Ctrl-C.
            raise
        raise SystemExit(128 + signal.SIGTERM) from end  # Ray's, whose codes differ.
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
