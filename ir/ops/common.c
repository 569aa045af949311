/* common.c - operands, shapes and words shared by the infer functions. Two dims are equal when their ids are
 * (they are interned in a canonical form) or when the module's constraints prove it; whatever is not provable
 * is refused with both dims in the message. */
#include "ops.h"

static const char *const wanted[] = {[TN_C_ANY] = "a tensor",   [TN_C_FLOAT] = "floats",
                                     [TN_C_NUMBER] = "numbers", [TN_C_INTEGER] = "integers",
                                     [TN_C_BOOL] = "bools",     [TN_C_STATE] = "a state"};

const char *tn_ops_dtype_name(tn_dtype t) {
  const tn_dtype_info *i = tn_ir_dtype_info(t);
  return i ? i->name : "no type";
}

bool tn_ops_is(tn_infer *c, tn_dim d, int64_t value) {
  int64_t v;
  return tn_ir_dim_is_const(c->m, d, &v) && v == value;
}

bool tn_ops_less(tn_infer *c, tn_dim a, tn_dim b) {
  return tn_dim_known_le(c->m, tn_dim_add(c->m, a, tn_ir_dim_const(c->m, 1)), b);
}

bool tn_ops_eq(tn_infer *c, tn_dim a, tn_dim b) { return tn_dim_known_eq(c->m, a, b); }

tn_status tn_ops_fail(tn_infer *c, const char *fmt, ...) {
  tn_buf b = {0};
  va_list ap;
  va_start(ap, fmt);
  for (const char *p = fmt; *p; p++) {
    if (*p != '%') {
      tn_buf_put(&b, p, 1);
      continue;
    }
    switch (*++p) {
    case 'D': tn_dim_print(c->m, va_arg(ap, tn_dim), &b); break;
    case 'T': tn_type_print(c->m, va_arg(ap, tn_type), &b); break;
    case 's': tn_buf_puts(&b, va_arg(ap, const char *)); break;
    case 'i': tn_buf_printf(&b, "%d", va_arg(ap, int)); break;
    case 'l': tn_buf_printf(&b, "%lld", (long long)va_arg(ap, int64_t)); break;
    default: tn_buf_put(&b, p, 1);
    }
  }
  va_end(ap);
  tn_status s = tn_infer_fail(c, "%s", tn_buf_cstr(&b));
  tn_buf_fini(&b);
  return s;
}

/* ---- operands
 * ----------------------------------------------------------------------------------------------- */
tn_in tn_ops_operand(tn_infer *c, uint32_t i) {
  tn_in x = {0};
  if (i >= c->nin || !c->in[i]) return x;
  tn_value_info v;
  tn_type_info t;
  tn_ir_value_get(c->m, c->in[i], &v);
  tn_ir_type_get(c->m, v.type, &t);
  const tn_dtype_info *d = tn_ir_dtype_info(t.dtype);
  return (tn_in){c->in[i], v.type, t.dtype, d ? d->cls : 0, t.rank, t.dims};
}

static bool allows(uint32_t constraint, uint32_t cls) {
  bool integer = cls == TN_CLASS_INT || cls == TN_CLASS_UINT;
  switch (constraint) {
  case TN_C_FLOAT: return cls == TN_CLASS_FLOAT;
  case TN_C_NUMBER: return cls == TN_CLASS_FLOAT || integer;
  case TN_C_INTEGER: return integer || cls == TN_CLASS_BOOL;
  case TN_C_BOOL: return cls == TN_CLASS_BOOL;
  default: return true; /* that a state is one, the builder has seen */
  }
}

static tn_status check_operand(tn_infer *c, const tn_op_spec *spec, uint32_t i) {
  /* The last spec stands for all further operands of an op with any number. */
  const tn_operand_spec *s = &spec->in[i < spec->n_in ? i : spec->n_in - 1];
  tn_in x = tn_ops_operand(c, i);
  if (!x.value) return s->optional ? TN_OK : tn_ops_fail(c, "operand %i ('%s') is missing", (int)i, s->name);
  if (allows(s->constraint, x.cls)) return TN_OK;
  return tn_ops_fail(c, "operand %i ('%s') must be %s, but is %T", (int)i, s->name, wanted[s->constraint],
                     x.type);
}

static tn_status check_count(tn_infer *c, const tn_op_spec *spec) {
  int n = (int)c->nin, least = spec->min_in, most = spec->max_in;
  if (n >= least && (most < 0 || n <= most)) return TN_OK;
  const char *plural = most == 1 ? "" : "s";
  if (most < 0) return tn_ops_fail(c, "takes at least %i operands, but %i are given", least, n);
  if (least == most) return tn_ops_fail(c, "takes %i operand%s, but %i are given", least, plural, n);
  return tn_ops_fail(c, "takes %i to %i operands, but %i are given", least, most, n);
}

tn_status tn_ops_read(tn_infer *c, tn_in *in, uint32_t n) {
  const tn_op_spec *spec = tn_op_spec_of(c->opcode);
  TN_TRY(check_count(c, spec));
  for (uint32_t i = 0; i < c->nin && spec->n_in; i++) TN_TRY(check_operand(c, spec, i));
  for (uint32_t i = 0; i < n; i++) in[i] = tn_ops_operand(c, i);
  return TN_OK;
}

tn_status tn_ops_no_blocks(tn_infer *c, const tn_in *in, uint32_t n) {
  for (uint32_t i = 0; i < n; i++)
    if (in[i].cls == TN_CLASS_BLOCK)
      return tn_ops_fail(c, "operand %i has a block format, %T; dequant it first", (int)i, in[i].type);
  return TN_OK;
}

tn_status tn_ops_same_dtype(tn_infer *c, const tn_in *a, const tn_in *b) {
  if (a->dtype == b->dtype) return TN_OK;
  return tn_ops_fail(c, "element types differ: %s and %s", tn_ops_dtype_name(a->dtype),
                     tn_ops_dtype_name(b->dtype));
}

tn_status tn_ops_whole_blocks(tn_infer *c, const tn_in *x, uint32_t axis) {
  if (x->cls != TN_CLASS_BLOCK || axis + 1 < x->rank) return TN_OK;
  return tn_ops_fail(c, "axis %i of %T lies inside blocks; dequant it first", (int)axis, x->type);
}

/* ---- shapes
 * ------------------------------------------------------------------------------------------------- */
tn_status tn_ops_result(tn_infer *c, uint32_t i, tn_dtype dtype, const tn_shape *s) {
  c->out[i] = tn_ir_type_make(c->m, dtype, s->rank, s->dims, NULL);
  return c->out[i] ? TN_OK : TN_INVALID;
}

tn_status tn_ops_same(tn_infer *c, const tn_in *x, tn_dtype dtype) {
  tn_shape s = tn_ops_shape(x);
  return tn_ops_result(c, 0, dtype, &s);
}

tn_status tn_ops_shape_attr(tn_infer *c, uint32_t attr, tn_shape *s) {
  const tn_attr *a = &c->attrs[attr];
  if (a->count > TN_MAX_RANK)
    return tn_ops_fail(c, "shape has %i dims, at most %i are possible", (int)a->count, TN_MAX_RANK);
  s->rank = a->count;
  for (uint32_t i = 0; i < a->count; i++) {
    int64_t v;
    s->dims[i] = a->u.dims[i];
    if (tn_ir_dim_is_const(c->m, s->dims[i], &v) && v < 0)
      return tn_ops_fail(c, "dim %i of shape is negative: %l", (int)i, v);
  }
  return TN_OK;
}

tn_status tn_ops_broadcast(tn_infer *c, tn_shape *s, const tn_dim *dims, uint32_t rank) {
  if (rank > s->rank) {
    tn_dim one = tn_ir_dim_const(c->m, 1);
    uint32_t more = rank - s->rank;
    memmove(s->dims + more, s->dims, s->rank * sizeof *s->dims);
    for (uint32_t i = 0; i < more; i++) s->dims[i] = one;
    s->rank = rank;
  }
  uint32_t skip = s->rank - rank;
  for (uint32_t i = 0; i < rank; i++) {
    tn_dim *to = &s->dims[skip + i];
    int64_t n;
    if (*to == dims[i] || tn_ops_is(c, dims[i], 1)) continue;
    bool one = tn_ops_is(c, *to, 1);
    if (!one && !tn_ops_eq(c, *to, dims[i]))
      return tn_ops_fail(c, "dims do not broadcast: %D and %D, at %i from the end", *to, dims[i],
                         (int)(rank - i));
    if (one || tn_ir_dim_is_const(c->m, dims[i], &n)) *to = dims[i]; /* of equal ones, the number */
  }
  return TN_OK;
}

/* Is a, known only at run time, 1 or d? The importer says so of d = max(a, b) by (a - 1) (d - a) <= 0, and
 * by d <= a d that nothing is repeated zero times. */
static bool repeats(tn_infer *c, tn_dim a, tn_dim d) {
  tn_dim one = tn_ir_dim_const(c->m, 1), zero = tn_ir_dim_const(c->m, 0);
  tn_dim either = tn_dim_mul(c->m, tn_dim_sub(c->m, a, one), tn_dim_sub(c->m, d, a));
  tn_dim times = tn_dim_mul(c->m, a, d); /* what can be shown is not stated */
  return (tn_dim_stated_le(c->m, either, zero) || tn_dim_known_le(c->m, either, zero)) &&
         (tn_dim_stated_le(c->m, d, times) || tn_dim_known_le(c->m, d, times));
}

static tn_status broadcasts_to(tn_infer *c, const char *what, const tn_in *x, const tn_shape *s,
                               bool runtime) {
  if (x->rank > s->rank)
    return tn_ops_fail(c, "%s has %i dims, more than %i: %T", what, (int)x->rank, (int)s->rank, x->type);
  uint32_t skip = s->rank - x->rank;
  for (uint32_t i = 0; i < x->rank; i++)
    if (!tn_ops_is(c, x->dims[i], 1) && x->dims[i] != s->dims[skip + i] &&
        !(runtime && repeats(c, x->dims[i], s->dims[skip + i])) &&
        !tn_ops_eq(c, x->dims[i], s->dims[skip + i]))
      return tn_ops_fail(c, "%s does not broadcast: dim %i is %D, wanted %D or 1", what, (int)i, x->dims[i],
                         s->dims[skip + i]);
  return TN_OK;
}

tn_status tn_ops_broadcasts_to(tn_infer *c, const char *what, const tn_in *x, const tn_shape *s) {
  return broadcasts_to(c, what, x, s, false);
}

tn_status tn_ops_repeats_to(tn_infer *c, const char *what, const tn_in *x, const tn_shape *s) {
  return broadcasts_to(c, what, x, s, true);
}

tn_status tn_ops_axis(tn_infer *c, int64_t axis, uint32_t rank, uint32_t *out) {
  int64_t r = (int64_t)rank;
  if (axis < -r || axis >= r) return tn_ops_fail(c, "axis %l is out of range for rank %i", axis, (int)rank);
  *out = (uint32_t)(axis < 0 ? axis + r : axis);
  return TN_OK;
}

tn_status tn_ops_equal(tn_infer *c, const char *what, tn_dim a, tn_dim b) {
  if (tn_ops_eq(c, a, b)) return TN_OK;
  return tn_ops_fail(c, "%s differ: %D and %D", what, a, b);
}

tn_status tn_ops_rank(tn_infer *c, const char *what, const tn_in *x, uint32_t rank) {
  if (x->rank == rank) return TN_OK;
  return tn_ops_fail(c, "%s has rank %i, wants %i: %T", what, (int)x->rank, (int)rank, x->type);
}
