"""What decides how numpy, decimal and torch compute is as it was when a trial ends."""

from __future__ import annotations

import decimal
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from tunekit.runtime.attempt.isolation import isolated

DENORMAL = 1e-310

IMPORTS = """if True:
    import json, sys
    from tunekit.runtime.attempt.isolation import isolated
    found = [name for name in ("numpy", "decimal", "torch") if name in sys.modules]
    with isolated(1):
        import decimal, numpy, torch
        decimal.getcontext().prec = 5
        numpy.seterr(all="raise")
        torch.set_flush_denormal(True)
        torch.set_autocast_enabled("cpu", True)
    settings = [decimal.getcontext().prec, numpy.geterr()["divide"], torch.is_autocast_enabled("cpu")]
    print(json.dumps([found, *settings, 1e-310 * float("1")]))
"""


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Whatever a test does, the next one computes as before."""
    yield
    torch.set_flush_denormal(False)
    torch.set_autocast_enabled("cpu", False)  # noqa: FBT003
    torch.set_autocast_enabled("cuda", False)  # noqa: FBT003
    torch.set_anomaly_enabled(False, True)  # noqa: FBT003
    np.seterr(divide="warn", over="warn", under="ignore", invalid="warn")
    np.seterrcall(None)


def test_error_settings_of_numpy_come_back() -> None:
    before = np.geterr(), np.geterrcall(), np.getbufsize()
    with isolated(1):
        np.seterr(all="raise")
        np.seterrcall(lambda kind, flag: None)
        np.setbufsize(1600)
    assert (np.geterr(), np.geterrcall(), np.getbufsize()) == before
    with isolated(1):
        np.errstate(all="ignore", call=lambda kind, flag: None).__enter__()
    assert (np.geterr(), np.geterrcall(), np.getbufsize()) == before


def test_context_of_decimal_comes_back() -> None:
    before = decimal.getcontext()
    precision = before.prec
    with isolated(1):
        decimal.getcontext().prec = 5
        decimal.getcontext().traps[decimal.Inexact] = True
    with isolated(1):
        assert decimal.getcontext().prec == precision
        decimal.setcontext(decimal.Context(prec=5))
    assert decimal.getcontext() is before
    assert before.prec == precision
    assert not before.traps[decimal.Inexact]


def test_denormals_come_back() -> None:
    """They are numbers again, and not zero. Torch does not say what it was told."""
    one = float("1")
    assert DENORMAL * one > 0
    with isolated(1):
        if not torch.set_flush_denormal(True):
            pytest.skip("this processor cannot take them for zero")
        assert (torch.tensor([DENORMAL], dtype=torch.float64) * one).item() == 0
    assert (torch.tensor([DENORMAL], dtype=torch.float64) * one).item() > 0
    assert DENORMAL * one > 0


def test_denormals_stay_zero_where_somebody_else_wants_it() -> None:
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot take them for zero")
    with isolated(1):
        torch.set_flush_denormal(False)
    assert (torch.tensor([DENORMAL], dtype=torch.float64) * 1).item() == 0


def autocast() -> list[Any]:
    torch.autocast_increment_nesting()
    return [
        torch.autocast_decrement_nesting(),
        torch.is_autocast_cache_enabled(),
        *((torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in ("cpu", "cuda")),
    ]


def leave_a_block() -> None:
    torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False).__enter__()


def set_all() -> None:
    torch.set_autocast_enabled("cpu", True)  # noqa: FBT003
    torch.set_autocast_enabled("cuda", True)  # noqa: FBT003
    torch.set_autocast_dtype("cpu", torch.float16)
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    torch.set_autocast_cache_enabled(False)


@pytest.mark.parametrize("act", [leave_a_block, set_all])
def test_autocast_comes_back(act: Callable[[], None]) -> None:
    before = autocast()
    with isolated(1):
        act()
    assert autocast() == before
    assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.float32


def test_casts_that_a_trial_has_left_are_forgotten() -> None:
    """Those of weights are kept until the outermost block ends, which one that is never left would hide."""
    with isolated(1):
        leave_a_block()
    weight = torch.nn.Parameter(torch.ones(1, 1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (torch.ones(1, 1) @ weight).item() == 1
    with torch.no_grad():
        weight.add_(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (torch.ones(1, 1) @ weight).item() == 2


def test_search_for_anomalies_ends() -> None:
    with isolated(1):
        torch.autograd.set_detect_anomaly(True, check_nan=False)
    assert not torch.is_anomaly_enabled()
    assert torch.is_anomaly_check_nan_enabled()


def test_settings_of_libraries_that_the_trial_loads_come_back() -> None:
    """And nothing is loaded for their sake."""
    answer = subprocess.run([sys.executable, "-c", IMPORTS], stdout=subprocess.PIPE, timeout=240, check=True)
    assert json.loads(answer.stdout) == [[], 28, "warn", False, DENORMAL]


def test_a_torch_with_other_names_for_autocast_runs_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch, "get_autocast_dtype")
    with isolated(1):
        torch.set_flush_denormal(True)
    assert DENORMAL * float("1") > 0
