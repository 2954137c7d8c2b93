"""Torch's settings that decide the bits of a result, to be put back after a trial.

Torch is given as an argument, because it is loaded by trials and never by us.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

_AUTOCAST_DEVICES: Final = ("cpu", "cuda")


class Autocast(NamedTuple):
    """What the calling thread casts to which type."""

    nesting: int
    """Blocks that it is in. Casts of weights are kept until it leaves the outermost."""
    keeps_casts: bool
    devices: tuple[tuple[bool, Any], ...]


class TorchSettings(NamedTuple):
    """A copy of them."""

    threads: int
    dtype: Any
    device: Any
    """None: never set, or set back."""
    grad: bool
    deterministic: bool
    warn_only: bool
    cudnn_deterministic: bool
    cudnn_benchmark: bool
    matmul_precision: str | None
    """As the older of torch's two interfaces to these has it; None: both were used, and the older refuses to say."""
    cudnn_tf32: bool | None
    precisions: tuple[str | None, ...]
    """As the newer interface has them, which torch before 2.9 lacks."""
    flushes_denormals: bool
    """Whether the calling thread takes numbers next to zero for zero; those it starts meanwhile do so for good."""
    autocast: Autocast
    finds_anomalies: tuple[bool, bool]
    """Whether it does, and whether a NaN is one."""


def read(torch: Any) -> TorchSettings:
    """Return the settings as they are."""
    context = getattr(getattr(torch, "_GLOBAL_DEVICE_CONTEXT", None), "device_context", None)
    return TorchSettings(
        torch.get_num_threads(),
        torch.get_default_dtype(),
        None if context is None else context.device,
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
        _unless_mixed(torch.get_float32_matmul_precision),
        _unless_mixed(lambda: torch.backends.cudnn.allow_tf32),
        tuple(getattr(place, "fp32_precision", None) for place in _precision_places(torch.backends)),
        _flushes_denormals(),
        _autocast(torch),
        (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
    )


def _flushes_denormals() -> bool:
    """Find out by arithmetic, for torch does not say."""
    return sys.float_info.min * 0.5 == 0


def _autocast(torch: Any) -> Autocast:
    if not hasattr(torch, "get_autocast_dtype"):  # Before 2.4 there were other names, which are left alone.
        return Autocast(nesting=0, keeps_casts=True, devices=())
    torch.autocast_increment_nesting()
    return Autocast(
        torch.autocast_decrement_nesting(),
        torch.is_autocast_cache_enabled(),
        tuple((torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in _AUTOCAST_DEVICES),
    )


def _unless_mixed(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except RuntimeError:
        return None


def _precision_places(backends: Any) -> Iterator[Any]:
    yield backends
    yield getattr(backends.cuda, "matmul", None)
    for library in (backends.cudnn, backends.mkldnn):
        yield library
        for operation in ("matmul", "conv", "rnn"):
            yield getattr(library, operation, None)


def restore(torch: Any, before: TorchSettings) -> None:
    """Set what differs from ``before``."""
    now = read(torch)
    if now == before:
        return
    torch.set_num_threads(before.threads)
    torch.set_default_dtype(before.dtype)
    if now.device != before.device:
        torch.set_default_device(before.device)
    torch.set_grad_enabled(before.grad)
    if (now.deterministic, now.warn_only) != (before.deterministic, before.warn_only):
        # Not for nothing: it loads torch's compiler, which takes seconds.
        torch.use_deterministic_algorithms(before.deterministic, warn_only=before.warn_only)
    torch.backends.cudnn.deterministic = before.cudnn_deterministic
    torch.backends.cudnn.benchmark = before.cudnn_benchmark
    # The older interface first: it also sets what the newer one reads, and refuses to when they differ for long.
    if before.matmul_precision is not None:
        torch.set_float32_matmul_precision(before.matmul_precision)
    if before.cudnn_tf32 is not None:
        torch.backends.cudnn.allow_tf32 = before.cudnn_tf32
    for place, precision in zip(_precision_places(torch.backends), before.precisions, strict=True):
        if precision is not None and place.fp32_precision != precision:
            place.fp32_precision = precision
    if now.flushes_denormals != before.flushes_denormals:
        torch.set_flush_denormal(before.flushes_denormals)
    if now.autocast != before.autocast:
        _restore_autocast(torch, now.autocast.nesting, before.autocast)
    enabled, check_nan = before.finds_anomalies
    torch.set_anomaly_enabled(enabled, check_nan)


def _restore_autocast(torch: Any, nesting: int, before: Autocast) -> None:
    for _ in range(nesting, before.nesting, -1):
        torch.autocast_decrement_nesting()
    torch.clear_autocast_cache()
    torch.set_autocast_cache_enabled(before.keeps_casts)
    for device, (is_enabled, dtype) in zip(_AUTOCAST_DEVICES, before.devices, strict=True):
        torch.set_autocast_enabled(device, is_enabled)
        torch.set_autocast_dtype(device, dtype)
