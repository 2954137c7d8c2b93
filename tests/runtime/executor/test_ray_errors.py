"""Each way in which Ray says that a worker is gone has its cause."""

from __future__ import annotations

from typing import Any

import pytest
import ray.exceptions
from ray.core.generated import common_pb2

from tunekit.runtime.executor.ray_errors import TABLE, classify, explained, has_raised
from tunekit.types import LossCause

exceptions: Any = ray.exceptions
"""Its constructors carry no annotations."""
messages: Any = common_pb2

ACTOR = b"\x01" * 16
CRASH = (
    "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker "
    "unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the process was "
    "killed by the OOM killer due to high memory usage, (2) ray stop --force was called."
)
NODE = "The actor died because its node has died. Node Id: 06ab. \tthe actor's node was terminated unexpectedly."


def died(message: str, reason: int | None = None) -> BaseException:
    info = None if reason is None else messages.NodeDeathInfo(reason=reason)
    context = messages.ActorDiedErrorContext(error_message=message, actor_id=ACTOR, pid=7, node_death_info=info)
    return exceptions.ActorDiedError(context)  # type: ignore[no-any-return]


def failed() -> BaseException:
    return exceptions.RayTaskError("run", "Traceback: boom", ValueError("boom"))  # type: ignore[no-any-return]


def test_an_error_of_a_worker_is_told_and_not_who_it_was() -> None:
    """As when it cannot read what it is hired for. Its process goes on, so there is no end of it to be explained."""
    assert classify(failed()).detail == "ValueError: boom"
    assert has_raised(failed().as_instanceof_cause())  # type: ignore[attr-defined]
    assert not has_raised(died(CRASH))


def test_of_an_actor_that_cannot_be_made_the_error_is_told() -> None:
    lacking = exceptions.RayTaskError(
        "B", "  File x\nRuntimeError: B failed to import:\n\nImportError: no tunekit\n", None
    )
    assert classify(exceptions.ActorDiedError(lacking)).detail == "ImportError: no tunekit"


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (died(CRASH), LossCause.CRASHED),
        (died(NODE), LossCause.NODE_LOST),
        (died(NODE, messages.NodeDeathInfo.AUTOSCALER_DRAIN_PREEMPTED), LossCause.PREEMPTED),
        (exceptions.ActorDiedError(failed()), LossCause.START_FAILED),
        (exceptions.ActorDiedError(), LossCause.CRASHED),
        (exceptions.ActorUnavailableError("connection reset", ACTOR), LossCause.NODE_LOST),
        (exceptions.OutOfMemoryError("killed by the memory monitor"), LossCause.OUT_OF_MEMORY),
        (exceptions.NodeDiedError("gone"), LossCause.NODE_LOST),
        (exceptions.LocalRayletDiedError(), LossCause.NODE_LOST),
        (exceptions.WorkerCrashedError(), LossCause.CRASHED),
        (exceptions.ActorUnschedulableError("no"), LossCause.START_FAILED),
        (exceptions.RuntimeEnvSetupError("no"), LossCause.START_FAILED),
        (exceptions.TaskCancelledError(), LossCause.KILLED),
        (failed(), LossCause.CRASHED),
        (ValueError("who knows"), LossCause.CRASHED),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_cause(error: BaseException, cause: LossCause) -> None:
    assert classify(error).cause is cause


def test_the_detail_says_what_happened_and_leaves_the_advice_out() -> None:
    detail = classify(died(CRASH)).detail
    assert detail.startswith("ActorDiedError: ")
    assert "connection error code 2" in detail
    assert "OOM" not in detail
    assert "\n" not in detail
    assert len(classify(exceptions.OutOfMemoryError("x" * 10_000)).detail) <= 500


def test_no_row_hides_a_later_one() -> None:
    """A class that comes after one of its bases would never be reached."""
    for position, (cls, _) in enumerate(TABLE):
        assert not any(issubclass(cls, earlier) for earlier, _ in TABLE[:position])


# -- how the process ended ---------------------------------------------------------------------------------------------

EXITED = "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: "
EXITED += "Worker exits unexpectedly. Worker exits with an exit code 4."


@pytest.mark.parametrize(
    ("message", "witness", "how", "detail"),
    [
        (CRASH, "SIGSEGV", "SIGSEGV", "its process was killed by SIGSEGV"),
        (CRASH, "exit code 3", "exit code 3", "its process ended with exit code 3"),
        (EXITED, "exit code 0", "exit code 4", "its process ended with exit code 4"),
        (EXITED, "", "exit code 4", "its process ended with exit code 4"),
    ],
)
def test_a_crash_says_how_the_process_ended(message: str, witness: str, how: str, detail: str) -> None:
    """By its exit code or by the name of a signal. After ``sys.exit``, Ray knows better than the kernel."""
    loss = explained(classify(died(message)), witness, has_starved=False)
    assert loss == (LossCause.CRASHED, detail, how)


def test_what_nobody_has_seen_is_not_claimed() -> None:
    loss = explained(classify(died(CRASH)), "", has_starved=False)
    assert (loss.cause, loss.exit) == (LossCause.CRASHED, "")
    assert loss.detail.startswith("its process ended without a word; ActorDiedError: ")


def test_whom_the_kernel_ended_for_want_of_memory_was_out_of_memory() -> None:
    loss = explained(classify(died(CRASH)), "SIGKILL", has_starved=True)
    assert (loss.cause, loss.exit) == (LossCause.OUT_OF_MEMORY, "SIGKILL")
    assert "want of memory" in loss.detail


def test_a_lost_node_has_no_exit_code() -> None:
    loss = classify(died(NODE))
    assert explained(loss, "SIGKILL", has_starved=False) == loss


def test_whom_ray_ended_for_want_of_memory_says_how_much_there_was() -> None:
    text = "1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 192.0.2.2, ID: 95) "
    text += "was 2.41GB used / 23.54GB limit (0.102526)\nOOM kill reason: much more"
    loss = classify(exceptions.OutOfMemoryError(text))
    assert loss.cause is LossCause.OUT_OF_MEMORY
    assert loss.detail == "Ray ended it. Memory on the node (IP: 192.0.2.2, ID: 95) was 2.41GB used / 23.54GB limit"
