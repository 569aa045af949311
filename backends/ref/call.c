/* call.c - what every kernel asks of its call: attributes, scratch, strides, values of dims; and the table of
 * kernels by mnemonic, made from ops.def. */
#include "kernels.h"
#include <stdio.h>

tn_ref_fn tn_ref_of(const char *mnemonic) {
  static const struct {
    const char *name;
    tn_ref_fn fn;
  } rows[] = {
#define TN_REF_ROW(name) {#name, tn_ref_op_##name},
#define TN_OP(name, family, flags, nin0, nin1, nout, doc) TN_REF_##family(name)
#define TN_IN(op, name, constraint, shape)
#define TN_OUT(op, name, shape)
#define TN_ATTR(op, name, kind, def, doc)
#define TN_OP_END(op)
#include "ir/ops.def"
#undef TN_OP
#undef TN_IN
#undef TN_OUT
#undef TN_ATTR
#undef TN_OP_END
#undef TN_REF_ROW
  };
  for (size_t i = 0; i < TN_COUNT(rows); i++)
    if (!strcmp(rows[i].name, mnemonic)) return rows[i].fn;
  return NULL;
}

tn_status tn_ref_fail(tn_ref_call *c, tn_status s, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(c->error, sizeof c->error, fmt, ap);
  va_end(ap);
  return s;
}

void *tn_ref_scratch(tn_ref_call *c, int64_t n, size_t item) {
  uint64_t bytes;
  if (n < 0 || !tn_mul_u64((uint64_t)n, item, &bytes) || bytes > SIZE_MAX / 2) return NULL;
  return tn_arena_alloc(c->scratch, bytes ? bytes : 1);
}

/* ---- attributes
 * --------------------------------------------------------------------------------------------- */
tn_attr tn_ref_attr(tn_ref_call *c, const char *name) {
  tn_attr a = {0};
  c->ir->op_attr(c->m, c->op, name, &a);
  return a;
}
int64_t tn_ref_attr_int(tn_ref_call *c, const char *name) { return tn_ref_attr(c, name).u.i; }
double tn_ref_attr_float(tn_ref_call *c, const char *name) { return tn_ref_attr(c, name).u.f; }
int64_t tn_ref_attr_dim(tn_ref_call *c, const char *name) {
  return tn_ref_dim(c->ir, c->m, tn_ref_attr(c, name).u.dim, c->dim, c->ctx);
}
uint32_t tn_ref_attr_axis(tn_ref_call *c, const char *name) {
  int64_t axis = tn_ref_attr_int(c, name);
  return (uint32_t)(axis < 0 ? axis + c->in[0].rank : axis);
}

/* ---- shapes
 * ------------------------------------------------------------------------------------------------- */
tn_ref_axis tn_ref_around(const tn_ref_tensor *t, uint32_t axis) {
  tn_ref_axis a = {1, t->dims[axis], 1};
  for (uint32_t i = 0; i < axis; i++) a.outer *= t->dims[i];
  for (uint32_t i = axis + 1; i < t->rank; i++) a.inner *= t->dims[i];
  return a;
}

void tn_ref_strides(const tn_ref_tensor *x, const tn_ref_tensor *out, int64_t *strides) {
  uint32_t skip = out->rank - x->rank;
  int64_t step = 1;
  for (uint32_t i = out->rank; i-- > 0;) {
    strides[i] = i < skip || x->dims[i - skip] == 1 ? 0 : step;
    if (i >= skip) step *= x->dims[i - skip];
  }
}

bool tn_ref_next(int64_t *index, const int64_t *dims, uint32_t rank) {
  for (uint32_t i = rank; i-- > 0;) {
    if (++index[i] < dims[i]) return true;
    index[i] = 0;
  }
  return false;
}

/* ---- dims
 * --------------------------------------------------------------------------------------------------- */
static int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b && (a < 0) != (b < 0)); }

static int64_t combine(uint32_t kind, int64_t a, int64_t b) {
  int64_t r = INT64_MIN;
  switch (kind) {
  case TN_DIM_ADD: return __builtin_add_overflow(a, b, &r) ? INT64_MIN : r;
  case TN_DIM_MUL: return __builtin_mul_overflow(a, b, &r) ? INT64_MIN : r;
  case TN_DIM_FLOORDIV: return b ? floor_div(a, b) : INT64_MIN;
  case TN_DIM_MOD: return b ? a - floor_div(a, b) * b : INT64_MIN;
  case TN_DIM_MIN: return a < b ? a : b;
  case TN_DIM_MAX: return a > b ? a : b;
  default: return INT64_MIN;
  }
}

int64_t tn_ref_dim(const tn_ir *ir, tn_module *m, tn_dim d, tn_ref_symbol symbol, void *ctx) {
  tn_dim_info i;
  ir->dim_get(m, d, &i);
  if (i.kind == TN_DIM_CONST) return i.value;
  if (i.kind == TN_DIM_SYM) return symbol ? symbol(ctx, d) : INT64_MIN;
  if (i.kind == TN_DIM_UNKNOWN) return INT64_MIN;
  int64_t a = tn_ref_dim(ir, m, i.a, symbol, ctx), b = tn_ref_dim(ir, m, i.b, symbol, ctx);
  return a == INT64_MIN || b == INT64_MIN ? INT64_MIN : combine(i.kind, a, b);
}

tn_status tn_ref_shape(const tn_ir *ir, tn_module *m, tn_value v, tn_ref_symbol symbol, void *ctx,
                       tn_ref_tensor *out) {
  tn_value_info i;
  tn_type_info t;
  ir->value_get(m, v, &i);
  ir->type_get(m, i.type, &t);
  memset(out, 0, sizeof *out);
  out->dtype = t.dtype;
  out->rank = t.rank;
  uint64_t n = 8; /* 64 bits an element: the largest there are, so bytes cannot overflow either */
  for (uint32_t d = 0; d < t.rank; d++) {
    out->dims[d] = tn_ref_dim(ir, m, t.dims[d], symbol, ctx);
    if (out->dims[d] < 0 || !tn_mul_u64(n, (uint64_t)out->dims[d], &n) || n > INT64_MAX) return TN_INVALID;
  }
  return TN_OK;
}
