/* rw.c - readers and small builders over the tn_ir functions; see rw.h. */
#include "passes/rw.h"
#include "backends/ref/ref.h"

uint32_t tn_rw_flags(tn_module *m, tn_op op) {
  const tn_op_spec *s = tn_op_spec_of(tn_ir_opcode(m, op));
  return s ? s->flags : 0;
}

static tn_value_info info(tn_module *m, tn_value v) {
  tn_value_info i = {0};
  if (v) tn_ir_value_get(m, v, &i);
  return i;
}

tn_op tn_rw_def(tn_module *m, tn_value v) {
  tn_value_info i = info(m, v);
  return i.kind == TN_VALUE_RESULT ? i.op : 0;
}
uint32_t tn_rw_result_index(tn_module *m, tn_value v) { return info(m, v).index; }
uint32_t tn_rw_kind(tn_module *m, tn_value v) { return info(m, v).kind; }
uint32_t tn_rw_nuses(tn_module *m, tn_value v) { return info(m, v).nuses; }
tn_type tn_rw_type(tn_module *m, tn_value v) { return info(m, v).type; }

int64_t tn_rw_updated_operand(tn_module *m, tn_op kernel, uint32_t i) {
  tn_op yield = tn_ir_last_op(m, 0, kernel);
  tn_value v = yield && i < tn_ir_op_noperands(m, yield) ? tn_ir_op_operand(m, yield, i) : 0;
  tn_op update = v ? tn_rw_def_as(m, v, TN_OPC_kv_update) : 0;
  tn_value state = update ? tn_ir_op_operand(m, update, 0) : 0;
  return state && tn_rw_kind(m, state) == TN_VALUE_ARG ? (int64_t)info(m, state).index : -1;
}

tn_op tn_rw_def_as(tn_module *m, tn_value v, uint32_t opcode) {
  tn_op op = tn_rw_def(m, v);
  return tn_rw_is(m, op, opcode) ? op : 0;
}

tn_type_info tn_rw_type_info(tn_module *m, tn_value v) {
  tn_type_info t = {0};
  tn_type type = tn_rw_type(m, v);
  if (type) tn_ir_type_get(m, type, &t);
  return t;
}

tn_value tn_rw_source(tn_module *m, tn_value v) {
  for (tn_op op; (op = tn_rw_def_as(m, v, TN_OPC_reshape));) v = tn_ir_op_operand(m, op, 0);
  return v;
}

bool tn_rw_same_dims(tn_module *m, tn_value a, tn_value b) {
  tn_type_info x = tn_rw_type_info(m, a), y = tn_rw_type_info(m, b);
  return x.rank == y.rank && (!x.rank || !memcmp(x.dims, y.dims, x.rank * sizeof *x.dims));
}

bool tn_rw_dim_is(tn_module *m, tn_dim d, int64_t value) {
  int64_t v;
  return tn_ir_dim_is_const(m, d, &v) && v == value;
}

tn_type tn_rw_type_of(tn_module *m, tn_dtype dtype, uint32_t rank, const tn_dim *dims) {
  return tn_ir_type_make(m, dtype, rank, dims, NULL);
}

/* ---- attributes ------------------------------------------------------------------------------ */
tn_attr tn_rw_attr(tn_module *m, tn_op op, const char *attr) {
  tn_attr a = {0};
  return tn_ir_op_attr(m, op, attr, &a) ? a : (tn_attr){0};
}
int64_t tn_rw_int(tn_module *m, tn_op op, const char *attr) { return tn_rw_attr(m, op, attr).u.i; }
double tn_rw_float(tn_module *m, tn_op op, const char *attr) { return tn_rw_attr(m, op, attr).u.f; }

void tn_rw_attr_key(const tn_attr *a, tn_buf *key) {
  tn_buf_put(key, &a->kind, sizeof a->kind);
  tn_buf_put(key, &a->count, sizeof a->count);
  switch (a->kind) {
  case TN_ATTR_BOOL:
  case TN_ATTR_INT:
  case TN_ATTR_DTYPE: tn_buf_put(key, &a->u.i, sizeof a->u.i); break;
  case TN_ATTR_FLOAT: tn_buf_put(key, &a->u.f, sizeof a->u.f); break;
  case TN_ATTR_STR: tn_buf_put(key, a->u.s, strlen(a->u.s) + 1); break;
  case TN_ATTR_INTS: tn_buf_put(key, a->u.ints, a->count * sizeof *a->u.ints); break;
  case TN_ATTR_DIM: tn_buf_put(key, &a->u.dim, sizeof a->u.dim); break;
  case TN_ATTR_DIMS: tn_buf_put(key, a->u.dims, a->count * sizeof *a->u.dims); break;
  case TN_ATTR_DATA:
    tn_buf_put(key, &a->u.data.len, sizeof a->u.data.len);
    tn_buf_put(key, a->u.data.ptr, a->u.data.len);
    break;
  }
}

bool tn_rw_attr_equal(const tn_attr *a, const tn_attr *b) {
  tn_buf x = {0}, y = {0};
  tn_rw_attr_key(a, &x);
  tn_rw_attr_key(b, &y);
  bool same = !x.failed && !y.failed && x.len == y.len && !memcmp(x.text, y.text, x.len);
  tn_buf_fini(&x);
  tn_buf_fini(&y);
  return same;
}

/* ---- constants ------------------------------------------------------------------------------- */
static bool plain_number(tn_dtype t) {
  const tn_dtype_info *d = tn_ir_dtype_info(t);
  return d && d->cls != TN_CLASS_BLOCK && d->bits >= 8;
}

static bool splat_of_constant(tn_module *m, tn_op op, double *out) {
  tn_type_info t = tn_rw_type_info(m, tn_ir_op_result(m, op, 0));
  tn_attr data = tn_rw_attr(m, op, "value");
  const tn_dtype_info *d = tn_ir_dtype_info(t.dtype);
  if (!plain_number(t.dtype) || !data.u.data.len) return false;
  const uint8_t *bytes = data.u.data.ptr;
  uint64_t size = d->bits / 8;
  for (uint64_t i = size; i + size <= data.u.data.len; i += size)
    if (memcmp(bytes, bytes + i, size)) return false;
  uint64_t first[2] = {0};
  memcpy(first, bytes, size);
  tn_ref_tensor one = {t.dtype, 0, {0}, first};
  *out = tn_ref_get(&one, 0);
  return true;
}

bool tn_rw_splat(tn_module *m, tn_value v, double *out) {
  tn_op op = tn_rw_def(m, v);
  while (tn_rw_is(m, op, TN_OPC_reshape) || tn_rw_is(m, op, TN_OPC_broadcast))
    op = tn_rw_def(m, tn_ir_op_operand(m, op, 0));
  return tn_rw_is(m, op, TN_OPC_constant) && splat_of_constant(m, op, out);
}

tn_value tn_rw_scalar(tn_module *m, tn_point at, tn_dtype dtype, double value, tn_loc loc) {
  if (!plain_number(dtype)) return 0;
  uint64_t bits[2] = {0};
  tn_ref_tensor one = {dtype, 0, {0}, bits};
  tn_ref_set(&one, 0, value);
  tn_type type = tn_rw_type_of(m, dtype, 0, NULL);
  tn_named_attr attr = {"value", {.kind = TN_ATTR_DATA, .u.data = {bits, tn_ir_dtype_info(dtype)->bits / 8}}};
  tn_op_desc d = {"constant", NULL, 0, 1, &attr, &type, 1, loc};
  tn_op op = type ? tn_ir_op_create(m, at, &d) : 0;
  return op ? tn_ir_op_result(m, op, 0) : 0;
}

/* ---- building -------------------------------------------------------------------------------- */
tn_loc tn_rw_fuse_locs(tn_module *m, const char *by, tn_loc a, tn_loc b) {
  if (!a || !b || a == b) return a ? a : b;
  tn_loc_info l = {.kind = TN_LOC_FUSED, .name = by, .a = a, .b = b};
  return tn_ir_loc_make(m, &l);
}

#define MAX_ATTRS 16

tn_op tn_rw_copy(tn_module *m, tn_op op, tn_point at, const tn_value *operands, tn_loc loc) {
  const tn_op_spec *s = tn_op_spec_of(tn_ir_opcode(m, op));
  tn_named_attr attrs[MAX_ATTRS];
  tn_type types[TN_MAX_RESULTS];
  uint32_t nattrs = 0, nresults = tn_ir_op_nresults(m, op);
  if (!s || s->nattrs > MAX_ATTRS || nresults > TN_MAX_RESULTS) return 0;
  for (uint32_t i = 0; i < s->nattrs; i++) {
    attrs[nattrs].name = s->attrs[i].name;
    nattrs += tn_ir_op_attr(m, op, s->attrs[i].name, &attrs[nattrs].attr);
  }
  for (uint32_t i = 0; i < nresults; i++) types[i] = tn_rw_type(m, tn_ir_op_result(m, op, i));
  tn_op_desc d = {s->name, operands, tn_ir_op_noperands(m, op), nattrs, attrs, types, nresults, loc};
  tn_op copy = tn_ir_op_create(m, at, &d);
  for (uint32_t i = 0; copy && i < nresults; i++) {
    const char *name = tn_ir_value_name(m, tn_ir_op_result(m, op, i));
    if (name && tn_ir_value_set_name(m, tn_ir_op_result(m, copy, i), name) != TN_OK) return 0;
  }
  return copy;
}

tn_value tn_rw_build(tn_module *m, tn_point at, uint32_t opcode, const tn_value *operands, uint32_t n,
                     const tn_named_attr *attrs, uint32_t nattrs, tn_loc loc) {
  tn_op_desc d = {tn_ir_opcode_name(opcode), operands, n, nattrs, attrs, NULL, 0, loc};
  tn_op op = tn_ir_op_create(m, at, &d);
  return op ? tn_ir_op_result(m, op, 0) : 0;
}

tn_rw_hush tn_rw_quiet(tn_module *m) {
  tn_diags *d = tn_module_diags(m);
  return (tn_rw_hush){d->list.count, d->errors, d->warnings};
}

void tn_rw_unhush(tn_module *m, tn_rw_hush h) {
  tn_diags *d = tn_module_diags(m);
  d->list.count = h.count;
  d->errors = h.errors;
  d->warnings = h.warnings;
}

tn_op tn_rw_try_create(tn_module *m, tn_point at, const tn_op_desc *d) {
  tn_rw_hush h = tn_rw_quiet(m);
  tn_op op = tn_ir_op_create(m, at, d);
  if (!op) tn_rw_unhush(m, h);
  return op;
}

bool tn_marks_set(tn_marks *x, uint32_t id, uint32_t value) {
  while (x->v.count <= id)
    if (!tn_vec_push(&x->v, 0)) return false;
  x->v.items[id] = value;
  return true;
}
