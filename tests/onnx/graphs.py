#!/usr/bin/env python3
"""Small graphs about what the importer itself does - sizes that are symbols or depend on data, control flow,
sequences, functions, the order of nodes, where tensors lie - against ONNX Runtime.

Each is compiled once for symbolic sizes and run by `tenon verify` on several sets of inputs; the expected outputs
are what ONNX Runtime gives for the same file.

  graphs.py TENON [--only REGEX] [--how @LEVEL,BACKEND] [--keep DIR]
"""
import argparse, pathlib, re, subprocess, sys, tempfile

try:
    import numpy as np
    import onnx
    import onnxruntime as ort
    from onnx import TensorProto as T, helper as h, numpy_helper as nh
except ImportError as e:
    print("skipped:", e)
    sys.exit(77)

CASES = {}
TYPES = {np.dtype("float32"): T.FLOAT, np.dtype("int64"): T.INT64, np.dtype("bool"): T.BOOL, np.dtype("int32"): T.INT32}


def case(make):
    CASES[make.__name__] = make
    return make


def f32(*shape, seed=0):
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(np.float32)


def i64(*values):
    return np.array(values, np.int64)


def const(name, value):
    return nh.from_array(np.asarray(value), name)


def value(name, kind=T.FLOAT, shape=()):
    return h.make_tensor_value_info(name, kind, shape)


def model(nodes, inputs, outputs, init=(), opset=18, functions=(), imports=()):
    graph = h.make_graph(nodes, "g", inputs, outputs, list(init))
    opsets = [h.make_opsetid("", opset)] + [h.make_opsetid(d, v) for d, v in imports]
    return h.make_model(graph, opset_imports=opsets, ir_version=10, functions=list(functions))


N = h.make_node

# ---- sizes -------------------------------------------------------------------------------------------------------


@case
def heads():
    """What exporters make of x.view(b, s, 4, -1).transpose(1, 2)."""
    nodes = [N("Shape", ["x"], ["s"]), N("Gather", ["s", "i0"], ["b"]), N("Gather", ["s", "i1"], ["n"]),
             N("Unsqueeze", ["b", "ax"], ["b1"]), N("Unsqueeze", ["n", "ax"], ["n1"]),
             N("Concat", ["b1", "n1", "four", "rest"], ["to"], axis=0), N("Reshape", ["x", "to"], ["v"]),
             N("Transpose", ["v"], ["y"], perm=[0, 2, 1, 3])]
    init = [const("i0", np.int64(0)), const("i1", np.int64(1)), const("ax", i64(0)), const("four", i64(4)), const("rest", i64(-1))]
    return (model(nodes, [value("x", shape=("b", "s", 24))], [value("y", shape=(None,) * 4)], init),
            [{"x": f32(2, 3, 24)}, {"x": f32(1, 7, 24)}])


@case
def expand_minus_one():
    """torch's expand: Where(shape == -1, 1, shape)."""
    nodes = [N("Shape", ["x"], ["s"]), N("ConstantOfShape", ["two"], ["ones"], value=const("v", i64(1))),
             N("Mul", ["ones", "m1"], ["neg"]), N("Concat", ["minus", "tail"], ["want"], axis=0),
             N("Slice", ["s", "z", "o"], ["tail"]), N("Equal", ["want", "neg"], ["eq"]),
             N("Where", ["eq", "ones", "want"], ["to"]), N("Expand", ["row", "to"], ["y"])]
    init = [const("two", i64(2)), const("m1", i64(-1)), const("minus", i64(-1)), const("z", i64(1)), const("o", i64(2)),
            const("row", f32(5, 1))]
    return (model(nodes, [value("x", shape=("b", "s"))], [value("y", shape=(None,) * 2)], init),
            [{"x": f32(3, 4)}, {"x": f32(2, 1)}])


@case
def table_rows():
    """position_embedding[:, :s] of a table of 16."""
    nodes = [N("Shape", ["x"], ["sh"]), N("Gather", ["sh", "one"], ["s"]), N("Unsqueeze", ["s", "ax"], ["stop"]),
             N("Slice", ["table", "zero", "stop", "one1"], ["p"]), N("Gather", ["emb", "p"], ["e"]), N("Add", ["x", "e"], ["y"])]
    init = [const("one", np.int64(1)), const("ax", i64(0)), const("table", np.arange(16, dtype=np.int64)[None]),
            const("zero", i64(0)), const("one1", i64(1)), const("emb", f32(16, 6))]
    return (model(nodes, [value("x", shape=("b", "s", 6))], [value("y", shape=(None,) * 3)], init),
            [{"x": f32(2, 5, 6)}, {"x": f32(1, 16, 6)}])


def slicing(starts, ends, axes, steps):
    nodes = [N("Slice", ["x", "s", "e", "a", "t"], ["y"])]
    init = [const("s", i64(*starts)), const("e", i64(*ends)), const("a", i64(*axes)), const("t", i64(*steps))]
    return (model(nodes, [value("x", shape=("a", "b"))], [value("y", shape=(None,) * 2)], init),
            [{"x": f32(6, 9)}, {"x": f32(2, 3)}, {"x": f32(1, 5)}])


BIG = 2 ** 63 - 1
for name, args in {"slice_middle": ((1, -3), (4, -1), (0, 1), (1, 1)), "slice_last": ((-1,), (BIG,), (1,), (1,)),
                   "slice_but_last": ((0,), (-1,), (1,), (1,)), "slice_reverse": ((-1, -1), (-BIG, -BIG), (0, 1), (-1, -1)),
                   "slice_reverse_part": ((5,), (1,), (1,), (-2,)), "slice_step": ((1,), (1000,), (1,), (2,)),
                   "slice_empty": ((4,), (2,), (1,), (1,)), "slice_far": ((-1000,), (-2,), (1,), (1,))}.items():
    CASES[name] = lambda args=args: slicing(*args)


@case
def slice_by_data():
    nodes = [N("Slice", ["x", "s", "e", "a"], ["y"])]
    m = model(nodes, [value("x", shape=("a", "b")), value("s", T.INT64, (1,)), value("e", T.INT64, (1,))],
              [value("y", shape=(None,) * 2)], [const("a", i64(1))])
    x = f32(3, 8)
    return m, [{"x": x, "s": i64(a), "e": i64(b)} for a, b in ((1, 5), (-3, BIG), (0, -2), (6, 2), (-100, 100), (8, 9))]


@case
def slice_by_data_back():
    nodes = [N("Slice", ["x", "s", "e", "a", "t"], ["y"])]
    m = model(nodes, [value("x", shape=("a", "b")), value("s", T.INT64, (1,)), value("e", T.INT64, (1,))],
              [value("y", shape=(None,) * 2)], [const("a", i64(1)), const("t", i64(-2))])
    x = f32(3, 8)
    return m, [{"x": x, "s": i64(a), "e": i64(b)} for a, b in ((6, 1), (-1, -BIG), (2, 5), (100, 0))]


@case
def reshape_by_data():
    nodes = [N("Reshape", ["x", "s"], ["y"])]
    m = model(nodes, [value("x", shape=("a", 6)), value("s", T.INT64, (3,))], [value("y", shape=(None,) * 3)])
    return m, [{"x": f32(4, 6), "s": i64(*s)} for s in ((2, 3, 4), (-1, 2, 2), (0, 3, -1), (24, 1, 1))]


@case
def range_by_data():
    nodes = [N("Range", ["a", "b", "c"], ["r"]), N("Mul", ["r", "k"], ["y"])]
    m = model(nodes, [value(n, T.INT64) for n in "abc"], [value("y", T.INT64, (None,))], [const("k", np.int64(3))])
    return m, [{"a": np.int64(p), "b": np.int64(q), "c": np.int64(r)} for p, q, r in ((0, 5, 1), (5, 0, -2), (3, 3, 1), (-4, 9, 5))]


@case
def range_float():
    nodes = [N("Range", ["a", "b", "c"], ["y"])]
    m = model(nodes, [value(n) for n in "abc"], [value("y", shape=(None,))])
    return m, [{"a": np.float32(p), "b": np.float32(q), "c": np.float32(r)} for p, q, r in ((0, 5, 1), (1, 2, 0.25), (3, -1, -0.5))]


@case
def expand_tile_pad_by_data():
    nodes = [N("Expand", ["x", "s"], ["e"]), N("Tile", ["e", "t"], ["r"]), N("Pad", ["r", "p", "v"], ["y"])]
    m = model(nodes, [value("x", shape=("a", 1)), value("s", T.INT64, (2,)), value("t", T.INT64, (2,)), value("p", T.INT64, (4,)),
                      value("v")], [value("y", shape=(None,) * 2)])
    return m, [{"x": f32(2, 1), "s": i64(1, 3), "t": i64(2, 1), "p": i64(0, 1, 2, 0), "v": np.float32(7)},
               {"x": f32(1, 1), "s": i64(4, 1), "t": i64(1, 3), "p": i64(0, 0, 0, 0), "v": np.float32(-1)}]


@case
def pad_modes():
    nodes = [N("Pad", ["x", "p"], [mode], mode=mode) for mode in ("reflect", "edge")]
    nodes.append(N("Concat", ["reflect", "edge"], ["y"], axis=0))
    m = model(nodes, [value("x", shape=("a", "b"))], [value("y", shape=(None,) * 2)], [const("p", i64(0, 2, 0, 3))])
    return m, [{"x": f32(2, 5)}, {"x": f32(1, 4)}]


@case
def two_names_broadcast():
    nodes = [N("Add", ["x", "y"], ["s"]), N("Mul", ["s", "x"], ["z"])]
    m = model(nodes, [value("x", shape=("a", "b")), value("y", shape=("c", "d"))], [value("z", shape=(None,) * 2)])
    return m, [{"x": f32(3, 4), "y": f32(3, 4)}, {"x": f32(3, 4), "y": f32(1, 4)}, {"x": f32(1, 4), "y": f32(3, 1)}]


@case
def empty_batch():
    nodes = [N("MatMul", ["x", "w"], ["p"]), N("Add", ["p", "b"], ["q"]), N("Relu", ["q"], ["y"])]
    m = model(nodes, [value("x", shape=("a", 8))], [value("y", shape=(None,) * 2)], [const("w", f32(8, 4)), const("b", f32(4))])
    return m, [{"x": f32(0, 8)}, {"x": f32(3, 8)}]


@case
def nonzero_then_shape():
    nodes = [N("NonZero", ["x"], ["i"]), N("Shape", ["i"], ["s"]), N("Transpose", ["i"], ["t"]), N("GatherND", ["x", "t"], ["v"]),
             N("Gather", ["s", "one"], ["n"]), N("Cast", ["n"], ["nf"], to=T.FLOAT), N("Div", ["v", "nf"], ["y"])]
    m = model(nodes, [value("x", shape=("a", "b"))], [value("y", shape=(None,))], [const("one", np.int64(1))])
    x = f32(4, 5)
    x[x < 0] = 0
    return m, [{"x": x}, {"x": f32(2, 3)}]


# ---- control flow --------------------------------------------------------------------------------------------------


def branch(name, nodes, outputs, init=()):
    return h.make_graph(nodes, name, [], outputs, list(init))


@case
def if_sizes_differ():
    then = branch("t", [N("Slice", ["x", "z", "two", "z"], ["a"])], [value("a", shape=(None, None))],
                  [const("z", i64(0)), const("two", i64(2))])
    other = branch("e", [N("Mul", ["x", "k"], ["b"])], [value("b", shape=(None, None))], [const("k", np.float32(3))])
    nodes = [N("If", ["c"], ["r"], then_branch=then, else_branch=other), N("Neg", ["r"], ["y"])]
    m = model(nodes, [value("c", T.BOOL), value("x", shape=("a", "b"))], [value("y", shape=(None, None))])
    return m, [{"c": np.bool_(c), "x": f32(4, 3)} for c in (True, False)]


@case
def if_weights_and_nesting():
    inner = [branch(n, [N(op, ["s", "w"], [n])], [value(n, shape=(None, None))]) for n, op in (("ia", "Add"), ("ib", "Sub"))]
    then = branch("t", [N("If", ["d"], ["a"], then_branch=inner[0], else_branch=inner[1])], [value("a", shape=(None, None))])
    other = branch("e", [N("MatMul", ["s", "w"], ["b0"]), N("Identity", ["b0"], ["b"])], [value("b", shape=(None, None))])
    nodes = [N("Mul", ["x", "x"], ["s"]), N("If", ["c"], ["y"], then_branch=then, else_branch=other)]
    m = model(nodes, [value("c", T.BOOL), value("d", T.BOOL), value("x", shape=("n", 40))], [value("y", shape=(None, None))],
              [const("w", f32(40, 40))])
    return m, [{"c": np.bool_(c), "d": np.bool_(d), "x": f32(40, 40)} for c in (0, 1) for d in (0, 1)]


@case
def if_known():
    nodes = [N("Shape", ["x"], ["s"]), N("Size", ["s"], ["n"]), N("Equal", ["n", "two"], ["c"]),
             N("If", ["c"], ["y"], then_branch=branch("t", [N("Identity", ["x"], ["a"])], [value("a", shape=(None, None))]),
               else_branch=branch("e", [N("Squeeze", ["x"], ["b"])], [value("b", shape=(None,))]))]
    return model(nodes, [value("x", shape=("a", "b"))], [value("y", shape=(None, None))], [const("two", np.int64(2))]), [{"x": f32(2, 3)}]


@case
def if_squeeze():
    """torch's x.squeeze(1) of a size that is not known when exporting: the size has to be 1."""
    nodes = [N("Shape", ["x"], ["s"]), N("Gather", ["s", "one"], ["n"]), N("Equal", ["n", "one"], ["c"]),
             N("If", ["c"], ["r"], then_branch=branch("t", [N("Squeeze", ["x", "ax"], ["a"])], [value("a", shape=(None, None))]),
               else_branch=branch("e", [N("Identity", ["x"], ["b"])], [value("b", shape=(None, None, None))])), N("Neg", ["r"], ["y"])]
    m = model(nodes, [value("x", shape=("a", "b", "c"))], [value("y")], [const("one", np.int64(1)), const("ax", i64(1))])
    m.graph.output[0].type.tensor_type.ClearField("shape")
    return m, [{"x": f32(3, 1, 2)}]


def loop(nodes, state, slices=(), extra=()):
    """A body (i, go, state...) -> (again, state'..., slices...)."""
    ins = [value("i", T.INT64), value("go", T.BOOL)] + [value(n, k, s) for n, k, s in state]
    outs = [value("again", T.BOOL)] + [value(n + "_out", k, s) for n, k, s in state] + [value(n, k, s) for n, k, s in slices]
    return h.make_graph(nodes, "body", ins, outs, list(extra))


@case
def loop_power():
    body = loop([N("MatMul", ["a", "w"], ["b"]), N("Tanh", ["b"], ["a_out"]), N("Identity", ["go"], ["again"]),
                 N("ReduceSum", ["a_out"], ["sum"], keepdims=0)], [("a", T.FLOAT, (None, None))], [("sum", T.FLOAT, ())])
    nodes = [N("Loop", ["n", "", "x"], ["y", "sums"], body=body)]
    m = model(nodes, [value("n", T.INT64), value("x", shape=("a", 5))], [value("y", shape=(None, None)), value("sums", shape=(None,))],
              [const("w", f32(5, 5))])
    return m, [{"n": np.int64(n), "x": f32(3, 5)} for n in (4, 1, 20)]


@case
def loop_grows():
    body = loop([N("Concat", ["a", "x"], ["a_out"], axis=0), N("Identity", ["go"], ["again"])], [("a", T.FLOAT, (None, None))])
    nodes = [N("Loop", ["n", "", "start"], ["y"], body=body)]
    m = model(nodes, [value("n", T.INT64), value("x", shape=("a", 2))], [value("y", shape=(None, None))], [const("start", f32(1, 2))])
    return m, [{"n": np.int64(n), "x": f32(2, 2)} for n in (0, 3)]


@case
def loop_until():
    """Doubles until the sum is large; the limit is captured, the first condition given."""
    body = loop([N("Add", ["a", "a"], ["a_out"]), N("ReduceSum", ["a_out"], ["s"], keepdims=0), N("Less", ["s", "limit"], ["again"]),
                 N("Cast", ["i"], ["f"], to=T.FLOAT), N("Mul", ["a", "f"], ["row"])],
                [("a", T.FLOAT, (None,))], [("row", T.FLOAT, (None,))])
    nodes = [N("Loop", ["", "c", "x"], ["y", "rows"], body=body)]
    m = model(nodes, [value("c", T.BOOL), value("x", shape=("a",)), value("limit")], [value("y", shape=(None,)), value("rows", shape=(None, None))])
    return m, [{"c": np.bool_(True), "x": np.abs(f32(3)) + 1, "limit": np.float32(k)} for k in (100, 5)]


@case
def loop_with_if():
    inner = (branch("t", [N("Add", ["a", "x"], ["p"])], [value("p", shape=(None,))]),
             branch("e", [N("Sub", ["a", "x"], ["q"])], [value("q", shape=(None,))]))
    body = loop([N("Mod", ["i", "two"], ["r"]), N("Equal", ["r", "zero"], ["even"]),
                 N("If", ["even"], ["a_out"], then_branch=inner[0], else_branch=inner[1]), N("Identity", ["go"], ["again"])],
                [("a", T.FLOAT, (None,))], extra=[const("two", np.int64(2)), const("zero", np.int64(0))])
    nodes = [N("Neg", ["x"], ["m"]), N("Loop", ["n", "", "m"], ["y"], body=body)]
    m = model(nodes, [value("n", T.INT64), value("x", shape=("a",))], [value("y", shape=(None,))])
    return m, [{"n": np.int64(n), "x": f32(4)} for n in (3, 6)]


@case
def loop_written_out():
    body = loop([N("Mul", ["a", "k"], ["a_out"]), N("Identity", ["go"], ["again"]), N("Identity", ["a"], ["row"])],
                [("a", T.FLOAT, (None,))], [("row", T.FLOAT, (None,))], [const("k", np.float32(1.5))])
    nodes = [N("Loop", ["n", "", "x"], ["y", "rows"], body=body)]
    m = model(nodes, [value("x", shape=("a",))], [value("y", shape=(None,)), value("rows", shape=(None, None))], [const("n", np.int64(3))])
    return m, [{"x": f32(4)}]


@case
def loop_sequence():
    body = h.make_graph([N("SequenceInsert", ["l", "x"], ["l_out"]), N("Identity", ["go"], ["again"])], "body",
                        [value("i", T.INT64), value("go", T.BOOL), h.make_tensor_sequence_value_info("l", T.FLOAT, None)],
                        [value("again", T.BOOL), h.make_tensor_sequence_value_info("l_out", T.FLOAT, None)])
    nodes = [N("SequenceEmpty", [], ["l0"]), N("Loop", ["n", "", "l0"], ["l1"], body=body), N("ConcatFromSequence", ["l1"], ["y"], axis=0)]
    return model(nodes, [value("x", shape=("a", 2))], [value("y", shape=(None, None))], [const("n", np.int64(3))]), [{"x": f32(2, 2)}]


def scan_body():
    return h.make_graph([N("Add", ["s", "e"], ["s_out"]), N("Mul", ["s_out", "k"], ["o"])], "body",
                        [value("s", shape=(None,)), value("e", shape=(None,))],
                        [value("s_out", shape=(None,)), value("o", shape=(None,))], [const("k", np.float32(2))])


@case
def scan_along():
    nodes = [N("Scan", ["s", "x"], ["last", "y"], body=scan_body(), num_scan_inputs=1)]
    m = model(nodes, [value("s", shape=(3,)), value("x", shape=("t", 3))], [value("last", shape=(None,)), value("y", shape=(None, None))])
    return m, [{"s": f32(3), "x": f32(t, 3)} for t in (5, 1, 9)]


@case
def scan_back():
    nodes = [N("Scan", ["s", "x"], ["last", "y"], body=scan_body(), num_scan_inputs=1, scan_input_axes=[1], scan_input_directions=[1],
               scan_output_axes=[1], scan_output_directions=[1])]
    m = model(nodes, [value("s", shape=(3,)), value("x", shape=(3, "t"))], [value("last", shape=(None,)), value("y", shape=(None, None))])
    return m, [{"s": f32(3), "x": f32(3, t)} for t in (5, 2)]


# ---- sequences, functions, files -----------------------------------------------------------------------------------


@case
def sequences():
    nodes = [N("SplitToSequence", ["x", "two"], ["l"], axis=1), N("SequenceAt", ["l", "m1"], ["a"]), N("SequenceErase", ["l", "z"], ["l2"]),
             N("SequenceInsert", ["l2", "a", "z"], ["l3"]), N("SequenceLength", ["l3"], ["n"]), N("ConcatFromSequence", ["l3"], ["c"], axis=1),
             N("Cast", ["n"], ["f"], to=T.FLOAT), N("Mul", ["c", "f"], ["y"])]
    init = [const("two", np.int64(2)), const("m1", np.int64(-1)), const("z", np.int64(0))]
    return model(nodes, [value("x", shape=("a", 5))], [value("y", shape=(None, None))], init), [{"x": f32(2, 5)}, {"x": f32(3, 5)}]


@case
def functions_and_order():
    """Nested functions with attributes by reference and defaults; nodes in the wrong order."""
    leaky = N("LeakyRelu", ["a"], ["b"])
    leaky.attribute.append(onnx.AttributeProto(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="slope"))
    inner = h.make_function("my", "Inner", ["a"], ["b"], [leaky], [h.make_opsetid("", 18)], ["slope"])
    call = N("Inner", ["t"], ["b"], domain="my")
    call.attribute.append(onnx.AttributeProto(name="slope", type=onnx.AttributeProto.FLOAT, ref_attr_name="k"))
    outer = h.make_function("my", "Outer", ["a", "unused"], ["b"], [N("Sub", ["a", "a2"], ["t"]), N("Mul", ["a", "a"], ["a2"]), call][::-1][1:] +
                            [call], [h.make_opsetid("", 18), h.make_opsetid("my", 1)], [], [h.make_attribute("k", 0.25)])
    nodes = [N("Outer", ["m"], ["y"], domain="my"), N("Outer", ["x"], ["m"], domain="my", k=0.5)]
    m = model(nodes, [value("x", shape=("a", 4))], [value("y", shape=(None, None))], functions=[inner, outer], imports=[("my", 1)])
    return m, [{"x": f32(3, 4)}]


@case
def sparse_and_typed():
    sparse = onnx.SparseTensorProto()
    sparse.values.CopyFrom(nh.from_array(np.array([1.5, -2], np.float32), "w"))
    sparse.indices.CopyFrom(nh.from_array(i64(1, 5), "w_i"))
    sparse.dims.extend([2, 3])
    typed = h.make_tensor("k", T.FLOAT16, [3], np.array([1, 2, 3], np.float16))
    m = model([N("Cast", ["k"], ["kf"], to=T.FLOAT), N("Add", ["x", "w"], ["s"]), N("Mul", ["s", "kf"], ["y"])],
              [value("x", shape=("a", 3))], [value("y", shape=(None, None))], [typed])
    m.graph.sparse_initializer.append(sparse)
    return m, [{"x": f32(2, 3)}]


@case
def outputs_that_are_inputs():
    nodes = [N("Identity", ["x"], ["y"]), N("Neg", ["x"], ["z"])]
    m = model(nodes, [value("x", shape=("a", 3))], [value("y", shape=(None, None)), value("z", shape=(None, None)), value("w", shape=(2,))],
              [const("w", f32(2))])
    return m, [{"x": f32(2, 3)}]


@case
def old_opset():
    """Opset 9: Slice, Unsqueeze and Squeeze with attributes, Upsample's kin stay out; initialisers are inputs too."""
    nodes = [N("Slice", ["x"], ["a"], axes=[1], starts=[1], ends=[-1]), N("Unsqueeze", ["a"], ["b"], axes=[0]),
             N("Squeeze", ["b"], ["c"], axes=[0]), N("Pad", ["c"], ["d"], pads=[0, 1, 0, 1], mode="constant", value=0.5), N("Add", ["d", "w"], ["y"])]
    m = model(nodes, [value("x", shape=("a", 5)), value("w", shape=(5,))], [value("y", shape=(None, None))], [const("w", f32(5))], opset=9)
    m.ir_version = 3
    return m, [{"x": f32(2, 5)}]


@case
def external_data():
    nodes = [N("MatMul", ["x", "w"], ["p"]), N("Add", ["p", "b"], ["y"])]
    m = model(nodes, [value("x", shape=("a", 64))], [value("y", shape=(None, None))], [const("w", f32(64, 32)), const("b", f32(32))])
    return m, [{"x": f32(2, 64)}], True


# ---- running -------------------------------------------------------------------------------------------------------


def write(folder, made):
    proto, inputs, *outside = made
    folder.mkdir(parents=True)
    path = folder / "model.onnx"
    onnx.save(proto, path, save_as_external_data=bool(outside), location="model.data", size_threshold=0)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    sets = []
    for i, given in enumerate(inputs):
        data = folder / f"test_data_set_{i}"
        data.mkdir()
        given = {n: np.asarray(v) for n, v in given.items()}
        wanted = session.run(None, given)
        order = [v.name for v in proto.graph.input if v.name in given]
        for k, name in enumerate(order):
            (data / f"input_{k}.pb").write_bytes(nh.from_array(given[name], name).SerializeToString())
        for k, name in enumerate(names):
            (data / f"output_{k}.pb").write_bytes(nh.from_array(np.asarray(wanted[k]), name).SerializeToString())
        sets.append(data)
    return path, sets


def main():
    p = argparse.ArgumentParser()
    p.add_argument("tenon")
    p.add_argument("--only", default="")
    p.add_argument("--how", default="", help="level and backend, e.g. @O0,ref")
    p.add_argument("--keep")
    args = p.parse_args()
    failed = runs = 0
    with tempfile.TemporaryDirectory() as scratch:
        root = pathlib.Path(args.keep or scratch)
        for name, make in CASES.items():
            if not re.search(args.only, name):
                continue
            path, sets = write(root / name, make())
            for data in sets:
                runs += 1
                r = subprocess.run([args.tenon, "verify", f"{path}{args.how}", data, "--rtol", "1e-4", "--atol", "1e-5"],
                                   capture_output=True, text=True, timeout=120)
                if r.returncode:
                    failed += 1
                    print(f"{name} {data.name[-1]}: status {r.returncode}\n   " + "\n   ".join((r.stdout + r.stderr).strip().splitlines()[-4:]))
    print(f"{len(CASES)} graphs, {runs} runs, {failed} failed")
    sys.exit(failed > 0)


main()
