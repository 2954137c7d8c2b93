"""What clouds say about the end of a machine, from a service on loopback that speaks like theirs."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import metadata
import pytest

from tunekit.runtime.line.wire import MachineNotice
from tunekit.runtime.preemption import cloud as preemption_cloud
from tunekit.runtime.preemption.cloud import AWS, GCP, Answer, Azure, MetadataError, cloud_here, service_at
from tunekit.runtime.preemption.plan import NodeNotice
from tunekit.runtime.preemption.poller import Poller, start_poller

NOON = 1795262400.0


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[metadata.Service]:
    monkeypatch.setattr(preemption_cloud, "_TIMEOUT_S", 120.0)
    with metadata.service() as running:
        yield running


def event(kind: str, *, machine: str = "spot-1", at: str = "Sat, 21 Nov 2026 12:00:00 GMT") -> dict[str, Any]:
    return {"EventId": "e", "EventType": kind, "EventStatus": "Scheduled", "NotBefore": at, "Resources": [machine]}


def azure_says(service: metadata.Service, *events: dict[str, Any]) -> None:
    service.pages[metadata.EVENTS] = json.dumps({"DocumentIncarnation": 2, "Events": events})


def test_aws_names_the_time_of_an_interruption(service: metadata.Service) -> None:
    aws, ask = AWS(), service_at(service.address)
    assert aws.notices(ask) == []
    service.pages[metadata.ACTION] = '{"action": "terminate", "time": "2026-11-21T12:00:00Z"}'
    assert aws.notices(ask) == [NodeNotice("AWS", NOON)]
    assert [path for method, path in service.asked if method == "PUT"] == [metadata.TOKENS], "one token is enough"


def test_aws_may_recommend_to_leave_and_that_ends_nothing(service: metadata.Service) -> None:
    service.pages[metadata.REBALANCE] = '{"noticeTime": "2026-11-21T11:50:00Z"}'
    assert AWS().notices(service_at(service.address)) == [NodeNotice("AWS rebalance recommendation", None, ends=False)]


def test_an_interruption_is_heard_although_recommendations_do_not_work() -> None:
    def ask(method: str, path: str, headers: Mapping[str, str], *, wait_s: float = 0.0) -> Answer:
        del method, headers, wait_s
        if path == metadata.REBALANCE:
            raise MetadataError("status 500")
        return Answer(200, '{"action": "terminate", "time": "2026-11-21T12:00:00Z"}')

    assert AWS().notices(ask) == [NodeNotice("AWS", NOON)]


def test_a_token_of_aws_that_has_run_out_is_renewed(service: metadata.Service) -> None:
    aws, ask = AWS(), service_at(service.address)
    aws.notices(ask)
    service.token = "t2"
    assert aws.notices(ask) == []


def test_gcp_says_that_it_is_soon_and_not_when(service: metadata.Service) -> None:
    gcp, ask = GCP(), service_at(service.address)
    assert gcp.notices(ask) == []
    service.pages[metadata.PREEMPTED] = "TRUE"
    assert gcp.notices(ask) == [NodeNotice("GCP", None)]
    gcp._WAIT_S = 0
    assert gcp.notices(ask) == [NodeNotice("GCP", None)]


def test_gcp_tells_as_soon_as_it_changes(service: metadata.Service) -> None:
    """Nobody asks again and again; and after trouble, what is there already is asked for."""
    gcp, ask = GCP(), service_at(service.address)
    assert gcp.notices(ask) == []
    gcp._WAIT_S = 60
    preempt = threading.Timer(0.1, lambda: service.pages.update({metadata.PREEMPTED: "TRUE"}))
    preempt.start()
    assert [notice.source for notice in gcp.notices(ask)] == ["GCP"]
    preempt.join()
    assert [path.partition("?")[0] for _, path in service.asked] == [metadata.PREEMPTED] * 2
    service.status = 503
    with pytest.raises(MetadataError):
        gcp.notices(ask)
    service.status = 200
    assert gcp.notices(ask) != []
    assert service.asked[-1] == ("GET", metadata.PREEMPTED)


def test_azure_names_the_machines_that_an_event_is_about(service: metadata.Service) -> None:
    azure, ask = Azure(), service_at(service.address)
    assert azure.notices(ask) == []
    azure_says(service, event("Preempt", machine="spot-2"), event("Freeze"))
    assert azure.notices(ask) == []
    azure_says(service, event("Preempt"))
    assert azure.notices(ask) == [NodeNotice("Azure", NOON)]
    azure_says(service, event("Preempt", at=""))
    assert azure.notices(ask) == [NodeNotice("Azure", None)], "it has begun"


@pytest.mark.parametrize("cloud", [AWS, GCP, Azure])
@pytest.mark.parametrize("trouble", ["status", "nonsense", "silence", "nobody"])
def test_a_service_that_does_not_answer_as_it_should_has_said_nothing(
    service: metadata.Service, cloud: Callable[[], Any], trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = service_at(service.address)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # Takes connections, and says nothing on them.
        if trouble == "status":
            service.status = 503
        elif trouble == "nonsense":
            service.pages |= {metadata.ACTION: "[", metadata.PREEMPTED: "maybe", metadata.EVENTS: "[1"}
        elif trouble == "silence":
            monkeypatch.setattr(preemption_cloud, "_TIMEOUT_S", 0.5)
            ask = service_at(f"127.0.0.1:{silent.getsockname()[1]}")
        else:
            ask = service_at("127.0.0.1:9")
        began_at = time.monotonic()
        if (cloud, trouble) == (GCP, "nonsense"):
            assert cloud().notices(ask) == []
        else:
            with pytest.raises(MetadataError):
                cloud().notices(ask)
        assert time.monotonic() - began_at < 120


def test_only_this_machine_is_asked() -> None:
    service_at("169.254.169.254:80")
    for address in ("93.184.216.34:80", "10.0.0.1:80", "metadata.google.internal:80"):
        with pytest.raises(ValueError, match=r"loopback or link-local|does not appear to be"):
            service_at(address)


@pytest.mark.parametrize(
    ("firmware", "cloud"),
    [
        ({"sys_vendor": "Amazon EC2\n"}, AWS),
        ({"sys_vendor": "Google", "product_name": "Google Compute Engine\n"}, GCP),
        ({"sys_vendor": "Microsoft Corporation", "chassis_asset_tag": "7783-7084-3265-9085-8269-3286-77\n"}, Azure),
        ({"sys_vendor": "Microsoft Corporation", "chassis_asset_tag": "1234"}, None),
        ({"sys_vendor": "QEMU", "product_name": "Standard PC"}, None),
        ({}, None),
    ],
)
def test_the_firmware_tells_which_cloud_this_is(tmp_path: Path, firmware: dict[str, str], cloud: Any) -> None:
    for name, text in firmware.items():
        (tmp_path / name).write_text(text)
    found = cloud_here({}, tmp_path)
    assert type(found) is (cloud or type(None))
    assert cloud_here({"TUNEKIT_CLOUD": "none"}, tmp_path) is None
    assert type(cloud_here({"TUNEKIT_CLOUD": "GCP"}, tmp_path)) is GCP


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"TUNEKIT_CLOUD": "amazon"}, "TUNEKIT_CLOUD must be one of aws, gcp, azure or none, got 'amazon'"),
        ({"TUNEKIT_CLOUD": "aws", "TUNEKIT_METADATA_ADDRESS": "8.8.8.8:80"}, "loopback or link-local address, got 8.8"),
        ({"TUNEKIT_CLOUD": "aws", "TUNEKIT_METADATA_ADDRESS": "localhost"}, "does not appear to be"),
    ],
)
def test_a_wrong_setting_is_said_and_costs_notices_only(
    environ: dict[str, str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(threading.enumerate())
    start_poller(cast("Any", FakeLink()), "x", environ)
    for thread in set(threading.enumerate()) - before:
        thread.join(120)
    said = capsys.readouterr().err
    assert said.startswith("tunekit: the cloud is not asked for notices: ")
    assert says in said


# -- polling -----------------------------------------------------------------------------------------------------------


def test_what_is_new_is_told_once_and_what_is_withdrawn_too(service: metadata.Service) -> None:
    told: list[MachineNotice] = []
    poller = Poller(Azure(), service_at(service.address), told.append)
    poller.poll()
    told.clear()
    azure_says(service, event("Preempt"))
    poller.poll()
    service.status = 503
    poller.poll()
    service.status = 200
    poller.poll()
    assert told == [MachineNotice(source="Azure", deadline=NOON)], "who cannot be asked has taken nothing back"
    azure_says(service)
    poller.poll()
    assert told[1:] == [MachineNotice(source="Azure", is_withdrawn=True)]


def test_what_a_process_before_has_told_is_withdrawn(service: metadata.Service) -> None:
    """The process that asked has ended, and the cloud has changed its mind before the next one asks."""
    told: list[MachineNotice] = []
    poller = Poller(Azure(), service_at(service.address), told.append)
    service.status = 503
    poller.poll()
    assert told == [], "who cannot be asked has taken nothing back"
    service.status = 200
    azure_says(service)
    for _ in range(2):
        poller.poll()
    assert told == [MachineNotice(source="Azure", is_withdrawn=True)]
    service.pages["/latest/meta-data/spot/instance-action"] = json.dumps(
        {"action": "stop", "time": "2026-11-21T12:00:00Z"}
    )
    Poller(AWS(), service_at(service.address), told.append).poll()
    assert [(notice.source, notice.is_withdrawn) for notice in told[1:]] == [
        ("AWS", False),
        ("AWS rebalance recommendation", True),
    ]


def test_where_nobody_ever_answers_is_asked_seldom(service: metadata.Service) -> None:
    service.status = 404
    poller = Poller(AWS(), service_at(service.address), lambda notice: None)
    pauses = set()
    for _ in range(12):
        poller.poll()
        pauses.add(poller.pause_s)
    assert pauses == {5.0, 60.0}
    service.status = 200
    poller.poll()
    assert poller.pause_s == 5.0


@pytest.mark.parametrize("events", ["null", "7", '["x"]', '[{"EventType": "Preempt", "Resources": null}]'])
def test_an_answer_of_another_shape_says_nothing_and_is_asked_for_again(service: metadata.Service, events: str) -> None:
    """The thread that asks must not end of it: no later notice would be heard."""
    told: list[MachineNotice] = []
    poller = Poller(Azure(), service_at(service.address), told.append)
    service.pages[metadata.EVENTS] = f'{{"Events": {events}}}'
    poller.poll()
    azure_says(service, event("Preempt"))
    poller.poll()
    assert told == [MachineNotice(source="Azure", deadline=NOON)]


class FakeLink:
    """Keeps what a worker tells."""

    def __init__(self) -> None:
        self.idle_poll_s = 10.0
        self.told: list[MachineNotice] = []

    def tell(self, note: MachineNotice) -> None:
        self.told.append(note)


def test_no_answer_ends_the_thread_that_asks() -> None:
    """JSON without end is neither an answer nor one of Python's usual complaints about it."""
    body = "[" * 200_000
    told: list[MachineNotice] = []
    poller = Poller(Azure(), lambda *args, **options: Answer(200, body), told.append)
    poller.poll()
    assert told == []
    body = '{"Events": []}'
    poller.poll()
    assert told == [MachineNotice(source="Azure", is_withdrawn=True)], "it asks on"


def test_one_process_of_a_machine_asks(service: metadata.Service) -> None:
    """Threads stand for processes: the kernel gives the name to one of them."""
    service.pages[metadata.PREEMPTED] = "TRUE"
    links, over = [FakeLink() for _ in range(3)], threading.Event()
    environ = {"TUNEKIT_CLOUD": "gcp", "TUNEKIT_METADATA_ADDRESS": service.address}
    for link in links:
        start_poller(cast("Any", link), f"test-{id(links)}", environ, over=over)
    deadline = time.monotonic() + 120
    while not any(link.told for link in links):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    asking = [link for link in links if link.idle_poll_s < 10.0]
    assert len(asking) == 1
    assert [notice.source for notice in asking[0].told] == ["GCP"]
    over.set()


def test_where_there_is_no_cloud_nothing_is_asked(service: metadata.Service) -> None:
    before = set(threading.enumerate())
    start_poller(cast("Any", FakeLink()), "x", {"TUNEKIT_CLOUD": "none", "TUNEKIT_METADATA_ADDRESS": service.address})
    for thread in set(threading.enumerate()) - before:
        thread.join(120)
    assert not service.asked
