"""Arrays go in and out without copies, and what does not fit is refused."""
import numpy as np
import pytest

import tenon
from tenon import _arrays


def address(x):
    return x.__array_interface__["data"][0]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int8", "uint16", "bool"])
def test_the_same_memory(dtype):
    x = np.ones((2, 3), dtype)
    name = next(n for n in _arrays.NAMES if n in ("f32", "f64", "f16", "i8", "u16", "bool")
                and _arrays.numpy_dtype(n) == x.dtype)
    got = _arrays.as_input(x, name, "x")
    t = _arrays.tensor(got)
    assert t.data == address(x) and list(t.shape[:2]) == [2, 3] and t.rank == 2
    assert _arrays.dtype_name(t.dtype) == name


@pytest.mark.parametrize("given", ["int32", "int64"])
@pytest.mark.parametrize("wanted", ["i32", "i64"])
def test_token_ids_of_either_width_stay(given, wanted):
    x = np.arange(5, dtype=given)
    assert address(_arrays.as_input(x, wanted, "x")) == address(x)


def test_lists_and_other_integers():
    assert _arrays.as_input([[1, 2]], "i32", "x").dtype == np.int32
    assert _arrays.as_input([1.5], "f32", "x").dtype == np.float32
    assert _arrays.as_input(np.array([1, 2], np.uint8), "i32", "x").dtype == np.int32
    assert _arrays.as_input(3.5, "f64", "x").shape == ()
    with pytest.raises(TypeError, match="x: uint64 values do not fit into i32"):
        _arrays.as_input(np.array([2**40], np.uint64), "i32", "x")


@pytest.mark.parametrize("given, wanted", [("float64", "f32"), ("int32", "f32"), ("float32", "i32"), ("int64", "bool")])
def test_another_kind_of_number_is_refused(given, wanted):
    with pytest.raises(TypeError, match=f"input x: the array is {given}, the model takes {wanted}"):
        _arrays.as_input(np.zeros(2, given), wanted, "input x")


def test_a_view_with_steps_is_copied():
    x = np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2]
    got = _arrays.as_input(x, "f32", "x")
    assert got.flags.c_contiguous and (got == x).all()


def test_types_that_numpy_lacks():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.array([1.5, -2], ml_dtypes.bfloat16)
    t = _arrays.tensor(_arrays.as_input(x, "bf16", "x"))
    assert _arrays.dtype_name(t.dtype) == "bf16" and t.data == address(x)
    with pytest.raises(tenon.TenonError, match="arrays of i4 cannot be passed"):
        _arrays.numpy_dtype("i4")


def test_outputs_go_where_asked(tiny, goldens, close):
    m, g = tiny("bert-cls"), goldens("bert-cls")
    inputs = {n: g[f"a.in.{n}"] for n in ("ids", "mask", "types")}
    mine = np.full((3, 3), np.nan, np.float32)
    got = m.run(inputs, "classify", out={"logits": mine})
    assert got["logits"] is mine
    close(mine, g["a.classify.logits"])
    for wrong in (np.empty((3, 4), np.float32), np.empty((3, 3), np.float64), np.empty((3, 6), np.float32)[:, ::2]):
        with pytest.raises(TypeError, match="output logits: out is"):
            m.run(inputs, "classify", out={"logits": wrong})


def test_torch_tensors(tiny, goldens, close):
    torch = pytest.importorskip("torch")
    m, g = tiny("bert-cls"), goldens("bert-cls")
    inputs = {n: torch.from_numpy(g[f"a.in.{n}"].copy()) for n in ("ids", "mask", "types")}
    assert address(_arrays.as_input(inputs["ids"], "i32", "x")) == inputs["ids"].data_ptr()
    close(m.run(inputs, "classify")["logits"], g["a.classify.logits"])
    x = np.arange(4.0)
    assert _arrays.to_torch(x).data_ptr() == address(x)
    grad = torch.ones(3, requires_grad=True)
    assert (_arrays.as_input(grad, "f32", "x") == 1).all()


def test_bfloat16_of_torch():
    torch, _ = pytest.importorskip("torch"), pytest.importorskip("ml_dtypes")
    x = torch.tensor([1.5, -2.25], dtype=torch.bfloat16)
    assert _arrays.as_input(x, "bf16", "x").astype(np.float32).tolist() == [1.5, -2.25]
