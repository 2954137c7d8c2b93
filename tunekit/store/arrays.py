"""NumPy arrays and torch tensors as bytes, and back: the same type, the same bits, the same order in memory.

The order counts: a product of matrices can differ in its last bits with it. So a dense array that lies in memory in
another order than its shape says (Fortran's, or torch's ``channels_last``) is stored as it lies, with the order noted;
one with gaps is stored without them.

torch is an extra. It is not imported here unless a tensor is to be made; one that is to be stored has imported it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from tunekit.types import Json

_NUMPY: Final = {
    "|b1": "BOOL",
    "|u1": "U8",
    "|i1": "I8",
    "<u2": "U16",
    "<i2": "I16",
    "<f2": "F16",
    "<u4": "U32",
    "<i4": "I32",
    "<f4": "F32",
    "<u8": "U64",
    "<i8": "I64",
    "<f8": "F64",
    "<c8": "C64",
}
_TORCH: Final = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "float16": "F16",
    "bfloat16": "BF16",
    "uint32": "U32",
    "int32": "I32",
    "float32": "F32",
    "uint64": "U64",
    "int64": "I64",
    "float64": "F64",
    "complex64": "C64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
}
_BYTES: Final = "U8"
"""How any other type is stored: as the bytes that it is made of."""
_SMALL_BYTES: Final = 1 << 14
_SCALAR_KINDS: Final = frozenset("biufcmMSU")


@dataclass(slots=True)
class Leaf:
    """One block of bytes on its way to a file.

    Two leaves with the same ``key`` are the same memory.
    """

    kind: Literal["array", "tensor", "bytes"]
    value: Any
    """An array, a tensor without gradient, or bytes."""
    key: tuple[Any, ...]
    note: dict[str, Json]
    """What has to be known to make it again, beside its name."""
    dtype: str
    """As safetensors calls it."""
    shape: list[int]
    num_bytes: int
    item_bytes: int
    order: list[int] | None = None
    """Its dimensions from the slowest to the fastest in memory; None: as they come."""

    @property
    def is_on_device(self) -> bool:
        """Whether it is in the memory of an accelerator."""
        return self.kind == "tensor" and not self.value.is_cpu

    def flat(self) -> Any:
        """Return its bytes as a flat array of NumPy or, on a device, as a tensor; without a copy if it is dense."""
        import numpy as np  # noqa: PLC0415 - only a checkpoint with arrays needs it

        value, order = self.value, self.order
        if self.kind == "bytes":
            return np.frombuffer(value, np.uint8)
        if self.kind == "array":
            ordered = value if order is None else value.transpose(order)
            return np.ascontiguousarray(ordered).reshape(-1).view(np.uint8)
        tensor = value if order is None else value.permute(order)
        if tensor.is_complex():
            tensor = tensor.resolve_conj()
        tensor = tensor.resolve_neg().contiguous().reshape(-1).view(sys.modules["torch"].uint8)
        return tensor.numpy() if tensor.is_cpu else tensor

    def copy_to(self, target: Any) -> None:
        """Copy its bytes into a flat array of bytes in NumPy."""
        source = self.flat()
        if self.is_on_device:
            sys.modules["torch"].from_numpy(target).copy_(source)
        else:
            target[:] = source

    @property
    def is_small(self) -> bool:
        """Whether it is a dense tensor so small that a call for it alone takes longer than its copy."""
        return self.kind == "tensor" and self.num_bytes <= _SMALL_BYTES and self.order is None and self.value.is_cpu

    def view(self) -> memoryview:
        """Return its bytes as they are now."""
        source = self.flat()
        return memoryview(source.cpu().numpy() if self.is_on_device else source)


def leaf_of(value: Any) -> Leaf | None:
    """Return how an array or tensor is stored; None: it is neither, or of a kind that only pickle knows."""
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None and type(value) is numpy.ndarray:
        return _leaf_of_array(value, numpy)
    if torch is not None and type(value) in {torch.Tensor, torch.nn.Parameter}:
        return _leaf_of_tensor(value, torch)
    return None


def copy_joined(leaves: Sequence[Leaf], target: Any) -> None:
    """Copy small tensors of one type into a flat array of bytes, one behind the other, in one call."""
    torch = sys.modules["torch"]
    memory = torch.from_numpy(target).view(leaves[0].value.dtype)
    torch.cat([leaf.value.reshape(-1) for leaf in leaves], out=memory)


def leaf_of_bytes(value: bytes) -> Leaf:
    """Return how many bytes are stored."""
    return Leaf("bytes", value, (id(value),), {}, _BYTES, [len(value)], len(value), 1)


def scalar_note(value: Any) -> list[Json] | None:
    """Return a scalar of NumPy as its type and its bytes in hexadecimal digits; None: it is none, or a strange one."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, numpy.generic) or value.dtype.kind not in _SCALAR_KINDS:
        return None
    if type(value) is not value.dtype.type or not value.dtype.itemsize:
        return None
    return [value.dtype.str, value.tobytes().hex()]


def scalar_of(note: Sequence[Any]) -> Any:
    """Return the scalar that ``scalar_note`` described.

    Raises:
        TypeError: It is none.
        ValueError: As above.
    """
    import numpy as np  # noqa: PLC0415 - only a checkpoint with arrays needs it

    name, digits = note
    return np.frombuffer(bytes.fromhex(digits), _dtype(np, name))[0]


def empty(kind: str, note: dict[str, Any], dtype: str, shape: list[int], num_bytes: int) -> tuple[Any, Any]:
    """Return a new array or tensor whose bytes are to be filled in, and these bytes as a flat array.

    Args:
        kind: ``array`` or ``tensor``.
        note: As in ``Leaf``.
        dtype: What the file says.
        shape: What the file says.
        num_bytes: How many the file has of it. No memory is asked for that the file cannot fill.

    Raises:
        TypeError: The description makes no sense.
        ValueError: As above.
        ImportError: It takes torch, which is not installed.
    """
    shape = note.get("shape", shape)
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"impossible shape {shape}")
    if kind == "array":
        return _empty_array(note, dtype, shape, num_bytes)
    return _empty_tensor(note, dtype, shape, num_bytes)


def _check_size(shape: list[int], itemsize: int, num_bytes: int) -> None:
    if math.prod(shape) * itemsize != num_bytes:
        raise ValueError(f"shape {shape} of {itemsize} bytes each does not fit the {num_bytes} bytes that there are")


# -- NumPy -------------------------------------------------------------------------------------------------------------


def _leaf_of_array(value: Any, np: Any) -> Leaf | None:
    dtype = value.dtype
    if dtype.hasobject or not dtype.itemsize:
        return None
    name, note = _NUMPY.get(dtype.str), {}
    order = None if value.flags.c_contiguous else _order(value.shape, value.strides)
    if order is not None and not value.transpose(order).flags.c_contiguous:
        order = None
    shape = list(value.shape) if order is None else [value.shape[axis] for axis in order]
    if name is None or np.dtype(dtype.str) != dtype:
        try:
            descr = np.lib.format.dtype_to_descr(dtype)
            if np.lib.format.descr_to_dtype(descr) != dtype:
                return None
        except (TypeError, ValueError):
            return None
        note = {"dtype": _listed(descr), "shape": shape}
        name, shape = _BYTES, [value.nbytes]
    if order is not None:
        note["order"] = order
    address = value.__array_interface__["data"][0]
    key = (address, dtype.str, value.shape, value.strides) if value.size else (id(value),)
    return Leaf("array", value, key, note, name, shape, value.nbytes, dtype.itemsize, order)


def _empty_array(note: dict[str, Any], dtype: str, shape: list[int], num_bytes: int) -> tuple[Any, Any]:
    import numpy as np  # noqa: PLC0415 - only a checkpoint with arrays needs it

    names = {name: key for key, name in _NUMPY.items()}
    found = _dtype(np, note["dtype"] if "dtype" in note else names[dtype])
    _check_size(shape, found.itemsize, num_bytes)
    array = np.empty(shape, found)
    flat = array.reshape(-1).view(np.uint8)
    order = note.get("order")
    return (array if order is None else array.transpose(_inverse(order, len(shape)))), flat


def _dtype(np: Any, descr: Any) -> Any:
    dtype = np.lib.format.descr_to_dtype(_unlisted(descr))
    if dtype.hasobject or not dtype.itemsize:
        raise TypeError(f"{dtype} cannot be read without pickle")
    return dtype


def _listed(descr: Any) -> Json:
    """Return NumPy's description of a structured type as JSON can say it."""
    return [_listed(part) for part in descr] if isinstance(descr, list | tuple) else descr


def _unlisted(descr: Any, *, is_field: bool = False) -> Any:
    """Undo ``_listed``: a type is a text or a list of fields, and a field is a tuple."""
    if not isinstance(descr, list):
        return descr
    if is_field:
        name, kind, *shape = descr
        title = tuple(name) if isinstance(name, list) else name
        return (title, _unlisted(kind), *(tuple(sizes) for sizes in shape))
    return [_unlisted(field, is_field=True) for field in descr]


# -- torch -------------------------------------------------------------------------------------------------------------


def _leaf_of_tensor(value: Any, torch: Any) -> Leaf | None:
    # A model may have thousands of small ones, so each of these looks counts.
    is_plain = value.layout is torch.strided and not (value.is_quantized or value.is_nested or value.is_meta)
    if not is_plain or value.__dict__:
        return None
    note: dict[str, Json] = {}
    if type(value) is not torch.Tensor:
        note["parameter"] = value.requires_grad
    elif value.requires_grad:
        note["requires_grad"] = True
    tensor = value.detach()
    shape, strides, order = tuple(tensor.shape), tensor.stride(), None
    if not tensor.is_contiguous():
        order = _order(shape, strides)
        if order is not None and not tensor.permute(order).is_contiguous():
            order = None
    dtype = tensor.dtype
    kind, name, item_bytes = _kinds.get(dtype) or _kinds.setdefault(dtype, _kind_of(dtype))
    num_bytes = tensor.nbytes
    stored = list(shape) if order is None else [shape[axis] for axis in order]
    if not name:
        note |= {"dtype": kind, "shape": stored}
        name, stored = _BYTES, [num_bytes]
    if order is not None:
        note["order"] = order
    if num_bytes:
        layout = (dtype, tensor.device, shape, strides, tensor.is_conj(), tensor.is_neg())
        key: tuple[Any, ...] = (tensor.data_ptr(), *layout, note.get("parameter"), note.get("requires_grad"))
    else:
        key = (id(value),)
    return Leaf("tensor", tensor, key, note, name, stored, num_bytes, item_bytes, order)


_kinds: Final[dict[Any, tuple[str, str, int]]] = {}


def _kind_of(dtype: Any) -> tuple[str, str, int]:
    """Return what torch calls a type, what safetensors calls it if it knows it, and how many bytes an item takes."""
    kind = str(dtype).removeprefix("torch.")
    return kind, _TORCH.get(kind, ""), dtype.itemsize


def _empty_tensor(note: dict[str, Any], dtype: str, shape: list[int], num_bytes: int) -> tuple[Any, Any]:
    import torch  # noqa: PLC0415 - an extra, which only a checkpoint with tensors needs

    names = {name: key for key, name in _TORCH.items()}
    found = getattr(torch, note["dtype"] if "dtype" in note else names[dtype], None)
    if not isinstance(found, torch.dtype):
        raise TypeError(f"torch has no type {note.get('dtype', dtype)!r}")
    _check_size(shape, found.itemsize, num_bytes)
    memory = torch.empty(shape, dtype=found)
    flat = memory.reshape(-1).view(torch.uint8).numpy()
    order = note.get("order")
    tensor = memory if order is None else memory.permute(_inverse(order, len(shape)))
    if "parameter" in note:
        tensor = torch.nn.Parameter(tensor, requires_grad=bool(note["parameter"]))
    elif note.get("requires_grad"):
        tensor.requires_grad_()
    return tensor, flat


# -- both --------------------------------------------------------------------------------------------------------------


def _order(shape: Sequence[int], strides: Sequence[int]) -> list[int] | None:
    """Return the dimensions from the slowest to the fastest in memory; None if that is how they come."""
    axes = [axis for axis, size in enumerate(shape) if size != 1]
    wanted = sorted(axes, key=lambda axis: -strides[axis])
    if wanted == axes:
        return None
    rest = iter(wanted)
    return [axis if shape[axis] == 1 else next(rest) for axis in range(len(shape))]


def _inverse(order: list[int], count: int) -> list[int]:
    if sorted(order) != list(range(count)):
        raise ValueError(f"impossible order {order} of {count} dimensions")
    return sorted(range(count), key=order.__getitem__)
