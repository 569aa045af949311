"""Cases of ssm_scan and delta_scan: the recurrences of the papers, token by token in float64."""

import numpy as np

from goldens import f64, normal, rng, tensor, ulps


def recurrence(x, dt, a, b, c, state):
    """y and the last state; shapes as in ir/ops.def."""
    heads, groups = x.shape[2], b.shape[2]
    b, c = np.repeat(b, heads // groups, 2), np.repeat(c, heads // groups, 2)
    y = np.zeros_like(x)
    for t in range(x.shape[1]):
        keep = np.exp(dt[:, t, :, None] * a)[:, :, None, :]
        state = keep * state + (dt[:, t, :, None] * x[:, t])[..., None] * b[:, t, :, None, :]
        y[:, t] = np.einsum("bhpn,bhn->bhp", state, c[:, t])
    return y, state


def ssm_scan(c):
    shapes = {  # batch, tokens, heads, features, groups, n, shared decay
        "mamba": (2, 5, 6, 1, 1, 16, False),
        "mamba2": (2, 7, 4, 3, 2, 8, True),
        "one": (1, 1, 2, 2, 2, 1, True),
        "none": (2, 0, 2, 2, 1, 4, False),
    }
    for name, (batch, s, h, p, g, n, shared) in shapes.items():
        for dtype in ("f32", "f16") if name == "mamba2" else ("f32",):
            x, dt = tensor(dtype, normal(batch, s, h, p)), tensor(dtype, rng.uniform(0, 1, (batch, s, h)))
            a = tensor("f32", -rng.uniform(0, 3, (h, 1 if shared else n)))
            b, cc = tensor(dtype, normal(batch, s, g, n)), tensor(dtype, normal(batch, s, g, n))
            state = tensor("f32", normal(batch, h, p, n))
            y, last = recurrence(f64(x), f64(dt), f64(a), f64(b), f64(cc), f64(state))
            c.add(
                f"ssm_scan_{name}_{dtype}",
                "ssm_scan %a, %b, %c, %d, %e, %f",
                [x, dt, a, b, cc, state],
                [tensor(dtype, y), tensor("f32", last)],
                ulps(dtype),
            )


def linear_attention(q, k, v, state, decay, beta, scale):
    """y and the last state; shapes as in ir/ops.def, absent ones None."""
    group = q.shape[2] // k.shape[2]
    state = np.zeros((q.shape[0], k.shape[2], q.shape[3], v.shape[3])) if state is None else state
    y = np.zeros(q.shape[:3] + v.shape[3:])
    for t in range(q.shape[1]):
        if decay is not None:
            state = state * np.exp(decay[:, t])[..., None]
        u = v[:, t]
        if beta is not None:
            u = beta[:, t, :, None] * (u - np.einsum("bgde,bgd->bge", state, k[:, t]))
        state = state + k[:, t][..., None] * u[..., None, :]
        y[:, t] = scale * np.einsum("bhd,bhde->bhe", q[:, t], np.repeat(state, group, 1))
    return y, state


def delta_scan(c):
    for name, rule in {"linear": "", "gated": "g", "head": "h", "delta": "b", "both": "gb"}.items():
        for dtype in ("f32", "f16") if name == "both" else ("f32",):
            b, s, h, g, d, e = 2, 5, 4, 2, 6, 3
            q, k, v = (tensor(dtype, normal(b, s, n, f)) for n, f in ((h, d), (g, d), (g, e)))
            state = tensor("f32", normal(b, g, d, e)) if name != "gated" else None
            decay = tensor(dtype, -rng.uniform(0, 2, (b, s, g, 1 if name == "head" else d))) if rule and rule[0] in "gh" else None
            beta = tensor(dtype, rng.uniform(0, 1, (b, s, g))) if "b" in rule else None
            y, last = linear_attention(*[None if t is None else f64(t) for t in (q, k, v, state, decay, beta)], 0.25)
            inputs = [t for t in (q, k, v, state, decay, beta) if t is not None]
            names = iter("%abcdef"[1:])
            operands = ", ".join("_" if t is None else "%" + next(names) for t in (q, k, v, state, decay, beta))
            c.add(f"delta_scan_{name}_{dtype}", f"delta_scan {operands} {{scale = 0.25}}", inputs,
                  [tensor(dtype, y), tensor("f32", last)], ulps(dtype))
