"""Cases of lstm, gru and rnn: PyTorch in float64, and ONNX Runtime for what PyTorch has not: peepholes, clips, other
activations, sequences of different lengths."""

import numpy as np
import torch

from goldens import f64, normal, tensor, torch64, ulps
from irregular import runtime

GATES = {"lstm": 4, "gru": 3, "rnn": 1}
TORCH = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}
# Position of our gates in PyTorch's order: i f g o, r z n.
ORDER = {"lstm": [0, 3, 1, 2], "gru": [1, 0, 2], "rnn": [0]}


def reordered(op, w, h):
    """PyTorch's rows of gates in our order."""
    return np.concatenate([w[k * h : (k + 1) * h] for k in ORDER[op]])


def with_torch(c, op, h, steps, batch, both, dtype):
    d = 2 if both else 1
    net = TORCH[op](3, h, bidirectional=both).double()
    for p in net.parameters():
        p.data = torch64(tensor(dtype, p.detach().numpy()))
    x = torch64(tensor(dtype, normal(steps, batch, 3)))
    state = [tensor(dtype, normal(d, batch, h)) for _ in range(2 if op == "lstm" else 1)]
    with torch.no_grad():
        given = tuple(torch64(t) for t in state) if op == "lstm" else torch64(state[0])
        y, last = net(x, given)
    last = last if op == "lstm" else (last,)
    get = lambda name, k: getattr(net, name + ("_reverse" if k else "")).detach().numpy()
    r = np.stack([reordered(op, get("weight_hh_l0", k), h) for k in range(d)])
    parts = []
    for k in range(d):
        add = get("bias_ih_l0", k).copy()
        add[: 2 * h if op == "gru" else None] += get("bias_hh_l0", k)[: 2 * h if op == "gru" else None]
        parts.append((x.numpy() @ get("weight_ih_l0", k).T + add))
    parts = [np.concatenate([p[..., k * h : (k + 1) * h] for k in ORDER[op]], -1) for p in parts]
    ins = [tensor("f64" if dtype == "f64" else dtype, np.stack(parts, 2)), tensor(dtype, r), *state]
    attrs = [f'direction = "{"both" if both else "forward"}"']
    if op == "gru":
        ins.append(tensor(dtype, np.stack([get("bias_hh_l0", k)[2 * h :] for k in range(d)])))
        attrs.append("reset_after")
    y = y.reshape(steps, batch, d, h).permute(0, 2, 1, 3).numpy()
    outs = [tensor(dtype, y), *(tensor(dtype, v.numpy()) for v in last)]
    names = ", ".join("%" + "abcde"[i] for i in range(len(ins)))
    # The input's part is rounded once more than in PyTorch.
    c.add(f"{op}_torch_{h}_{'both' if both else 'forward'}_{dtype}", f"{op} {names} {{{', '.join(attrs)}}}", ins, outs, ulps(dtype, 64))


def with_runtime(c, op, name, direction, lengths, peephole, ours, theirs):
    g, d, h, steps, batch = GATES[op], 2 if direction == "both" else 1, 4, 5, 3
    x = normal(steps, batch, 2).astype(np.float32)
    w, r = normal(d, g * h, 2).astype(np.float32), normal(d, g * h, h).astype(np.float32) / 2
    b = normal(d, 2 * g * h).astype(np.float32)
    n = np.array([5, 2, 3], np.int32) if lengths else None
    h0, c0 = normal(d, batch, h).astype(np.float32), normal(d, batch, h).astype(np.float32)
    p = normal(d, 3 * h).astype(np.float32) if peephole else None
    attrs = {"hidden_size": h, "direction": {"both": "bidirectional"}.get(direction, direction), **theirs}
    raw = [x, w, r, b, n, h0] + ([c0, p] if op == "lstm" else [])
    outs = runtime(op.upper(), attrs, raw, 3 if op == "lstm" else 2)
    after = op == "gru" and theirs.get("linear_before_reset")
    bias = b[:, : g * h].astype(np.float64).copy()
    bias[:, : 2 * h if after else None] += b[:, g * h :][:, : 2 * h if after else None]
    part = np.einsum("sbi,dgi->sbdg", x.astype(np.float64), w.astype(np.float64)) + bias
    more = [p] if op == "lstm" else [b[:, (2 * g - 1) * h :] if after else None] if op == "gru" else []
    ins = [part, r, h0, *([c0] if op == "lstm" else []), *more, n]
    given = [tensor("i32" if v is n else "f32", v) for v in ins if v is not None]
    letters = iter("abcdefgh")
    names = ", ".join("%" + next(letters) if v is not None else "_" for v in ins)
    text = f'{op} {names} {{direction = "{direction}"{ours}}}'
    c.add(f"{op}_{name}_{direction}", text, given, [tensor("f32", v) for v in outs], (2e-6, 1e-5))


def recurrent(c):
    torch.manual_seed(7)
    for op in GATES:
        for h, steps, batch, both, dtype in ((5, 4, 3, False, "f32"), (4, 3, 2, True, "f32"), (17, 2, 1, False, "f64"), (3, 3, 2, True, "f16")):
            with_torch(c, op, h, steps, batch, both, dtype)
        for direction in ("forward", "reverse", "both"):
            with_runtime(c, op, "lengths", direction, True, False, "", {})
        with_runtime(c, op, "clip", "forward", False, False, ", clip = 0.5", {"clip": 0.5})
    for direction in ("reverse", "both"):
        with_runtime(c, "lstm", "peephole", direction, True, True, "", {})
    with_runtime(c, "gru", "reset_after", "both", True, False, ", reset_after", {"linear_before_reset": 1})
    others = {
        "relu": ("Relu", []),
        "affine 0.5 0.25": ("Affine", [0.5, 0.25]),
        "leaky_relu 0.1": ("LeakyRelu", [0.1]),
        "thresholded_relu 0.2": ("ThresholdedRelu", [0.2]),
        "scaled_tanh 1.5 0.5": ("ScaledTanh", [1.5, 0.5]),
        "hard_sigmoid 0.2 0.5": ("HardSigmoid", [0.2, 0.5]),
        "elu 0.7": ("Elu", [0.7]),
        "softsign": ("Softsign", []),
        "softplus": ("Softplus", []),
    }
    for name, (theirs, numbers) in others.items():
        attrs = {"activations": [theirs]}
        if numbers:
            attrs["activation_alpha"] = numbers[:1]
        if len(numbers) > 1:
            attrs["activation_beta"] = numbers[1:]
        with_runtime(c, "rnn", name.split()[0], "forward", False, False, f', activations = "{name}"', attrs)
