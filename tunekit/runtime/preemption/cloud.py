"""What the metadata services of clouds say about the end of a spot machine.

Each answers at a link-local address that only the machine itself reaches; nothing here goes through a proxy, follows a
redirect, or waits for longer than a second for what is there already. Nothing is asked unless the firmware, or
``TUNEKIT_CLOUD``, says that this is a machine of that cloud.

Sources: the providers' documentation. AWS, "Spot Instance interruption notices" and "EC2 instance rebalance
recommendations"; Google, "Preemptible VM instances"; Azure, "Scheduled Events for Linux VMs", version 2020-07-01.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import quote

from tunekit.runtime.preemption.plan import NodeNotice

CLOUD_VARIABLE: Final = "TUNEKIT_CLOUD"
"""``aws``, ``gcp`` or ``azure``: this machine is one of that cloud, whatever its firmware says; ``none``: of none."""
ADDRESS_VARIABLE: Final = "TUNEKIT_METADATA_ADDRESS"
"""``host:port`` of a service that stands in for the cloud's; a loopback or link-local address."""
_ADDRESS: Final = "169.254.169.254:80"
_TIMEOUT_S: Final = 1.0
_MAX_BYTES: Final = 262_144
_NONE: Final = "none"
_OK, _UNAUTHORIZED, _NOT_FOUND = 200, 401, 404
_FIRMWARE: Final = Path("/sys/class/dmi/id")
_AZURE_TAG: Final = "7783-7084-3265-9085-8269-3286-77"
"""Of every machine of Azure."""


class MetadataError(Exception):
    """The service did not answer, or not as it should."""


class Answer(NamedTuple):
    """What a service answered."""

    status: int
    body: str
    etag: str = ""
    """Its name for this very content, if it gives it one."""


class Ask(Protocol):
    """Sends a request of this method, path and headers."""

    def __call__(self, method: str, path: str, headers: Mapping[str, str], *, wait_s: float = 0.0) -> Answer:
        """Return the answer, which the service may hold back for so long.

        Raises:
            MetadataError: There is none.
        """
        ...


class Cloud(Protocol):
    """One provider's service."""

    every_s: float
    """How often it is to be asked."""
    sources: tuple[str, ...]
    """Of all the notices that it can give."""

    def notices(self, ask: Ask) -> list[NodeNotice]:
        """Return what it says about the end of this machine now.

        Raises:
            MetadataError: It did not answer as it should.
        """
        ...


def service_at(address: str = _ADDRESS) -> Ask:
    """Return what asks the service at ``host:port``.

    Raises:
        ValueError: The address may be that of another machine.
    """
    host, _, port = address.rpartition(":")
    ip = ipaddress.ip_address(host)
    if not (ip.is_link_local or ip.is_loopback):
        raise ValueError(f"{ADDRESS_VARIABLE} must be a loopback or link-local address, got {address}")

    def ask(method: str, path: str, headers: Mapping[str, str], *, wait_s: float = 0.0) -> Answer:
        connection = http.client.HTTPConnection(host, int(port), timeout=wait_s + _TIMEOUT_S)
        try:
            connection.request(method, path, headers=dict(headers))
            response = connection.getresponse()
            body = response.read(_MAX_BYTES).decode()
            return Answer(response.status, body, response.headers.get("ETag", ""))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise MetadataError(str(error)) from error
        finally:
            connection.close()

    return ask


class AWS:
    """EC2: an action with its time, two minutes ahead; and perhaps earlier a recommendation to leave."""

    every_s = 5.0
    sources: tuple[str, ...] = ("AWS", "AWS rebalance recommendation")

    def __init__(self) -> None:
        """Begin without a token."""
        self._token = ""

    def notices(self, ask: Ask) -> list[NodeNotice]:
        """Return the interruption, or else the recommendation: beside an interruption it says nothing more."""
        if action := self._get(ask, "/latest/meta-data/spot/instance-action"):
            return [NodeNotice("AWS", _iso(_field(action, "time")))]
        if self._get(ask, "/latest/meta-data/events/recommendations/rebalance"):
            return [NodeNotice("AWS rebalance recommendation", None, ends=False)]
        return []

    def _get(self, ask: Ask, path: str) -> str:
        """Return what lies at a path; empty if there is nothing."""
        for _ in range(2):
            self._token = self._token or self._new_token(ask)
            answer = ask("GET", path, {"X-aws-ec2-metadata-token": self._token})
            if answer.status != _UNAUTHORIZED:
                return _body(answer, absent=True)
            self._token = ""  # It has run out.
        raise MetadataError("no token is accepted")

    def _new_token(self, ask: Ask) -> str:
        return _body(ask("PUT", "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "21600"}))


class GCP:
    """Compute Engine: a flag, half a minute ahead. So the service is asked to answer as soon as it changes.

    One that answers at once all the same is asked every second.
    """

    every_s = 1.0
    sources: tuple[str, ...] = ("GCP",)
    _WAIT_S = 20

    def __init__(self) -> None:
        """Begin without an answer."""
        self._etag = ""

    def notices(self, ask: Ask) -> list[NodeNotice]:
        """Return the preemption, of which nothing says when it comes."""
        return [NodeNotice("GCP")] if self._ask(ask).strip() == "TRUE" else []

    def _ask(self, ask: Ask) -> str:
        """Return the flag, as soon as it is another one than that of the last answer, or after a while."""
        path, wait_s, headers = "/computeMetadata/v1/instance/preempted", 0, {"Metadata-Flavor": "Google"}
        if self._etag:
            wait_s = self._WAIT_S
            path += f"?wait_for_change=true&timeout_sec={wait_s}&last_etag={quote(self._etag, safe='')}"
        self._etag = ""  # Should this fail, the next answer is not waited for.
        answer = ask("GET", path, headers, wait_s=wait_s)
        body = _body(answer)
        self._etag = answer.etag
        return body


class Azure:
    """Virtual machines: scheduled events, half a minute ahead at least. One may be cancelled: then it is gone."""

    every_s = 2.0
    sources: tuple[str, ...] = ("Azure",)
    _HEADERS: Final = {"Metadata": "true"}
    _ENDS: Final = frozenset({"Preempt", "Terminate", "Reboot", "Redeploy"})
    """Freeze does not: the machine stands still for some seconds."""

    def __init__(self) -> None:
        """Begin without knowing the machine's name."""
        self._name = ""

    def notices(self, ask: Ask) -> list[NodeNotice]:
        """Return the events that end this machine, as one."""
        self._name = self._name or self._ask_name(ask)
        document = _body(ask("GET", "/metadata/scheduledevents?api-version=2020-07-01", self._HEADERS))
        deadlines = [
            _rfc1123(event.get("NotBefore") or "")
            for event in _field(document, "Events")
            if event.get("EventType") in self._ENDS and self._name in event.get("Resources", ())
        ]
        known = [deadline for deadline in deadlines if deadline is not None]
        return [NodeNotice("Azure", min(known, default=None))] if deadlines else []

    def _ask_name(self, ask: Ask) -> str:
        path = "/metadata/instance/compute/name?api-version=2021-02-01&format=text"
        return _body(ask("GET", path, self._HEADERS)).strip()


CLOUDS: Final[dict[str, Callable[[], Cloud]]] = {"aws": AWS, "gcp": GCP, "azure": Azure}


def cloud_here(environ: Mapping[str, str] = os.environ, firmware: Path = _FIRMWARE) -> Cloud | None:
    """Return the service of the cloud that this machine is of; None: it is of none that is known here.

    Raises:
        ValueError: The variable says what is no cloud.
    """
    told = environ.get(CLOUD_VARIABLE, "").lower()
    if told and told != _NONE and told not in CLOUDS:
        raise ValueError(f"{CLOUD_VARIABLE} must be one of {', '.join(CLOUDS)} or {_NONE}, got {told!r}")
    name = told or _cloud_of(firmware)
    return CLOUDS[name]() if name in CLOUDS else None


def _cloud_of(firmware: Path) -> str:
    if "Amazon" in _read(firmware / "sys_vendor"):
        return "aws"
    if _read(firmware / "product_name") == "Google Compute Engine":
        return "gcp"
    return "azure" if _read(firmware / "chassis_asset_tag") == _AZURE_TAG else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _body(answer: Answer, *, absent: bool = False) -> str:
    if absent and answer.status == _NOT_FOUND:
        return ""
    if answer.status != _OK:
        raise MetadataError(f"status {answer.status}")
    return answer.body


def _field(document: str, name: str) -> Any:
    try:
        return json.loads(document)[name]
    except (ValueError, KeyError, TypeError) as error:
        raise MetadataError(f"no {name} in {document[:200]!r}") from error


def _iso(text: Any) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError):
        return None


def _rfc1123(text: str) -> float | None:
    """Return the time; None where there is none, as for an event that has begun."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError):
        return None
