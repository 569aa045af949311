/* pack.c - weights in panels. A matrix that is only multiplied by (and perhaps gathered from) is stored as
 * panels of 16 result columns: for each k, 16 consecutive values; columns past the last are zeros. "panel16"
 * is made from a matrix stored [n, k], "panel16k" from one stored [k, n], "panelq" (backends/llvm/block.h)
 * from one of a block format stored [n, k]. A stack of matrices [e, n, k], the weight of expert_matmul, is
 * stored as e of them, one behind the other. Weights of convolutions: pack_window.c.
 *
 * bf16 lies in pairs: for each two neighbouring k, 16 times both ("panel16p2", "panel16kp2"; behind an odd k
 * a zero). One load gives two steps of k by a shift and a mask, and it is what the processor's own bf16
 * products take. At precision "fast" wider floats that are only multiplied by are rounded and stored so too;
 * their type stays.
 *
 * Packing streams: a few panels at a time, a few MB in memory whatever the size of the weight. */
#include "backends/cpu/plugin.h"
#include "backends/cpu/ukernel/ukernel.h"
#include "backends/llvm/block.h"
#include "backends/llvm/body.h"

#define CHUNK (4u << 20) /* bytes of input held at a time, about */

/* `count` matrices; k counts what `bytes` are the bytes of: elements, or blocks. */
typedef struct shape {
  uint64_t count, n, k, bytes;
  uint64_t panel; /* bytes of a packed panel */
  bool k_first, pairs;
  tn_dtype dt;
  const tn_quant *q; /* NULL: no block format */
} shape;

static tn_type_info type_of(tn_cpu *c, tn_module *m, tn_type type) {
  tn_type_info t;
  c->ir.type_get(m, type, &t);
  return t;
}

/* dims: how many matrices, and their two sizes. */
static bool matrix(tn_cpu *c, tn_module *m, const tn_type_info *t, int64_t dims[3]) {
  bool kind = t->dtype == TN_DT_f32 || t->dtype == TN_DT_f16 || t->dtype == TN_DT_bf16 ||
              t->dtype == TN_DT_f8e4m3 || tn_quant_of(t->dtype);
  if (!kind || t->rank < 2 || t->rank > 3) return false;
  dims[0] = 1;
  for (uint32_t i = 0; i < t->rank; i++) {
    int64_t *d = &dims[i + 3 - t->rank];
    if (!c->ir.dim_is_const(m, t->dims[i], d) || *d < 1) return false;
  }
  return true;
}

/* What the uses of a value say: bit 1: as rhs with trans_b, 2: as rhs without, 4: as data of a gather along
 * axis 0, 8: anything else, 16: as the experts' matrices, 32: as those of a recurrence. */
enum { BY_ROWS = 1, BY_COLUMNS = 2, GATHERED = 4, OTHER = 8, EXPERTS = 16, RECURRENT = 32 };

static bool recurrence(const char *name) {
  return !strcmp(name, "lstm") || !strcmp(name, "gru") || !strcmp(name, "rnn");
}

static uint32_t uses_of(tn_cpu *c, tn_module *m, tn_value v) {
  tn_value_info info;
  uint32_t all = 0, operand = 0;
  c->ir.value_get(m, v, &info);
  for (uint32_t i = 0; i < info.nuses; i++) {
    tn_op op = c->ir.value_use(m, v, i, &operand);
    const char *name = c->ir.opcode_name(c->ir.opcode(m, op));
    tn_attr a = {0};
    if (!strcmp(name, "kernel"))
      all |= uses_of(c, m, c->ir.body_arg(m, op, operand));
    else if (!strcmp(name, "matmul") && operand == 1 && c->ir.op_attr(m, op, "trans_b", &a))
      all |= a.u.i ? BY_ROWS : BY_COLUMNS;
    else if (!strcmp(name, "gather") && operand == 0 && c->ir.op_attr(m, op, "axis", &a) && a.u.i == 0)
      all |= GATHERED;
    else if (!strcmp(name, "expert_matmul") && operand == 1)
      all |= EXPERTS;
    else if (recurrence(name) && operand == 1)
      all |= RECURRENT;
    else
      all |= OTHER;
  }
  return all;
}

static bool sizes(tn_cpu *c, tn_dtype dt, const int64_t dims[3], bool k_first, bool pairs, shape *s,
                  uint64_t *packed) {
  const tn_quant *q = tn_quant_of(dt);
  *s = (shape){.count = (uint64_t)dims[0],
               .n = (uint64_t)dims[k_first ? 2 : 1],
               .k = (uint64_t)dims[k_first ? 1 : 2],
               .bytes = q ? q->bytes : c->ir.dtype_info(dt)->bits / 8,
               .k_first = k_first,
               .pairs = pairs,
               .dt = dt,
               .q = q};
  if (q) s->k /= q->values;
  uint64_t panels = (s->n + TN_CPU_PANEL - 1) / TN_CPU_PANEL, deep = pairs ? (s->k + 1) / 2 : s->k;
  return tn_mul_u64(TN_CPU_PANEL * (pairs ? 4 : s->bytes), deep, &s->panel) &&
         tn_mul_u64(panels, s->panel, packed) && tn_mul_u64(*packed, s->count, packed);
}

/* Are panels to hold pairs of bf16? What is read one by one keeps its type. */
static bool as_pairs(tn_cpu *c, tn_module *m, tn_dtype dt, uint32_t uses) {
  if (dt == TN_DT_bf16) return !(uses & RECURRENT);
  bool wide = dt == TN_DT_f32 || dt == TN_DT_f16;
  return wide && !(uses & (RECURRENT | GATHERED)) && tn_cpu_precision_of(&c->ir, m) == TN_CPU_FAST;
}

const char *tn_cpu_layout(void *self, tn_module *m, tn_weight w, uint64_t *bytes) {
  tn_cpu *c = self;
  tn_weight_info info;
  int64_t dims[3];
  c->ir.weight_get(m, w, &info);
  tn_type_info t = type_of(c, m, info.type);
  const char *window = tn_cpu_window_layout(c, m, w, bytes);
  if (window) return window;
  if (!matrix(c, m, &t, dims)) return NULL;
  uint32_t uses = uses_of(c, m, info.value);
  bool k_first = (uses & BY_COLUMNS) != 0, blocks = t.dtype >= TN_DT_BLOCK;
  if (t.rank == 3 ? uses != EXPERTS && uses != RECURRENT : uses & (OTHER | EXPERTS | RECURRENT)) return NULL;
  if (t.rank == 2 && (!(uses & (BY_ROWS | BY_COLUMNS)) || (uses & BY_ROWS && k_first))) return NULL;
  if (blocks && (k_first || !tn_cpu_block_handled(t.dtype))) return NULL;
  bool pairs = as_pairs(c, m, t.dtype, uses);
  shape s;
  if (!sizes(c, t.dtype, dims, k_first, pairs, &s, bytes)) return NULL;
  if (blocks) return TN_BLOCK_LAYOUT;
  if (pairs) return k_first ? "panel16kp2" : "panel16p2";
  return k_first ? "panel16k" : "panel16";
}

/* ---- one panel ---- */
#define TURN 256 /* values of a row at a time: what they become stays in the first-level cache */

static uint16_t narrow_f32(uint32_t bits) {
  uint32_t nan = (bits & 0x7fffffff) > 0x7f800000;
  return (uint16_t)(nan ? bits >> 16 | 0x40 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
/* n values as bf16, to nearest even. */
static void narrow(tn_dtype dt, const uint8_t *in, uint64_t n, uint16_t *out) {
  if (dt == TN_DT_bf16) {
    memcpy(out, in, n * 2);
  } else if (dt == TN_DT_f32) {
    for (uint64_t i = 0; i < n; i++) {
      uint32_t bits;
      memcpy(&bits, in + 4 * i, 4);
      out[i] = narrow_f32(bits);
    }
  } else {
    for (uint64_t i = 0; i < n; i++) {
      uint16_t half;
      memcpy(&half, in + 2 * i, 2);
      out[i] = tn_f32_to_bf16(tn_f16_to_f32(half));
    }
  }
}

/* Element i to every 16th place of out. */
#define SPREAD(bytes)                                                                                        \
  for (uint64_t i = 0; i < n; i++) memcpy(out + i * TN_CPU_PANEL * (bytes), in + i * (bytes), bytes)
static void spread(const uint8_t *in, uint64_t n, uint64_t bytes, uint8_t *out) {
  if (bytes == 4)
    SPREAD(4);
  else if (bytes == 2)
    SPREAD(2);
  else
    SPREAD(1);
}

/* One panel from 16 rows of an [n, k] matrix (rows: how many there are). */
static void turn_rows(const shape *s, const uint8_t *in, uint64_t rows, uint8_t *out) {
  uint64_t b = s->bytes, wide = s->pairs ? 4 : b;
  memset(out, 0, s->panel);
  for (uint64_t k = 0; k < s->k; k += TURN)
    for (uint64_t r = 0; r < rows; r++) {
      uint64_t n = s->k - k < TURN ? s->k - k : TURN;
      const uint8_t *from = in + (r * s->k + k) * b;
      uint8_t *to = out + (s->pairs ? k / 2 : k) * TN_CPU_PANEL * wide + r * wide;
      uint16_t narrowed[TURN + 1];
      if (s->pairs) {
        narrow(s->dt, from, n, narrowed);
        narrowed[n] = 0;
      }
      spread(s->pairs ? (const uint8_t *)narrowed : from, s->pairs ? (n + 1) / 2 : n, wide, to);
    }
}

/* The same of a block format: fields of 16 rows side by side. */
static void turn_blocks(const shape *s, const uint8_t *in, uint64_t rows, uint8_t *out) {
  uint64_t row = s->k * s->bytes, group = s->bytes * TN_CPU_PANEL;
  memset(out, 0, row * TN_CPU_PANEL);
  for (uint32_t at = 0, start, size; at < s->bytes; at += size) {
    size = tn_block_field(s->q, at, &start);
    for (uint64_t r = 0; r < rows; r++) {
      const uint8_t *from = in + r * row + at;
      uint8_t *to = out + at * TN_CPU_PANEL + r * size;
      for (uint64_t k = 0; k < s->k; k++, from += s->bytes, to += group) memcpy(to, from, size);
    }
  }
}

static tn_status pack_rows(const shape *s, const tn_reader *in, const tn_writer *out, uint8_t *from,
                           uint8_t *to) {
  uint64_t row = s->k * s->bytes;
  for (uint64_t i = 0; i < s->count; i++)
    for (uint64_t n = 0; n < s->n; n += TN_CPU_PANEL) {
      uint64_t rows = s->n - n < TN_CPU_PANEL ? s->n - n : TN_CPU_PANEL;
      TN_TRY(in->read(in->ctx, (i * s->n + n) * row, from, rows * row));
      if (s->q)
        turn_blocks(s, from, rows, to);
      else
        turn_rows(s, from, rows, to);
      TN_TRY(out->write(out->ctx, to, s->panel));
    }
  return TN_OK;
}

/* Row k of `count` panels. */
static void turn_strip(const shape *s, const uint8_t *from, uint64_t k, uint64_t count, uint8_t *to) {
  uint64_t width = TN_CPU_PANEL * s->bytes;
  for (uint64_t p = 0; p < count; p++) {
    uint8_t *panel = to + p * s->panel;
    uint16_t narrowed[TN_CPU_PANEL];
    if (!s->pairs) {
      memcpy(panel + k * width, from + p * width, width);
      continue;
    }
    narrow(s->dt, from + p * width, TN_CPU_PANEL, narrowed);
    for (uint32_t r = 0; r < TN_CPU_PANEL; r++)
      memcpy(panel + k / 2 * (4 * TN_CPU_PANEL) + 4 * r + 2 * (k % 2), &narrowed[r], 2);
  }
}

/* Panels [first, first + count) of a [k, n] matrix: a strip of every row. */
static tn_status pack_strip(const shape *s, const tn_reader *in, uint64_t first, uint64_t count,
                            uint8_t *from, uint8_t *to) {
  uint64_t at = first * TN_CPU_PANEL, n = s->n - at;
  if (n > count * TN_CPU_PANEL) n = count * TN_CPU_PANEL;
  memset(from, 0, count * TN_CPU_PANEL * s->bytes);
  if (s->pairs) memset(to, 0, count * s->panel);
  for (uint64_t k = 0; k < s->k; k++) {
    TN_TRY(in->read(in->ctx, (k * s->n + at) * s->bytes, from, n * s->bytes));
    turn_strip(s, from, k, count, to);
  }
  return TN_OK;
}

static tn_status pack_columns(const shape *s, const tn_reader *in, const tn_writer *out, uint64_t at_once,
                              uint8_t *from, uint8_t *to) {
  uint64_t panels = (s->n + TN_CPU_PANEL - 1) / TN_CPU_PANEL;
  for (uint64_t p = 0; p < panels; p += at_once) {
    uint64_t count = panels - p < at_once ? panels - p : at_once;
    TN_TRY(pack_strip(s, in, p, count, from, to));
    TN_TRY(out->write(out->ctx, to, count * s->panel));
  }
  return TN_OK;
}

/* Is it a layout that this type is packed as? */
static bool layout_fits(const tn_type_info *t, const char *layout, bool *k_first, bool *pairs) {
  if (t->dtype >= TN_DT_BLOCK) return !strcmp(layout, TN_BLOCK_LAYOUT);
  *pairs = tn_ll_layout_pairs(layout);
  *k_first = !strncmp(layout, "panel16k", 8);
  if (*k_first && t->rank != 2) return false;
  if (*pairs && t->dtype == TN_DT_f8e4m3) return false;
  return !strcmp(layout, *k_first ? *pairs ? "panel16kp2" : "panel16k" : *pairs ? "panel16p2" : "panel16");
}

tn_status tn_cpu_pack(void *self, tn_module *m, tn_weight w, const char *layout, const tn_reader *in,
                      const tn_writer *out) {
  tn_cpu *c = self;
  tn_weight_info info;
  int64_t dims[3];
  if (!strncmp(layout, "window", 6)) return tn_cpu_window_pack(c, m, w, in, out);
  c->ir.weight_get(m, w, &info);
  tn_type_info t = type_of(c, m, info.type);
  bool k_first = false, pairs = false;
  shape s;
  uint64_t packed, at_once = 1;
  if (!layout_fits(&t, layout, &k_first, &pairs) || !matrix(c, m, &t, dims))
    return tn_cpu_fail(c, m, 0, TN_UNSUPPORTED, "weight '%s' cannot be packed as '%s'", info.name, layout);
  if (!sizes(c, t.dtype, dims, k_first, pairs, &s, &packed))
    return tn_cpu_fail(c, m, 0, TN_INVALID, "weight '%s' is too large to be packed", info.name);
  if (k_first && s.panel < CHUNK) at_once = CHUNK / s.panel;
  uint8_t *from = tn_mem_alloc((k_first ? at_once : s.k) * TN_CPU_PANEL * s.bytes),
          *to = tn_mem_alloc(at_once * s.panel);
  tn_status r = !from || !to ? TN_OOM
                : k_first    ? pack_columns(&s, in, out, at_once, from, to)
                             : pack_rows(&s, in, out, from, to);
  if (r == TN_OOM) tn_cpu_fail(c, m, 0, TN_OOM, "no memory to pack weight '%s'", info.name);
  tn_mem_free(from);
  tn_mem_free(to);
  return r;
}
