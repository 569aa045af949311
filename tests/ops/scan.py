"""Cases of ssm_scan: the recurrence of the papers, token by token in float64."""

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
