"""Random valid ONNX graphs: a list of values with known types and shapes, to which ops are added one at a time.

Every value carries its element type, its shape, whether it is `exact` (a float whose bits do not depend on the order of
additions: inputs, and what only moves or compares them) and a bound of its magnitude. Ops that jump - rounding, comparing,
choosing the largest - are only put on exact values, and bounds keep sums and products small, so that two right
implementations agree up to rounding.
"""
import math, random
import numpy as np
import onnx
from onnx import TensorProto as T, helper as h, numpy_helper

F32, I64, BOOL = T.FLOAT, T.INT64, T.BOOL
NUMPY = {F32: np.float32, I64: np.int64, BOOL: np.bool_}


class Value:
    def __init__(self, name, kind, shape, exact, bound):
        self.name, self.kind, self.shape, self.exact, self.bound = name, kind, tuple(shape), exact, bound

    @property
    def rank(self):
        return len(self.shape)

    @property
    def size(self):
        return math.prod(self.shape)


class Graph:
    def __init__(self, seed):
        self.seed = seed
        self.r = random.Random(seed)
        self.np = np.random.default_rng(seed)
        self.values, self.nodes, self.inits, self.inputs, self.feeds, self.used = [], [], [], [], {}, set()

    # ---- values
    def array(self, kind, shape):
        if kind == F32:
            return (np.round(self.np.standard_normal(shape) * 64) / 64).astype(np.float32)
        if kind == BOOL:
            return self.np.random(shape) < 0.5
        return self.np.integers(-8, 9, shape).astype(np.int64)

    def input(self, kind, shape):
        name = f"x{len(self.inputs)}"
        self.feeds[name] = np.asarray(self.array(kind, shape))
        self.inputs.append((name, kind, tuple(shape)))
        self.values.append(Value(name, kind, shape, True, 6 if kind == F32 else 8))
        return self.values[-1]

    def const(self, array):
        name = f"c{len(self.inits)}"
        self.inits.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weight(self, shape, scale=1.0):
        return self.const((np.round(self.np.standard_normal(shape) * 64 * scale) / 64).astype(np.float32))

    def ints(self, *values):
        return self.const(np.array(values, np.int64))

    def add(self, op, inputs, outs, **attrs):
        """outs: (kind, shape, exact, bound) of each output; an output of kind None is left out."""
        names = [f"v{len(self.nodes)}_{i}" if o else "" for i, o in enumerate(outs)]
        self.nodes.append(h.make_node(op, [i.name if isinstance(i, Value) else i for i in inputs], names,
                                      name=f"n{len(self.nodes)}_{op}", **attrs))
        self.used.update(i.name for i in inputs if isinstance(i, Value))
        made = [Value(n, *o) for n, o in zip(names, outs) if o]
        self.values += made
        return made[0]

    # ---- choosing
    def pick(self, kind=F32, rank=None, exact=False, least=0, bound=1e4, limit=4096):
        found = [v for v in self.values if v.kind == kind and (rank is None or v.rank in rank) and v.rank >= least
                 and (v.exact or not exact) and v.bound <= bound and 0 < v.size <= limit]
        if not found:
            shape = [self.r.randint(1, 6) for _ in range(self.r.choice(list(rank) if rank else [1, 2, 3, 4]))]
            return self.input(kind, shape if len(shape) >= least else shape + [2] * (least - len(shape)))
        return self.r.choice(found[-12:])

    def axis(self, v):
        a = self.r.randrange(v.rank)
        return a, (a if self.r.random() < 0.5 else a - v.rank)

    def partner(self, v):
        """A value of the same kind that broadcasts with v, or a constant that does."""
        def fits(s, t):
            return all(a == b or a == 1 or b == 1 for a, b in zip(s[::-1], t[::-1]))
        found = [w for w in self.values if w.kind == v.kind and w is not v and fits(v.shape, w.shape) and w.bound <= 1e3
                 and math.prod(np.broadcast_shapes(v.shape, w.shape)) <= 4096]
        if found and self.r.random() < 0.6:
            return self.r.choice(found)
        shape = [d if self.r.random() < 0.7 else 1 for d in v.shape[self.r.randint(0, v.rank):]]
        array = self.array(v.kind, shape)
        return Value(self.const(array), v.kind, shape, True, 6 if v.kind == F32 else 8)


def out(v, shape=None, exact=None, bound=None, kind=None):
    return (kind or v.kind, v.shape if shape is None else shape, v.exact if exact is None else exact,
            v.bound if bound is None else bound)


# ---- one function per group of ops: each adds a node or two ------------------------------------------------------
def unary(g):
    v, op = g.pick(), g.r.choice("Relu Sigmoid Tanh Erf Softplus Abs Neg Sin Cos Elu LeakyRelu Selu HardSigmoid HardSwish "
                                 "Softsign Mish Celu ThresholdedRelu Gelu Identity Reciprocal Sqrt Exp Log".split())
    if op == "ThresholdedRelu":
        v = g.pick(exact=True)
    if op in ("Reciprocal", "Sqrt", "Log"):
        v = g.add("Abs", [v], [out(v)])
        v = g.add("Add", [v, g.const(np.float32(0.5))], [out(v, exact=False, bound=v.bound + 0.5)])
    if op == "Exp":
        v = g.add("Clip", [v, g.const(np.float32(-3)), g.const(np.float32(3))], [out(v, bound=3)])
    if op in ("Sin", "Cos") and v.bound > 100:
        return
    bound = {"Sigmoid": 1, "Tanh": 1, "Erf": 1, "Sin": 1, "Cos": 1, "HardSigmoid": 1, "Softsign": 1, "Reciprocal": 2,
             "Exp": 21, "Selu": v.bound * 1.1 + 2}.get(op, v.bound + 1)
    g.add(op, [v], [out(v, exact=v.exact and op in ("Relu", "Abs", "Neg", "Identity", "ThresholdedRelu"), bound=bound)])


def jump(g):
    v, op = g.pick(exact=True), g.r.choice("Floor Ceil Round Sign".split())
    g.add(op, [v], [out(v, bound=v.bound + 1)])


def binary(g):
    v = g.pick(bound=300)
    w, op = g.partner(v), g.r.choice("Add Sub Mul Div Max Min Pow PRelu Mean Sum".split())
    shape = np.broadcast_shapes(v.shape, w.shape)
    if op == "PRelu":
        if shape != v.shape:
            return
        g.add(op, [v, w], [out(v, exact=False, bound=v.bound * w.bound)])
    elif op == "Pow":
        g.add(op, [v, g.const(np.float32(2))], [out(v, exact=False, bound=v.bound ** 2)])
    elif op == "Div":
        w = g.add("Abs", [w], [out(w)])
        w = g.add("Add", [w, g.const(np.float32(1))], [out(w, exact=False, bound=w.bound + 1)])
        g.add(op, [v, w], [(F32, shape, False, v.bound)])
    else:
        bound = v.bound * w.bound if op == "Mul" else v.bound + w.bound
        g.add(op, [v, w], [(F32, shape, v.exact and w.exact and op in ("Max", "Min"), bound)])


def integer(g):
    v = g.pick(kind=I64, bound=1e6)
    w, op = g.partner(v), g.r.choice("Add Sub Mul Div Mod Max Min Abs Neg".split())
    shape = np.broadcast_shapes(v.shape, w.shape)
    if op in ("Abs", "Neg"):
        g.add(op, [v], [out(v)])
    elif op in ("Div", "Mod"):
        w = g.add("Abs", [w], [out(w)])
        w = g.add("Add", [w, g.const(np.int64(1))], [out(w, bound=w.bound + 1)])
        g.add(op, [v, w], [(I64, shape, True, max(v.bound, w.bound))])
    else:
        g.add(op, [v, w], [(I64, shape, True, v.bound * w.bound if op == "Mul" else v.bound + w.bound)])


def compare(g):
    v = g.pick(kind=g.r.choice([F32, I64]), exact=True)
    w = g.partner(v)
    if not w.exact:
        return
    c = g.add(g.r.choice("Equal Less Greater LessOrEqual GreaterOrEqual".split()), [v, w],
              [(BOOL, np.broadcast_shapes(v.shape, w.shape), True, 1)])
    if g.r.random() < 0.5:
        c = g.add("Not", [c], [out(c)])
    if g.r.random() < 0.7:
        g.add("Where", [c, v, w], [(v.kind, c.shape, True, max(v.bound, w.bound))])


def logic(g):
    v = g.pick(kind=BOOL)
    w = g.partner(v)
    g.add(g.r.choice("And Or Xor".split()), [v, w], [(BOOL, np.broadcast_shapes(v.shape, w.shape), True, 1)])


def cast(g):
    v = g.pick(kind=g.r.choice([F32, I64, BOOL]), exact=True)
    to = g.r.choice([k for k in (F32, I64, BOOL) if k != v.kind])
    g.add("Cast", [v], [(to, v.shape, True, v.bound)], to=to)


def reduce(g):
    v, op = g.pick(least=1, bound=50), g.r.choice("Sum Mean Max Min L1 L2 LogSumExp SumSquare Prod".split())
    axes = sorted(g.r.sample(range(v.rank), g.r.randint(1, v.rank)))
    keep = g.r.randint(0, 1)
    n = math.prod(v.shape[a] for a in axes)
    if op == "Prod" and (v.bound > 2 or n > 6):
        return
    shape = [1 if i in axes else d for i, d in enumerate(v.shape) if keep or i not in axes]
    bound = {"Sum": n * v.bound, "L1": n * v.bound, "L2": n * v.bound, "SumSquare": n * v.bound ** 2, "Prod": v.bound ** n,
             "LogSumExp": v.bound + 10}.get(op, v.bound)
    g.add("Reduce" + op, [v, g.ints(*[a if g.r.random() < 0.5 else a - v.rank for a in axes])],
          [(F32, shape, v.exact and op in ("Max", "Min"), bound)], keepdims=keep)


def choose(g):
    v = g.pick(least=1, exact=True)
    a, axis = g.axis(v)
    if g.r.random() < 0.5:
        keep = g.r.randint(0, 1)
        shape = [1 if i == a else d for i, d in enumerate(v.shape) if keep or i != a]
        g.add(g.r.choice(["ArgMax", "ArgMin"]), [v], [(I64, shape, True, v.shape[a])], axis=axis, keepdims=keep,
              select_last_index=g.r.randint(0, 1))
    else:
        k = g.r.randint(1, v.shape[a])
        shape = [k if i == a else d for i, d in enumerate(v.shape)]
        g.add("TopK", [v, g.ints(k)], [out(v, shape), (I64, shape, True, v.shape[a])], axis=axis, largest=g.r.randint(0, 1))


def norm(g):
    v, op = g.pick(rank=(2, 3, 4), bound=100), g.r.choice(["Softmax", "LogSoftmax", "LayerNormalization", "LpNormalization",
                                                          "InstanceNormalization", "BatchNormalization", "Hardmax"])
    a, axis = g.axis(v)
    c = v.shape[1]
    if op == "Hardmax":
        v = g.pick(rank=(2, 3, 4), exact=True)
        g.add(op, [v], [out(v, exact=True, bound=1)], axis=g.axis(v)[1])
    elif op in ("Softmax", "LogSoftmax"):
        g.add(op, [v], [out(v, exact=False, bound=1 if op == "Softmax" else 2 * v.bound + 10)], axis=axis)
    elif op == "LpNormalization":
        v = g.add("Add", [v, g.const(np.float32(0.25))], [out(v, exact=False, bound=v.bound + 1)])
        s = g.add("Sigmoid", [v], [out(v, exact=False, bound=1)])
        g.add(op, [s], [out(v, exact=False, bound=1)], axis=axis, p=g.r.choice([1, 2]))
    elif op == "LayerNormalization":
        shape = v.shape[a:]
        g.add(op, [v, g.weight(shape), g.weight(shape)], [out(v, exact=False, bound=30)], axis=axis, epsilon=0.1)
    elif op == "InstanceNormalization" and v.rank > 2:
        g.add(op, [v, g.weight([c]), g.weight([c])], [out(v, exact=False, bound=30)], epsilon=0.1)
    elif op == "BatchNormalization":
        var = g.const((np.abs(g.np.standard_normal(c)) + 0.5).astype(np.float32))
        g.add(op, [v, g.weight([c]), g.weight([c]), g.weight([c]), var], [out(v, exact=False, bound=4 * v.bound + 20)])


def matmul(g):
    v = g.pick(least=2, bound=50)
    k, n = v.shape[-1], g.r.randint(1, 9)
    lead = v.shape[:-2] if g.r.random() < 0.3 else ()
    w = g.weight(tuple(d if g.r.random() < 0.7 else 1 for d in lead) + (k, n), 0.5)
    g.add("MatMul", [v, w], [(F32, v.shape[:-1] + (n,), False, v.bound * k)])


def gemm(g):
    v = g.pick(rank=(2,), bound=50)
    ta, tb, n = g.r.randint(0, 1), g.r.randint(0, 1), g.r.randint(1, 9)
    m, k = v.shape if not ta else v.shape[::-1]
    g.add("Gemm", [v, g.weight((n, k) if tb else (k, n), 0.5), g.weight(g.r.choice([(n,), (1, n), (m, n), (1,), ()]))],
          [(F32, (m, n), False, v.bound * k + 4)], transA=ta, transB=tb, alpha=0.5, beta=1.5)


def window(g, size, most=3):
    k = g.r.randint(1, min(most, size))
    return k, g.r.randint(1, 2), g.r.randint(0, k - 1), g.r.randint(0, k - 1)


def conv(g):
    v = g.pick(rank=(3, 4), bound=50)
    c, spatial = v.shape[1], v.shape[2:]
    groups = g.r.choice([d for d in (1, 2, c) if c % d == 0])
    o = groups * g.r.randint(1, 4)
    w = [window(g, s) for s in spatial]
    dilations = [g.r.choice([1, 1, 2]) if (k - 1) * 2 < s else 1 for (k, *_), s in zip(w, spatial)]
    span = [(k - 1) * d + 1 for (k, *_), d in zip(w, dilations)]
    shape = [(s + lo + hi - e) // st + 1 for s, e, (k, st, lo, hi) in zip(spatial, span, w)]
    if min(shape) < 1:
        return
    kernel = [k for k, *_ in w]
    inputs = [v, g.weight([o, c // groups] + kernel, 0.5)] + ([g.weight([o])] if g.r.random() < 0.5 else [])
    g.add("Conv", inputs, [(F32, [v.shape[0], o] + shape, False, v.bound * (c // groups) * math.prod(kernel) + 4)],
          kernel_shape=kernel, strides=[st for _, st, _, _ in w], pads=[p[2] for p in w] + [p[3] for p in w],
          dilations=dilations, group=groups)


def conv_transpose(g):
    v = g.pick(rank=(3, 4), bound=50, limit=512)
    c, spatial = v.shape[1], v.shape[2:]
    groups = g.r.choice([d for d in (1, 2) if c % d == 0])
    o = g.r.randint(1, 3)
    kernel = [g.r.randint(1, 3) for _ in spatial]
    strides = [g.r.randint(1, 2) for _ in spatial]
    shape = [(s - 1) * st + k for s, st, k in zip(spatial, strides, kernel)]
    g.add("ConvTranspose", [v, g.weight([c, o] + kernel, 0.5)],
          [(F32, [v.shape[0], o * groups] + shape, False, v.bound * c * math.prod(kernel))],
          kernel_shape=kernel, strides=strides, group=groups)


def pool(g):
    v = g.pick(rank=(3, 4))
    spatial = v.shape[2:]
    if g.r.random() < 0.2:
        op = g.r.choice(["GlobalAveragePool", "GlobalMaxPool"])
        g.add(op, [v], [out(v, v.shape[:2] + (1,) * len(spatial), exact=v.exact and "Max" in op)])
        return
    w = [window(g, s) for s in spatial]
    op = g.r.choice(["MaxPool", "AveragePool"])
    shape = [(s + lo + hi - k) // st + 1 for s, (k, st, lo, hi) in zip(spatial, w)]
    more = {"count_include_pad": g.r.randint(0, 1)} if op == "AveragePool" else {}
    g.add(op, [v], [out(v, list(v.shape[:2]) + shape, exact=v.exact and op == "MaxPool")], kernel_shape=[p[0] for p in w],
          strides=[p[1] for p in w], pads=[p[2] for p in w] + [p[3] for p in w], **more)


def reorder(g):
    v = g.pick(kind=g.r.choice([F32, F32, I64, BOOL]), least=1)
    op = g.r.choice("Transpose Reshape Flatten Unsqueeze Squeeze Expand Tile Concat Split Slice Pad Trilu".split())
    a, axis = g.axis(v)
    if op == "Transpose":
        perm = g.r.sample(range(v.rank), v.rank)
        g.add(op, [v], [out(v, [v.shape[p] for p in perm])], perm=perm)
    elif op == "Reshape":
        n, shape = v.size, []
        while n > 1 and len(shape) < 4:
            d = g.r.choice([k for k in range(1, n + 1) if n % k == 0])
            shape.append(d)
            n //= d
        shape.append(n)
        asked = list(shape)
        if g.r.random() < 0.5:
            asked[g.r.randrange(len(asked))] = -1
        g.add(op, [v, g.ints(*asked)], [out(v, shape)])
    elif op == "Flatten":
        k = g.r.randint(0, v.rank)
        g.add(op, [v], [out(v, [math.prod(v.shape[:k]), math.prod(v.shape[k:])])], axis=k)
    elif op == "Unsqueeze" and v.rank < 5:
        k = g.r.randint(0, v.rank)
        g.add(op, [v, g.ints(k)], [out(v, v.shape[:k] + (1,) + v.shape[k:])])
    elif op == "Squeeze" and 1 in v.shape:
        k = g.r.choice([i for i, d in enumerate(v.shape) if d == 1])
        g.add(op, [v, g.ints(k)], [out(v, v.shape[:k] + v.shape[k + 1:])])
    elif op == "Expand":
        shape = ([g.r.randint(1, 3)] if v.rank < 5 else []) + [g.r.randint(2, 4) if d == 1 else d for d in v.shape]
        g.add(op, [v, g.ints(*shape)], [out(v, shape)])
    elif op == "Tile":
        times = [g.r.randint(1, 2) for _ in v.shape]
        g.add(op, [v, g.ints(*times)], [out(v, [d * t for d, t in zip(v.shape, times)])])
    elif op == "Concat":
        w = [x for x in g.values if x.kind == v.kind and x.rank == v.rank and
             all(p == q for i, (p, q) in enumerate(zip(x.shape, v.shape)) if i != a)]
        w = [v] + g.r.choices(w, k=g.r.randint(1, 2))
        shape = [sum(x.shape[a] for x in w) if i == a else d for i, d in enumerate(v.shape)]
        g.add(op, w, [out(v, shape, exact=all(x.exact for x in w), bound=max(x.bound for x in w))], axis=axis)
    elif op == "Split" and v.shape[a] > 1:
        k = g.r.randint(1, v.shape[a] - 1)
        sizes = [k, v.shape[a] - k]
        g.add(op, [v, g.ints(*sizes)], [out(v, [s if i == a else d for i, d in enumerate(v.shape)]) for s in sizes], axis=axis)
    elif op == "Slice":
        d, step = v.shape[a], g.r.choice([1, 1, 2, -1, -2])
        start, stop = (g.r.randint(-d, d - 1), g.r.choice([d, 2 ** 62, g.r.randint(-d, d)]))
        if step < 0:
            start, stop = g.r.choice([d - 1, 2 ** 62, -1]), g.r.choice([-2 ** 62, -d - 1, 0])
        n = len(range(*slice(start, stop, step).indices(d)))
        if n:
            g.add(op, [v, g.ints(start), g.ints(stop), g.ints(axis), g.ints(step)],
                  [out(v, [n if i == a else d for i, d in enumerate(v.shape)])])
    elif op == "Pad" and v.kind == F32:
        mode = g.r.choice(["constant", "edge", "reflect", "wrap"])
        lo = [g.r.randint(0, min(2, d - 1)) for d in v.shape]
        hi = [g.r.randint(0, min(2, d - 1)) for d in v.shape]
        g.add(op, [v, g.ints(*lo, *hi)] + ([g.const(np.float32(0.5))] if mode == "constant" else []),
              [out(v, [d + p + q for d, p, q in zip(v.shape, lo, hi)])], mode=mode)
    elif op == "Trilu" and v.rank > 1:
        g.add(op, [v, g.const(np.int64(g.r.randint(-2, 2)))], [out(v)], upper=g.r.randint(0, 1))


def index(g):
    v = g.pick(kind=g.r.choice([F32, F32, I64]), least=1)
    op = g.r.choice("Gather GatherElements GatherND ScatterElements ScatterND OneHot CumSum NonZero Compress ReverseSequence".split())
    a, axis = g.axis(v)
    d = v.shape[a]
    if op == "Gather":
        shape = [g.r.randint(1, 3) for _ in range(g.r.randint(0, 2))]
        g.add(op, [v, g.const(g.np.integers(-d, d, shape))], [out(v, list(v.shape[:a]) + shape + list(v.shape[a + 1:]))], axis=axis)
    elif op == "GatherElements":
        shape = [g.r.randint(1, 4) if i == a else g.r.randint(1, s) for i, s in enumerate(v.shape)]
        g.add(op, [v, g.const(g.np.integers(-d, d, shape))], [out(v, shape)], axis=axis)
    elif op == "GatherND":
        q = g.r.randint(1, v.rank)
        n = g.r.randint(1, 4)
        at = np.stack([g.np.integers(-s, s, n) for s in v.shape[:q]], -1)
        g.add(op, [v, g.const(at)], [out(v, (n,) + v.shape[q:])])
    elif op == "ScatterElements":
        shape = [g.r.randint(1, s) for s in v.shape]
        order = np.argsort(g.np.random([d if i == a else s for i, s in enumerate(shape)]), axis=a)
        at = np.take(order, range(shape[a]), axis=a)
        g.add(op, [v, g.const(at), g.const(g.array(v.kind, shape))],
              [out(v, bound=v.bound + 8, exact=False)], axis=axis, reduction=g.r.choice(["none", "add", "max", "min"]))
    elif op == "ScatterND":
        q = g.r.randint(1, v.rank)
        flat = g.np.permutation(math.prod(v.shape[:q]))[:g.r.randint(1, 4)]
        at = np.stack(np.unravel_index(flat, v.shape[:q]), -1)
        g.add(op, [v, g.const(at.astype(np.int64)), g.const(g.array(v.kind, (len(flat),) + v.shape[q:]))],
              [out(v, bound=v.bound + 8, exact=False)], reduction=g.r.choice(["none", "add", "max", "min"]))
    elif op == "OneHot":
        w = g.pick(kind=I64, rank=(1, 2), bound=100)
        g.add(op, [w, g.const(np.int64(5)), g.const(np.array([-1, 2], np.float32))], [(F32, w.shape + (5,), True, 2)])
    elif op == "CumSum":
        g.add(op, [v, g.const(np.int64(axis))], [out(v, exact=v.exact and v.kind == I64, bound=v.bound * d)],
              exclusive=g.r.randint(0, 1), reverse=g.r.randint(0, 1))
    elif op == "NonZero":
        w = g.pick(exact=True, least=1, limit=256)
        found = g.add(op, [w], [(I64, (w.rank, 0), True, 64)])
        total = g.add("Size", [found], [(I64, (), True, 1e4)])
        g.values.remove(found)
        g.add("Cast", [total], [(F32, (), True, 1e4)], to=F32)
    elif op == "Compress":
        keep = g.np.random(d) < 0.6
        if keep.any():
            g.add(op, [v, g.const(keep)], [out(v, [int(keep.sum()) if i == a else s for i, s in enumerate(v.shape)])], axis=axis)
    elif op == "ReverseSequence" and v.rank > 1:
        lens = g.np.integers(1, v.shape[0] + 1, v.shape[1])
        g.add(op, [v, g.const(lens)], [out(v)], time_axis=0, batch_axis=1)


def image(g):
    v = g.pick(rank=(4,), limit=1024)
    op = g.r.choice(["Resize", "DepthToSpace", "SpaceToDepth", "GridSample"])
    n, c, hh, ww = v.shape
    if op == "Resize":
        mode = g.r.choice(["nearest", "linear", "cubic"])
        th, tw = g.r.randint(1, 2 * hh), g.r.randint(1, 2 * ww)
        more = {"nearest_mode": "floor"} if mode == "nearest" else {}
        g.add(op, [v, "", "", g.ints(n, c, th, tw)], [out(v, (n, c, th, tw), exact=v.exact and mode == "nearest", bound=2 * v.bound)],
              mode=mode, coordinate_transformation_mode="asymmetric" if mode == "nearest" else
              g.r.choice(["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"]), **more)
    elif op == "DepthToSpace" and c % 4 == 0:
        g.add(op, [v], [out(v, (n, c // 4, hh * 2, ww * 2))], blocksize=2, mode=g.r.choice(["DCR", "CRD"]))
    elif op == "SpaceToDepth" and hh % 2 == 0 and ww % 2 == 0:
        g.add(op, [v], [out(v, (n, c * 4, hh // 2, ww // 2))], blocksize=2)
    elif op == "GridSample":
        grid = (g.np.random((n, 3, 4, 2)) * 2.4 - 1.2).astype(np.float32)
        g.add(op, [v, g.const(grid)], [out(v, (n, c, 3, 4), exact=False, bound=2 * v.bound)], mode=g.r.choice(["linear", "cubic"]),
              padding_mode=g.r.choice(["zeros", "border", "reflection"]), align_corners=g.r.randint(0, 1))


def recurrent(g):
    v = g.pick(rank=(3,), bound=30, limit=512)
    op, directions = g.r.choice([("LSTM", 4), ("GRU", 3), ("RNN", 1)]), g.r.choice([1, 1, 2])
    (op, gates), (s, b, i), hidden = op, v.shape, g.r.randint(1, 5)
    more = {"linear_before_reset": g.r.randint(0, 1)} if op == "GRU" else {}
    g.add(op, [v, g.weight((directions, gates * hidden, i), 0.5), g.weight((directions, gates * hidden, hidden), 0.5),
               g.weight((directions, 2 * gates * hidden), 0.5)],
          [(F32, (s, directions, b, hidden), False, 1), (F32, (directions, b, hidden), False, 1)], hidden_size=hidden,
          direction={1: g.r.choice(["forward", "reverse"]), 2: "bidirectional"}[directions], **more)


def einsum(g):
    v = g.pick(rank=(3,), bound=50, limit=512)
    w = g.weight((v.shape[2], 3), 0.5)
    equation, shape = g.r.choice([("bij,jk->bik", (v.shape[0], v.shape[1], 3)), ("bij,jk->kb", (3, v.shape[0])),
                                  ("...j,jk->...k", (v.shape[0], v.shape[1], 3))])
    g.add("Einsum", [v, w], [(F32, shape, False, v.bound * math.prod(v.shape))], equation=equation)


def branch(g):
    """If on an exact scalar: both branches read a value of the graph."""
    v, c = g.pick(bound=100), g.pick(kind=BOOL, exact=True)
    cond = g.add("ReduceMax", [g.add("Cast", [c], [(F32, c.shape, True, 1)], to=F32)], [(F32, (), True, 1)], keepdims=0)
    cond = g.add("Cast", [cond], [(BOOL, (), True, 1)], to=BOOL)
    bodies = []
    for op in g.r.sample(["Neg", "Tanh", "Relu", "Abs"], 2):
        name = f"b{len(g.nodes)}_{op}"
        bodies.append(h.make_graph([h.make_node(op, [v.name], [name])], name, [], [h.make_tensor_value_info(name, F32, v.shape)]))
    g.used.add(v.name)
    g.add("If", [cond], [out(v, exact=False)], then_branch=bodies[0], else_branch=bodies[1])


def loop(g):
    """A loop that adds a constant to a carried value and collects what it was."""
    v, n = g.pick(bound=100, limit=128), g.r.randint(0, 4)
    step = g.const(np.float32(0.25))
    infos = [h.make_tensor_value_info("it", I64, ()), h.make_tensor_value_info("go", BOOL, ()), h.make_tensor_value_info("have", F32, v.shape)]
    body = h.make_graph([h.make_node("Identity", ["go"], ["go_on"]), h.make_node("Add", ["have", step], ["more"]),
                         h.make_node("Tanh", ["have"], ["row"])], "body", infos,
                        [h.make_tensor_value_info("go_on", BOOL, ()), h.make_tensor_value_info("more", F32, v.shape),
                         h.make_tensor_value_info("row", F32, v.shape)])
    g.add("Loop", [g.const(np.int64(n)), "", v], [out(v, exact=False, bound=v.bound + 1)] +
          ([(F32, (n,) + v.shape, False, 1)] if n else [(F32, (0,) + v.shape, False, 1)]), body=body)


GROUPS = [unary] * 4 + [binary] * 4 + [reorder] * 5 + [index] * 3 + [reduce] * 2 + [norm] * 2 + [conv] * 2 + [matmul] * 2 + [
    jump, integer, integer, compare, compare, logic, cast, choose, gemm, conv_transpose, pool, pool, image, recurrent, einsum, branch, loop]


def make(seed, most=16):
    """(model, feeds) of a seed. In every second graph the sizes of the inputs are symbols."""
    g = Graph(seed)
    for _ in range(g.r.randint(1, 3)):
        g.input(F32, [g.r.randint(1, 6) for _ in range(g.r.choice([1, 2, 3, 4, 4]))])
    if g.r.random() < 0.4:
        g.input(I64, [g.r.randint(1, 6) for _ in range(g.r.randint(1, 3))])
    want = g.r.randint(3, most)
    while len(g.nodes) < want:
        g.r.choice(GROUPS)(g)
    made = [v for v in g.values if v.name.startswith("v") and v.name not in g.used][-8:]
    symbolic = seed % 2
    def info(name, kind, shape):
        return h.make_tensor_value_info(name, kind, [f"{name}_{i}" if symbolic and (i == 0 or seed % 4 == 3) else d
                                                     for i, d in enumerate(shape)])
    graph = h.make_graph(g.nodes, f"seed{seed}", [info(*i) for i in g.inputs],
                         [h.make_tensor_value_info(v.name, v.kind, None) for v in made], g.inits)
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 20)], ir_version=10)
    return model, g.feeds
