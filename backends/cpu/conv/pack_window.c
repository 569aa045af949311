/* pack_window.c - weights of convolutions in panels of 16 outputs: for each channel and tap the 16 values
 * side by side, outputs past the group's last are zeros; the groups one behind the other. "window16" is made
 * from a weight [groups * n, c, k...], "window16t" from that of a transposed convolution, [groups * c, n,
 * k...]. */
#include "backends/cpu/plugin.h"

#define PANEL TN_CPU_PANEL

typedef struct windows {
  uint64_t groups, n, c, taps; /* n outputs and c channels of a group */
  bool transposed;
} windows;

/* Finds how every use reads weight v: all alike, as a convolution's weight. */
static bool read_uses(tn_cpu *c, tn_module *m, tn_value v, windows *w, bool *found) {
  tn_value_info info;
  c->ir.value_get(m, v, &info);
  for (uint32_t i = 0, operand; i < info.nuses; i++) {
    tn_op op = c->ir.value_use(m, v, i, &operand);
    const char *name = c->ir.opcode_name(c->ir.opcode(m, op));
    if (!strcmp(name, "kernel")) {
      if (!read_uses(c, m, c->ir.body_arg(m, op, operand), w, found)) return false;
      continue;
    }
    tn_attr groups = {0};
    bool transposed = !strcmp(name, "conv_transpose");
    if ((!transposed && strcmp(name, "conv")) || operand != 1 || !c->ir.op_attr(m, op, "groups", &groups))
      return false;
    if (*found && (w->transposed != transposed || w->groups != (uint64_t)groups.u.i)) return false;
    w->transposed = transposed;
    w->groups = (uint64_t)groups.u.i;
    *found = true;
  }
  return true;
}

static bool windows_of(tn_cpu *c, tn_module *m, const tn_weight_info *info, windows *w) {
  tn_type_info t;
  int64_t dims[TN_MAX_RANK];
  bool found = false;
  c->ir.type_get(m, info->type, &t);
  if (t.dtype != TN_DT_f32 || t.rank < 3) return false;
  w->taps = 1;
  for (uint32_t i = 0; i < t.rank; i++) {
    if (!c->ir.dim_is_const(m, t.dims[i], &dims[i]) || dims[i] < 1) return false;
    if (i > 1 && !tn_mul_u64(w->taps, (uint64_t)dims[i], &w->taps)) return false;
  }
  if (!read_uses(c, m, info->value, w, &found) || !found) return false;
  w->n = (uint64_t)dims[w->transposed ? 1 : 0];
  w->c = (uint64_t)dims[w->transposed ? 0 : 1];
  *(w->transposed ? &w->c : &w->n) /= w->groups;
  return w->groups == 1 || w->n >= PANEL / 2; /* else most of a panel would be zeros */
}

const char *tn_cpu_window_layout(tn_cpu *c, tn_module *m, tn_weight weight, uint64_t *bytes) {
  tn_weight_info info;
  windows w;
  c->ir.weight_get(m, weight, &info);
  if (!windows_of(c, m, &info, &w)) return NULL;
  uint64_t panels = (w.n + PANEL - 1) / PANEL;
  if (!tn_mul_u64(panels * PANEL * sizeof(float), w.groups, bytes) || !tn_mul_u64(*bytes, w.c, bytes) ||
      !tn_mul_u64(*bytes, w.taps, bytes))
    return NULL;
  return w.transposed ? "window16t" : "window16";
}

/* `rows` rows of `count` values become columns of the panel from value `at` on. */
static void turn(const float *in, uint64_t rows, uint64_t count, float *panel, uint64_t at) {
  for (uint64_t r = 0; r < rows; r++)
    for (uint64_t k = 0; k < count; k++) panel[(at + k) * PANEL + r] = in[r * count + k];
}

static tn_status pack_panel(const windows *w, const tn_reader *in, uint64_t group, uint64_t first,
                            float *from, float *to) {
  uint64_t rows = w->n - first < PANEL ? w->n - first : PANEL, depth = w->c * w->taps;
  memset(to, 0, depth * PANEL * sizeof *to);
  if (!w->transposed) {
    TN_TRY(
        in->read(in->ctx, (group * w->n + first) * depth * sizeof *from, from, rows * depth * sizeof *from));
    turn(from, rows, depth, to, 0);
    return TN_OK;
  }
  for (uint64_t c = 0; c < w->c; c++) {
    uint64_t at = ((group * w->c + c) * w->n + first) * w->taps;
    TN_TRY(in->read(in->ctx, at * sizeof *from, from, rows * w->taps * sizeof *from));
    turn(from, rows, w->taps, to, c * w->taps);
  }
  return TN_OK;
}

tn_status tn_cpu_window_pack(tn_cpu *c, tn_module *m, tn_weight weight, const tn_reader *in,
                             const tn_writer *out) {
  tn_weight_info info;
  windows w;
  uint64_t bytes;
  c->ir.weight_get(m, weight, &info);
  if (!windows_of(c, m, &info, &w) || !tn_mul_u64(w.c * PANEL * sizeof(float), w.taps, &bytes))
    return tn_cpu_fail(c, m, 0, TN_UNSUPPORTED, "weight '%s' cannot be packed for a convolution", info.name);
  float *from = tn_mem_alloc(bytes), *to = tn_mem_alloc(bytes);
  tn_status s = from && to ? TN_OK : tn_cpu_fail(c, m, 0, TN_OOM, "no memory to pack weight '%s'", info.name);
  for (uint64_t g = 0; g < w.groups && s == TN_OK; g++)
    for (uint64_t n = 0; n < w.n && s == TN_OK; n += PANEL) {
      s = pack_panel(&w, in, g, n, from, to);
      if (s == TN_OK) s = out->write(out->ctx, to, bytes);
    }
  tn_mem_free(from);
  tn_mem_free(to);
  return s;
}
