"""NumPy arrays as tn_tensor and back, without copies where dtype and layout allow it; torch tensors on the CPU likewise."""
from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from ._abi import MAX_RANK, Tensor
from .errors import TenonError

Array = np.ndarray[Any, np.dtype[Any]]

# The element types of TN_DTYPES (tenon/ir.h), from 1.
NAMES = ("f64", "f32", "f16", "bf16", "f8e4m3", "f8e5m2", "i64", "i32", "i16", "i8", "u64", "u32", "u16", "u8", "bool",
         "i4", "u4", "i2", "u2", "f8e4m3fnuz", "f8e5m2fnuz", "f8e8m0", "f4e2m1")
_NUMPY = {"f64": "float64", "f32": "float32", "f16": "float16", "i64": "int64", "i32": "int32", "i16": "int16",
          "i8": "int8", "u64": "uint64", "u32": "uint32", "u16": "uint16", "u8": "uint8", "bool": "bool"}
# Types that NumPy lacks: those of the package ml_dtypes where it is installed, else their bits.
_EXTRA = {"bf16": ("bfloat16", "uint16"), "f8e4m3": ("float8_e4m3fn", "uint8"), "f8e5m2": ("float8_e5m2", "uint8"),
          "f8e4m3fnuz": ("float8_e4m3fnuz", "uint8"), "f8e5m2fnuz": ("float8_e5m2fnuz", "uint8"),
          "f8e8m0": ("float8_e8m0fnu", "uint8")}


def dtype_name(number: int) -> str:
    """i32 for 8, as `tenon inspect` writes it."""
    return NAMES[number - 1] if 0 < number <= len(NAMES) else f"block format {number}"


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The dtype of arrays that hold this element type."""
    if name in _NUMPY:
        return np.dtype(_NUMPY[name])
    if name not in _EXTRA:
        raise TenonError(f"arrays of {name} cannot be passed: NumPy has no such type")
    typed, bits = _EXTRA[name]
    try:
        import ml_dtypes
    except ImportError:
        return np.dtype(bits)
    found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, typed))
    return found


def from_torch(x: Any) -> Array:
    """The array that shares a tensor's memory; one on another device, or that needs a gradient, is copied."""
    torch = sys.modules["torch"]
    x = x.detach().cpu()
    if x.dtype == torch.bfloat16:
        bits: Array = x.contiguous().view(torch.uint16).numpy()
        return bits.view(numpy_dtype("bf16"))
    array: Array = x.numpy()
    return array


def is_torch(x: object) -> bool:
    """Is it a tensor of torch? Asks nothing of torch that has not been imported."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def to_torch(x: Array) -> Any:
    """The tensor that shares an array's memory."""
    return sys.modules["torch"].from_numpy(x)


def as_input(x: Any, dtype: str, what: str) -> Array:
    """`x` as the array that the runtime reads: the same memory if it is contiguous and of the right type. Integers of any
    width are taken for integers; i32 and i64 are read as they are."""
    want = numpy_dtype(dtype)
    given = isinstance(x, np.ndarray) or is_torch(x) or isinstance(x, np.generic)
    array: Array = from_torch(x) if is_torch(x) else np.asarray(x) if given else np.asarray(x, want)
    if array.dtype != want:
        whole = want.kind in "iu" and array.dtype.kind in "iub"
        if whole and not (dtype in ("i32", "i64") and array.dtype.name in ("int32", "int64")):
            if array.size and want.kind != "b" and array.dtype.kind != "b":
                limits = np.iinfo(want)
                if int(array.min()) < limits.min or int(array.max()) > limits.max:
                    raise TypeError(f"{what}: {array.dtype} values do not fit into {dtype}")
            array = array.astype(want)
        elif not whole:
            raise TypeError(f"{what}: the array is {array.dtype}, the model takes {dtype}")
    if array.ndim > MAX_RANK:
        raise TypeError(f"{what}: {array.ndim} dimensions, the most is {MAX_RANK}")
    return np.ascontiguousarray(array) if array.ndim else array


def tensor(x: Array) -> Tensor:
    """Points at the array's memory, which must stay."""
    t = Tensor(data=x.ctypes.data, rank=x.ndim, dtype=_NUMBERS[x.dtype])
    t.shape[: x.ndim] = x.shape
    return t


def output(t: Tensor, what: str, out: Array | None) -> Array | None:
    """An array for an output, or `out` if it has its type and shape; None if only the run makes its size known."""
    want, shape = numpy_dtype(dtype_name(t.dtype)), list(t.shape[: t.rank])
    if min(shape, default=0) < 0:
        if out is not None:
            raise TypeError(f"{what}: its size depends on the values, out cannot hold it")
        return None
    if out is None:
        return np.empty(shape, want)
    if out.dtype != want or list(out.shape) != shape or not out.flags.c_contiguous or not out.flags.writeable:
        raise TypeError(f"{what}: out is {out.dtype}{list(out.shape)}, expected a contiguous {want}{shape}")
    return out


def copy_of(t: Tensor) -> Array:
    """What a session keeps, as an array of its own."""
    want, shape = numpy_dtype(dtype_name(t.dtype)), list(t.shape[: t.rank])
    out: Array = np.empty(shape, want)
    if out.nbytes and t.data:
        ctypes.memmove(out.ctypes.data, t.data, out.nbytes)
    return out


def padded(rows: Sequence[Sequence[int]], value: int, dtype: str = "int32") -> Array:
    """Rows of different lengths side by side, filled up on the right."""
    out: Array = np.full((len(rows), max((len(r) for r in rows), default=0)), value, np.dtype(dtype))
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return out


def _numbers() -> dict[np.dtype[Any], int]:
    """NumPy's types by TN_DT number; bits stand for themselves, not for a type that NumPy lacks."""
    known = {np.dtype(_NUMPY[n]): i + 1 for i, n in enumerate(NAMES) if n in _NUMPY}
    extra = {numpy_dtype(n): i + 1 for i, n in enumerate(NAMES) if n in _EXTRA}
    return {**extra, **known}


_NUMBERS = _numbers()
