"""ONNX files written field by field, so that any of them can be wrong: a message is a list of (number, value); an int is a
varint, bytes and str are length-delimited, a list is a message, a float has 32 bits. Field numbers are those of onnx.proto."""
import struct

FLOAT, UINT8, INT8, INT32, INT64, STRING, BOOL, FLOAT16, INT4 = 1, 2, 3, 6, 7, 8, 9, 10, 22


def varint(n):
    n &= 2 ** 64 - 1
    out = b""
    while n >= 128:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def encode(message):
    out = b""
    for number, value in message:
        if isinstance(value, bool) or isinstance(value, int):
            out += varint(number << 3) + varint(int(value))
        elif isinstance(value, float):
            out += varint(number << 3 | 5) + struct.pack("<f", value)
        else:
            data = encode(value) if isinstance(value, list) else value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(data)) + data
    return out


def dim(d):
    return [(2, d)] if isinstance(d, str) else [(1, d)]


def value_info(name, kind=FLOAT, shape=(2, 3)):
    tensor = [(1, kind)] + ([(2, [(1, dim(d)) for d in shape])] if shape is not None else [])
    return [(1, name), (2, [(1, tensor)])]


def tensor(name, kind=FLOAT, dims=(2, 3), raw=None, **more):
    """more: extra fields by number, as f5=..."""
    if raw is None and not more:
        raw = b"\0" * (4 * (dims[0] if dims else 1) * (dims[1] if len(dims) > 1 else 1))
    out = [(1, d) for d in dims] + [(2, kind), (8, name)]
    if raw is not None:
        out.append((9, raw))
    return out + [(int(k[1:]), v) for k, v in more.items()]


def external(name, location, offset=0, length=24, kind=FLOAT, dims=(2, 3), **pairs):
    out = [(1, d) for d in dims] + [(2, kind), (8, name), (14, 1)]
    for key, value in (("location", location), ("offset", offset), ("length", length), *pairs.items()):
        if value is not None:
            out.append((13, [(1, key), (2, str(value))]))
    return out


def attr_int(name, v):
    return [(1, name), (3, v), (20, 2)]


def attr_ints(name, *v):
    return [(1, name), *[(8, x) for x in v], (20, 7)]


def attr_str(name, v):
    return [(1, name), (4, v), (20, 3)]


def attr_graph(name, g):
    return [(1, name), (6, g), (20, 5)]


def node(op, inputs, outputs, *attrs, name=None, domain=None):
    out = [(1, i) for i in inputs] + [(2, o) for o in outputs] + [(3, name or f"the_{op}"), (4, op)]
    return out + [(5, a) for a in attrs] + ([(7, domain)] if domain else [])


def graph(nodes, inputs=(), outputs=(), inits=(), name="g", more=()):
    return ([(1, n) for n in nodes] + [(2, name)] + [(5, t) for t in inits] + [(11, i) for i in inputs] +
            [(12, o) for o in outputs] + list(more))


def model(g, opset=17, ir=8, more=(), domains=()):
    out = [] if ir is None else [(1, ir)]
    out += [(7, g)] if g is not None else []
    out += [] if opset is None else [(8, [(1, ""), (2, opset)])]
    out += [(8, [(1, d), (2, v)]) for d, v in domains]
    return encode(out + list(more))


def add(**changes):
    """The smallest model, y = x + w, with parts replaced."""
    parts = dict(nodes=[node("Add", ["x", "w"], ["y"])], inputs=[value_info("x")], outputs=[value_info("y")], inits=[tensor("w")])
    top = {k: changes.pop(k) for k in ("opset", "ir", "more", "domains") if k in changes}
    parts.update(changes)
    return model(graph(**parts), **top)
