/* affine.c - reads integer tensors as sums of their indices, and comparisons between them as conditions on a
 * query and a key; see affine.h. Each operand is visited once per use, so a budget bounds the work. */
#include "passes/affine.h"
#include "backends/ref/ref.h"

#define BUDGET 256

typedef struct reader {
  tn_module *m;
  uint32_t left; /* ops that may still be visited */
} reader;

static bool read_value(reader *r, tn_value v, tn_affine *out);

static bool is_zero(reader *r, tn_dim d) { return tn_rw_dim_is(r->m, d, 0); }
static bool is_one(reader *r, tn_dim d) { return tn_rw_dim_is(r->m, d, 1); }

/* The shape of v, no index counting yet. */
static void blank(reader *r, tn_value v, tn_affine *out) {
  tn_type_info t = tn_rw_type_info(r->m, v);
  out->rank = t.rank;
  out->base = tn_ir_dim_const(r->m, 0);
  for (uint32_t i = 0; i < t.rank; i++) {
    out->dims[i] = t.dims[i];
    out->coef[i] = out->base;
  }
}

/* An axis of one element counts nothing. */
static bool settle(reader *r, tn_affine *x) {
  for (uint32_t i = 0; i < x->rank; i++) {
    if (is_one(r, x->dims[i])) x->coef[i] = tn_ir_dim_const(r->m, 0);
    if (!x->coef[i]) return false;
  }
  return x->base;
}

static bool is_integer(reader *r, tn_value v) {
  const tn_dtype_info *t = tn_ir_dtype_info(tn_rw_type_info(r->m, v).dtype);
  return t && (t->cls == TN_CLASS_INT || t->cls == TN_CLASS_UINT);
}

/* ---- constants --------------------------------------------------------------------------------- */
#define MAX_ELEMENTS 65536

static int64_t element(const tn_ref_tensor *t, const int64_t *index) {
  uint64_t at = 0;
  for (uint32_t i = 0; i < t->rank; i++) at = at * (uint64_t)t->dims[i] + (uint64_t)index[i];
  return (int64_t)tn_ref_get(t, at);
}

/* Steps the index like an odometer; false behind the last. */
static bool step(const tn_ref_tensor *t, int64_t *index) {
  for (uint32_t i = t->rank; i--;) {
    if (++index[i] < t->dims[i]) return true;
    index[i] = 0;
  }
  return false;
}

static bool read_constant(reader *r, tn_value v, tn_op op, tn_affine *out) {
  tn_attr data = tn_rw_attr(r->m, op, "value");
  tn_type_info type = tn_rw_type_info(r->m, v);
  const tn_dtype_info *d = tn_ir_dtype_info(type.dtype);
  tn_ref_tensor t = {type.dtype, type.rank, {0}, (void *)(uintptr_t)data.u.data.ptr};
  int64_t index[TN_MAX_RANK] = {0}, coef[TN_MAX_RANK] = {0};
  if (d->bits < 8 || !data.u.data.len || data.u.data.len / (d->bits / 8) > MAX_ELEMENTS) return false;
  for (uint32_t i = 0; i < t.rank; i++)
    if (!tn_ir_dim_is_const(r->m, type.dims[i], &t.dims[i])) return false;
  int64_t base = element(&t, index);
  for (uint32_t i = 0; i < t.rank; i++) {
    if (t.dims[i] < 2) continue;
    index[i] = 1;
    coef[i] = element(&t, index) - base;
    index[i] = 0;
  }
  do {
    int64_t want = base;
    for (uint32_t i = 0; i < t.rank; i++) want += coef[i] * index[i];
    if (want != element(&t, index)) return false;
  } while (step(&t, index));
  out->base = tn_ir_dim_const(r->m, base);
  for (uint32_t i = 0; i < t.rank; i++) out->coef[i] = tn_ir_dim_const(r->m, coef[i]);
  return true;
}

/* ---- views ------------------------------------------------------------------------------------- */
/* Axes of size 1 come and go, the others stay. */
static bool read_reshape(reader *r, tn_op op, tn_affine *out) {
  tn_affine in;
  if (!read_value(r, tn_ir_op_operand(r->m, op, 0), &in)) return false;
  uint32_t at = 0;
  out->base = in.base;
  for (uint32_t i = 0; i < out->rank; i++) {
    if (is_one(r, out->dims[i])) continue;
    while (at < in.rank && is_one(r, in.dims[at])) at++;
    if (at == in.rank || in.dims[at] != out->dims[i]) return false;
    out->coef[i] = in.coef[at++];
  }
  while (at < in.rank && is_one(r, in.dims[at])) at++;
  return at == in.rank;
}

static bool read_transpose(reader *r, tn_op op, tn_affine *out) {
  tn_affine in;
  tn_attr perm = tn_rw_attr(r->m, op, "perm");
  if (!read_value(r, tn_ir_op_operand(r->m, op, 0), &in)) return false;
  out->base = in.base;
  for (uint32_t i = 0; i < out->rank; i++) out->coef[i] = in.coef[perm.u.ints[i]];
  return true;
}

static bool read_slice(reader *r, tn_op op, tn_affine *out) {
  tn_affine in;
  if (!read_value(r, tn_ir_op_operand(r->m, op, 0), &in)) return false;
  int64_t axis = tn_rw_int(r->m, op, "axis");
  if (axis < 0) axis += in.rank;
  tn_dim start = tn_rw_attr(r->m, op, "start").u.dim, one = in.coef[axis];
  tn_dim skipped = tn_dim_mul(r->m, one, start);
  for (uint32_t i = 0; i < out->rank; i++) out->coef[i] = in.coef[i];
  out->coef[axis] = tn_dim_mul(r->m, one, tn_ir_dim_const(r->m, tn_rw_int(r->m, op, "step")));
  out->base = skipped ? tn_dim_add(r->m, in.base, skipped) : 0;
  return true;
}

/* ---- arithmetic -------------------------------------------------------------------------------- */
static tn_dim combine(reader *r, uint32_t opcode, tn_dim a, tn_dim b) {
  switch (opcode) {
  case TN_OPC_add: return tn_dim_add(r->m, a, b);
  case TN_OPC_sub: return tn_dim_sub(r->m, a, b);
  default: return tn_dim_mul(r->m, a, b);
  }
}

/* Lines x up with the last axes of out: repeated axes and new ones count nothing. */
static bool line_up(reader *r, const tn_affine *out, tn_affine *x) {
  tn_affine y = *out;
  if (x->rank > out->rank) return false;
  for (uint32_t i = 0; i < out->rank; i++) {
    uint32_t missing = out->rank - x->rank;
    bool repeats = i < missing || (is_one(r, x->dims[i - missing]) && !is_one(r, out->dims[i]));
    y.coef[i] = repeats ? tn_ir_dim_const(r->m, 0) : x->coef[i - missing];
    if (!repeats && !tn_dim_known_eq(r->m, x->dims[i - missing], out->dims[i])) return false;
  }
  y.base = x->base;
  *x = y;
  return true;
}

static bool counts_nothing(reader *r, const tn_affine *x) {
  for (uint32_t i = 0; i < x->rank; i++)
    if (!is_zero(r, x->coef[i])) return false;
  return true;
}

static bool read_arithmetic(reader *r, tn_op op, tn_affine *out) {
  uint32_t code = tn_ir_opcode(r->m, op);
  tn_affine a, b;
  if (!read_value(r, tn_ir_op_operand(r->m, op, 0), &a) || !read_value(r, tn_ir_op_operand(r->m, op, 1), &b))
    return false;
  if (!line_up(r, out, &a) || !line_up(r, out, &b)) return false;
  if (code == TN_OPC_mul) { /* by a number that is the same everywhere */
    if (!counts_nothing(r, &b)) {
      tn_affine swap = a;
      a = b;
      b = swap;
    }
    if (!counts_nothing(r, &b)) return false;
  }
  out->base = combine(r, code, a.base, b.base);
  for (uint32_t i = 0; i < out->rank; i++)
    out->coef[i] = combine(r, code, a.coef[i], code == TN_OPC_mul ? b.base : b.coef[i]);
  return true;
}

static bool read_iota(reader *r, tn_op op, tn_affine *out) {
  int64_t axis = tn_rw_int(r->m, op, "axis");
  out->base = tn_rw_attr(r->m, op, "start").u.dim;
  if (axis < 0) axis += out->rank;
  if (out->rank) out->coef[axis] = tn_ir_dim_const(r->m, 1);
  return true;
}

static bool read_negated(reader *r, tn_op op, tn_affine *out) {
  tn_affine in;
  tn_dim zero = tn_ir_dim_const(r->m, 0);
  if (!read_value(r, tn_ir_op_operand(r->m, op, 0), &in)) return false;
  out->base = tn_dim_sub(r->m, zero, in.base);
  for (uint32_t i = 0; i < out->rank; i++) out->coef[i] = tn_dim_sub(r->m, zero, in.coef[i]);
  return true;
}

static bool read_op(reader *r, tn_value v, tn_op op, tn_affine *out) {
  switch (tn_ir_opcode(r->m, op)) {
  case TN_OPC_constant: return read_constant(r, v, op, out);
  case TN_OPC_iota: return read_iota(r, op, out);
  case TN_OPC_reshape: return read_reshape(r, op, out);
  case TN_OPC_transpose: return read_transpose(r, op, out);
  case TN_OPC_slice: return read_slice(r, op, out);
  case TN_OPC_neg: return read_negated(r, op, out);
  case TN_OPC_add:
  case TN_OPC_sub:
  case TN_OPC_mul: return read_arithmetic(r, op, out);
  case TN_OPC_cast:
  case TN_OPC_broadcast: {
    tn_affine in;
    if (!read_value(r, tn_ir_op_operand(r->m, op, 0), &in) || !line_up(r, out, &in)) return false;
    *out = in;
    return true;
  }
  default: return false;
  }
}

static bool read_value(reader *r, tn_value v, tn_affine *out) {
  tn_op op = tn_rw_def(r->m, v);
  if (!op || !r->left || !is_integer(r, v)) return false;
  r->left--;
  blank(r, v, out);
  return read_op(r, v, op, out) && settle(r, out);
}

bool tn_affine_of(tn_module *m, tn_value v, tn_affine *out) {
  reader r = {m, BUDGET};
  tn_rw_hush h = tn_rw_quiet(m); /* a size may be too large to write down */
  bool ok = read_value(&r, v, out);
  tn_rw_unhush(m, h);
  return ok;
}

static bool range_of(reader *r, const tn_affine *x, tn_dim *low, tn_dim *high) {
  tn_dim zero = tn_ir_dim_const(r->m, 0), one = tn_ir_dim_const(r->m, 1);
  *low = *high = x->base;
  for (uint32_t i = 0; *low && *high && i < x->rank; i++) {
    bool up = tn_dim_known_le(r->m, zero, x->coef[i]), down = tn_dim_known_le(r->m, x->coef[i], zero);
    tn_dim last = tn_dim_sub(r->m, x->dims[i], one), span = last ? tn_dim_mul(r->m, x->coef[i], last) : 0;
    if (!span || (!up && !down)) return false;
    if (up) *high = tn_dim_add(r->m, *high, span);
    if (down) *low = tn_dim_add(r->m, *low, span);
  }
  return *low && *high;
}

bool tn_affine_range(tn_module *m, const tn_affine *x, tn_dim *low, tn_dim *high) {
  reader r = {m, BUDGET};
  tn_rw_hush h = tn_rw_quiet(m);
  bool ok = range_of(&r, x, low, high);
  tn_rw_unhush(m, h);
  return ok;
}

/* a - b, as wide as the comparison */
static bool difference(reader *r, tn_op op, tn_affine *d) {
  tn_affine a, b;
  blank(r, tn_ir_op_result(r->m, op, 0), d);
  if (!read_value(r, tn_ir_op_operand(r->m, op, 0), &a) ||
      !read_value(r, tn_ir_op_operand(r->m, op, 1), &b) || !line_up(r, d, &a) || !line_up(r, d, &b))
    return false;
  d->base = tn_dim_sub(r->m, a.base, b.base);
  for (uint32_t i = 0; i < d->rank; i++) d->coef[i] = tn_dim_sub(r->m, a.coef[i], b.coef[i]);
  return settle(r, d);
}

/* What a difference of at least low and at most high says; -1: nothing. */
static int decided(tn_module *m, const char *cmp, tn_dim low, tn_dim high) {
  tn_dim zero = tn_ir_dim_const(m, 0), one = tn_ir_dim_const(m, 1), below = tn_ir_dim_const(m, -1);
  bool negative = tn_dim_known_le(m, high, below), positive = tn_dim_known_le(m, one, low),
       not_positive = tn_dim_known_le(m, high, zero), not_negative = tn_dim_known_le(m, zero, low);
  const struct {
    const char *cmp;
    bool yes, no;
  } rows[] = {{"lt", negative, not_negative},
              {"le", not_positive, positive},
              {"gt", positive, not_positive},
              {"ge", not_negative, negative},
              {"eq", not_positive && not_negative, negative || positive},
              {"ne", negative || positive, not_positive && not_negative}};
  for (size_t i = 0; i < TN_COUNT(rows); i++)
    if (!strcmp(rows[i].cmp, cmp)) return rows[i].yes ? 1 : rows[i].no ? 0 : -1;
  return -1;
}

bool tn_affine_decides(tn_module *m, tn_op compare, bool *result) {
  reader r = {m, BUDGET};
  tn_affine d;
  tn_dim low, high;
  tn_rw_hush h = tn_rw_quiet(m);
  int answer = -1;
  if (difference(&r, compare, &d) && range_of(&r, &d, &low, &high))
    answer = decided(m, tn_rw_attr(m, compare, "cmp").u.s, low, high);
  tn_rw_unhush(m, h);
  *result = answer == 1;
  return answer >= 0;
}

/* ---- conditions -------------------------------------------------------------------------------- */
/* base + row * i + column * j <= 0, where i is the last axis but one and j the last. */
typedef struct below {
  tn_dim base;
  int64_t row, column;
} below;

/* The condition as `below`: cmp is turned so that it says a <= b, or a < b. */
static bool normalise(reader *r, tn_op op, bool negate, below *out) {
  const char *cmp = tn_rw_attr(r->m, op, "cmp").u.s;
  bool greater = cmp[0] == 'g', strict = !strcmp(cmp, "lt") || !strcmp(cmp, "gt");
  tn_affine a, b, shape;
  if (cmp[0] != 'l' && !greater) return false;
  if (!read_value(r, tn_ir_op_operand(r->m, op, greater), &a) ||
      !read_value(r, tn_ir_op_operand(r->m, op, !greater), &b))
    return false;
  blank(r, tn_ir_op_result(r->m, op, 0), &shape);
  if (!line_up(r, &shape, &a) || !line_up(r, &shape, &b)) return false;
  tn_affine *low = negate ? &b : &a, *high = negate ? &a : &b; /* not (a <= b): b < a */
  bool open = strict != negate;
  int64_t coef[2] = {0};
  for (uint32_t i = 0; i < shape.rank; i++) {
    int64_t k;
    tn_dim d = tn_dim_sub(r->m, low->coef[i], high->coef[i]);
    if (!d || !tn_ir_dim_is_const(r->m, d, &k) || (k && i + 2 < shape.rank)) return false;
    if (i + 2 >= shape.rank) coef[i + 2 - shape.rank] = k;
  }
  tn_dim base = tn_dim_sub(r->m, low->base, high->base);
  *out = (below){open && base ? tn_dim_add(r->m, base, tn_ir_dim_const(r->m, 1)) : base, coef[0], coef[1]};
  return out->base;
}

/* The largest value of the sum is at most 0. Axes may be empty. */
static bool always(reader *r, const below *c, tn_dim s, tn_dim t) {
  tn_dim most = c->base, one = tn_ir_dim_const(r->m, 1), size[2] = {s, t};
  const int64_t coef[2] = {c->row, c->column};
  for (int k = 0; k < 2 && most; k++) {
    tn_dim last = coef[k] > 0 ? tn_dim_sub(r->m, size[k], one) : 0;
    tn_dim more = last ? tn_dim_mul(r->m, tn_ir_dim_const(r->m, coef[k]), last) : 0;
    if (coef[k] > 0) most = more ? tn_dim_add(r->m, most, more) : 0;
  }
  return most && tn_dim_known_le(r->m, most, tn_ir_dim_const(r->m, 0));
}

static tn_cond compared(reader *r, tn_op op, tn_dim s, tn_dim t, bool negate) {
  below c;
  int64_t over;
  if (!normalise(r, op, negate, &c)) return (tn_cond){TN_COND_UNKNOWN, 0};
  if (always(r, &c, s, t)) return (tn_cond){TN_COND_ALWAYS, 0};
  /* The key of query i itself is i + t - s: `over` is by how much base differs. */
  tn_dim ahead = tn_dim_sub(r->m, t, s), shift = 0;
  if (c.row == -1 && c.column == 1) shift = tn_dim_add(r->m, c.base, ahead);
  if (c.row == 1 && c.column == -1) shift = tn_dim_sub(r->m, c.base, ahead);
  if (!shift || !tn_ir_dim_is_const(r->m, shift, &over)) return (tn_cond){TN_COND_UNKNOWN, 0};
  if (c.row == -1 && over == 0) return (tn_cond){TN_COND_CAUSAL, 0};
  if (over > 0) return (tn_cond){TN_COND_UNKNOWN, 0};
  return (tn_cond){c.row == 1 ? TN_COND_WINDOW : TN_COND_AHEAD, 1 - over};
}

tn_cond tn_cond_of(tn_module *m, tn_value v, tn_dim s, tn_dim t, bool negate) {
  reader r = {m, BUDGET};
  tn_op op = tn_rw_def(m, v);
  double c;
  if (tn_rw_is(m, op, TN_OPC_compare)) {
    tn_rw_hush h = tn_rw_quiet(m);
    tn_cond cond = compared(&r, op, s, t, negate);
    tn_rw_unhush(m, h);
    return cond;
  }
  if (tn_rw_splat(m, v, &c)) return (tn_cond){(c != 0) != negate ? TN_COND_ALWAYS : TN_COND_UNKNOWN, 0};
  if (tn_rw_is(m, op, TN_OPC_causal_mask) && !negate) {
    int64_t window = tn_rw_int(m, op, "window");
    bool same = tn_dim_known_eq(m, tn_rw_attr(m, op, "q").u.dim, s) &&
                tn_dim_known_eq(m, tn_rw_attr(m, op, "k").u.dim, t);
    if (same && !window) return (tn_cond){TN_COND_CAUSAL, 0};
  }
  return (tn_cond){TN_COND_UNKNOWN, 0};
}
