"""Broken ONNX files for make_hostile.py: one rule of the format broken in each."""
import os

from onnx_file import (BOOL, FLOAT, FLOAT16, INT4, INT64, STRING, add, attr_graph, attr_int, attr_ints, attr_str, encode, external,
                       graph, model, node, tensor, value_info, varint)

BIG = 2 ** 62


def register(case):
    def one(name, words, data, errors=1, files=(), file="m.onnx", prepare=None):
        """files: (name, bytes) beside the model."""
        def make(folder):
            with open(os.path.join(folder, "m.onnx"), "wb") as f:
                f.write(data)
            for other, content in files:
                with open(os.path.join(folder, other), "wb") as f:
                    f.write(content)
            if prepare:
                prepare(folder)
        case(f"onnx-{name}", None, file, words, errors, ("check", "{}/m.onnx"))(make)

    good = add()

    # ---- the encoding -----------------------------------------------------------------------------------------
    one("empty", "", b"")
    one("text", "", b"this is not a model, but a sentence\n" * 3)
    one("zeros", "", b"\0" * 64)
    for cut in (1, 7, len(good) // 3, len(good) // 2, len(good) - 9, len(good) - 1):
        one(f"cut-{cut}", "", good[:cut])
    one("long-varint", "", b"\x08" + b"\xff" * 12 + b"\x01")
    one("length-beyond", "", b"\x3a" + varint(BIG) + b"abc")
    one("group", "", good + b"\x0b\x0c")
    one("wrong-wire-type", "", b"\x38\x05" + good)
    one("graph-twice-cut", "", good + b"\x3a\x7f")
    deep = [node("Identity", ["x"], ["y"])]
    for _ in range(400):
        deep = [encode(node("If", ["c"], ["y"], attr_graph("then_branch", graph(deep, outputs=[value_info("y")])),
                            attr_graph("else_branch", graph([], outputs=[value_info("y")]))))]
    one("nested-400", "", model(graph(deep, [value_info("x"), value_info("c", BOOL, ())], [value_info("y")])))
    one("bad-utf8-name", "", add(nodes=[[(1, b"x"), (1, b"\xff\xfe"), (2, b"y"), (3, b"\xc3"), (4, b"Add")]]))

    # ---- versions ---------------------------------------------------------------------------------------------
    one("no-graph", "graph", model(None))
    one("no-ir-version", "IR version", add(ir=None))
    one("ir-version-2", "2", add(ir=2))
    one("ir-version-99", "99", add(ir=99))
    one("no-opset", "opset", add(opset=None))
    one("opset-0", "0", add(opset=0))
    one("opset-99", "99", add(opset=99))
    one("opset-negative", "-3", add(opset=-3))
    one("opset-twice", "ai.onnx", add(domains=[("", 13)]))
    one("unknown-domain", ["org.example", "the_Add"], add(nodes=[node("Add", ["x", "w"], ["y"], domain="org.example")],
                                                          domains=[("org.example", 1)]))
    one("domain-without-opset", ["org.example", "the_Add"], add(nodes=[node("Add", ["x", "w"], ["y"], domain="org.example")]))
    one("unknown-op", ["Frobnicate", "the_Frobnicate"], add(nodes=[node("Frobnicate", ["x", "w"], ["y"])]))
    one("op-newer-than-opset", ["Gelu", "17"], add(nodes=[node("Gelu", ["x"], ["y"])]))
    one("three-unsupported", ["Frobnicate", "the_Frobnicate"], errors=3, data=add(nodes=[
        node("Frobnicate", ["x"], ["a"]), node("Zap", ["x"], ["b"]), node("Add", ["a", "b"], ["c"]), node("Blub", ["x"], ["d"]),
        node("Add", ["c", "d"], ["y"])]))

    # ---- the graph --------------------------------------------------------------------------------------------
    one("missing-input", ["nowhere", "the_Add"], add(nodes=[node("Add", ["x", "nowhere"], ["y"])]))
    one("missing-output", "'z'", add(outputs=[value_info("z")]))
    one("no-output", "output", add(outputs=[]))
    one("cycle", "a", add(nodes=[node("Add", ["x", "b"], ["a"], name="first"), node("Add", ["a", "w"], ["b"], name="second"),
                                 node("Add", ["a", "b"], ["y"], name="third")]))
    one("self-loop", "the_Add", add(nodes=[node("Add", ["y", "w"], ["y"])]))
    one("output-twice", "'y'", add(nodes=[node("Add", ["x", "w"], ["y"]), node("Mul", ["x", "w"], ["y"])]))
    one("input-twice", "'x'", add(inputs=[value_info("x"), value_info("x")]))
    one("initializer-twice", "'w'", add(inits=[tensor("w"), tensor("w")]))
    one("output-is-input-name", "'x'", add(nodes=[node("Add", ["x", "w"], ["x"])], outputs=[value_info("x")]))
    one("too-many-inputs", ["the_Add", "3"], add(nodes=[node("Add", ["x", "w", "w"], ["y"])]))
    one("too-few-inputs", "the_Add", add(nodes=[node("Add", ["x"], ["y"])]))
    one("absent-required-input", "the_Add", add(nodes=[node("Add", ["x", ""], ["y"])]))
    one("unknown-attribute", ["the_Add", "colour"], add(nodes=[node("Add", ["x", "w"], ["y"], attr_str("colour", "red"))]))
    one("attribute-of-wrong-type", ["the_Concat", "axis"], add(nodes=[node("Concat", ["x", "w"], ["y"], attr_str("axis", "one"))]))
    one("attribute-missing", ["the_Concat", "axis"], add(nodes=[node("Concat", ["x", "w"], ["y"])]))
    one("attribute-twice", ["the_Concat", "axis"], add(nodes=[node("Concat", ["x", "w"], ["y"], attr_int("axis", 0), attr_int("axis", 1))]))
    one("axis-out-of-range", ["the_Concat", "7"], add(nodes=[node("Concat", ["x", "w"], ["y"], attr_int("axis", 7))]))
    one("perm-not-a-permutation", "the_Transpose", add(nodes=[node("Transpose", ["x"], ["y"], attr_ints("perm", 0, 0))], inits=[]))
    one("perm-huge", "the_Transpose", add(nodes=[node("Transpose", ["x"], ["y"], attr_ints("perm", BIG, -BIG))], inits=[]))
    one("shapes-differ", ["the_Add", "3", "4"], add(inits=[tensor("w", dims=(2, 4))]))
    one("types-differ", "the_Add", add(inits=[tensor("w", FLOAT16, raw=b"\0" * 12)]))
    one("condition-not-bool", "the_If", add(nodes=[node("If", ["x"], ["y"],
        attr_graph("then_branch", graph([], outputs=[value_info("w")])), attr_graph("else_branch", graph([], outputs=[value_info("w")])))]))
    one("branch-outputs", "the_If", add(inputs=[value_info("x"), value_info("c", BOOL, ())], nodes=[node("If", ["c"], ["y"],
        attr_graph("then_branch", graph([], outputs=[])), attr_graph("else_branch", graph([], outputs=[value_info("w")])))]))
    one("no-branch", "the_If", add(inputs=[value_info("x"), value_info("c", BOOL, ())], nodes=[node("If", ["c"], ["y"])]))

    # ---- tensors ----------------------------------------------------------------------------------------------
    one("dim-negative", "'w'", add(inits=[tensor("w", dims=(2, -3), raw=b"\0" * 24)]))
    one("dims-overflow", "'w'", add(inits=[tensor("w", dims=(BIG, BIG), raw=b"\0" * 24)]))
    one("dims-huge", "'w'", add(inits=[tensor("w", dims=(2 ** 40, 3), raw=b"\0" * 24)]))
    one("too-many-dims", "'w'", add(inits=[tensor("w", dims=(1,) * 20, raw=b"\0" * 4)]))
    one("raw-too-short", ["'w'", "20", "24"], add(inits=[tensor("w", raw=b"\0" * 20)]))
    one("raw-too-long", ["'w'", "28", "24"], add(inits=[tensor("w", raw=b"\0" * 28)]))
    one("data-twice", "'w'", add(inits=[tensor("w", raw=b"\0" * 24, f4=b"\0" * 24)]))
    one("wrong-data-field", "'w'", add(inits=[tensor("w", f7=b"\0" * 6)]))
    one("type-0", "'w'", add(inits=[tensor("w", 0, raw=b"\0" * 24)]))
    one("type-99", ["'w'", "99"], add(inits=[tensor("w", 99, raw=b"\0" * 24)]))
    one("strings", ["'w'", "string"], add(inits=[tensor("w", STRING, dims=(1,), f6="abc")]))
    one("complex", "'x'", add(inputs=[value_info("x", 14)]))
    one("input-without-type", "'x'", add(inputs=[[(1, "x")]]))
    one("input-without-shape", "'x'", add(inputs=[value_info("x", shape=None)]))
    one("input-dim-negative", "'x'", add(inputs=[value_info("x", shape=(2, -2))]))
    one("input-map", "'x'", add(inputs=[[(1, "x"), (2, [(5, [(1, INT64), (2, [(1, [(1, FLOAT)])])])])]]))
    one("int4-odd", "'w'", add(inits=[tensor("w", INT4, dims=(3, 3), raw=b"\0" * 3)]))
    one("segment", "'w'", add(inits=[tensor("w", raw=b"\0" * 24, f3=[(1, 0), (2, 24)])]))
    one("reshape-huge", "the_Reshape", add(nodes=[node("Reshape", ["x", "s"], ["y"])],
                                           inits=[tensor("s", INT64, (2,), raw=b"\xff" * 7 + b"\x3f" + b"\xff" * 7 + b"\x3f")]))
    one("reshape-mismatch", "the_Reshape", add(nodes=[node("Reshape", ["x", "s"], ["y"])],
                                               inits=[tensor("s", INT64, (1,), raw=b"\x07" + b"\0" * 7)]))
    one("constant-of-shape-huge", "the_ConstantOfShape", add(nodes=[node("ConstantOfShape", ["s"], ["y"])],
                                                             inits=[tensor("s", INT64, (2,), raw=(b"\0" * 7 + b"\x40") * 2)]))

    # ---- external data ----------------------------------------------------------------------------------------
    data = [("w.bin", b"\0" * 24)]
    one("external-missing-file", ["'w'", "none.bin"], add(inits=[external("w", "none.bin")]))
    one("external-no-location", "'w'", add(inits=[external("w", None)]))
    one("external-parent", ["'w'", "../w.bin"], add(inits=[external("w", "../w.bin")]), files=data)
    one("external-parent-inside", ["'w'", "a/../../w.bin"], add(inits=[external("w", "a/../../w.bin")]), files=data)
    one("external-absolute", ["'w'", "/etc/passwd"], add(inits=[external("w", "/etc/passwd")]))
    one("external-folder", "'w'", add(inits=[external("w", ".")]), files=data)
    one("external-empty-name", "'w'", add(inits=[external("w", "")]), files=data)
    one("external-nul", "'w'", add(inits=[external("w", "w.bin\0x")]), files=data)
    one("external-offset-beyond", ["'w'", "25"], add(inits=[external("w", "w.bin", offset=25)]), files=data)
    one("external-length-beyond", ["'w'", "4096"], add(inits=[external("w", "w.bin", length=4096)]), files=data)
    one("external-length-short", ["'w'", "20", "24"], add(inits=[external("w", "w.bin", length=20)]), files=data)
    one("external-offset-overflow", "'w'", add(inits=[external("w", "w.bin", offset=2 ** 64 - 8)]), files=data)
    one("external-offset-words", "'w'", add(inits=[external("w", "w.bin", offset="abc")]), files=data)
    one("external-offset-negative", "'w'", add(inits=[external("w", "w.bin", offset=-8)]), files=data)

    def symlink(folder):
        os.symlink("/etc/hostname", os.path.join(folder, "w.bin"))

    def folder_link(folder):
        os.symlink("/etc", os.path.join(folder, "sub"))

    def hard_link(folder):
        os.link(os.path.join(folder, "w.bin"), os.path.join(folder, "v.bin"))

    def fifo(folder):
        os.mkfifo(os.path.join(folder, "w.bin"))
    one("external-symlink", ["'w'", "w.bin"], add(inits=[external("w", "w.bin", length=1)]), prepare=symlink)
    one("external-symlink-folder", ["'w'", "sub/hostname"], add(inits=[external("w", "sub/hostname", length=1)]), prepare=folder_link)
    one("external-hard-link", ["'w'", "w.bin"], add(inits=[external("w", "w.bin")]), files=data, prepare=hard_link)
    one("external-fifo", ["'w'", "w.bin"], add(inits=[external("w", "w.bin")]), prepare=fifo)

    # ---- functions --------------------------------------------------------------------------------------------
    def function(name, nodes, inputs=("a",), outputs=("b",), domain="org.local", more=()):
        return (25, [(1, name), *[(4, i) for i in inputs], *[(5, o) for o in outputs], *[(7, n) for n in nodes],
                     (9, [(1, ""), (2, 17)]), (9, [(1, "org.local"), (2, 1)]), (10, domain), *more])
    call = [node("F", ["x"], ["y"], domain="org.local")]
    local = [("org.local", 1)]
    one("function-recursive", "F", add(nodes=call, domains=local, more=[function("F", [node("F", ["a"], ["b"], domain="org.local")])]))
    one("function-mutual", "F", add(nodes=call, domains=local, more=[
        function("F", [node("G", ["a"], ["b"], domain="org.local")]), function("G", [node("F", ["a"], ["b"], domain="org.local")])]))
    one("function-twice", "F", add(nodes=call, domains=local, more=[function("F", [node("Neg", ["a"], ["b"])])] * 2))
    one("function-output-missing", "F", add(nodes=call, domains=local, more=[function("F", [node("Neg", ["a"], ["c"])])]))
    one("function-sees-graph", ["w"], add(nodes=call, domains=local, more=[function("F", [node("Add", ["a", "w"], ["b"])])]))
    one("function-too-many-inputs", "F", add(nodes=[node("F", ["x", "w", "x"], ["y"], domain="org.local")], domains=local,
                                             more=[function("F", [node("Neg", ["a"], ["b"])])]))
    bomb = [function("F0", [node("Add", ["a", "a"], ["b"])])]
    for i in range(1, 40):
        bomb.append(function(f"F{i}", [node(f"F{i - 1}", ["a"], ["c"], domain="org.local", name="l"),
                                       node(f"F{i - 1}", ["c"], ["b"], domain="org.local", name="r")]))
    one("function-bomb", "F", add(nodes=[node("F39", ["x"], ["y"], domain="org.local")], domains=local, more=bomb))
