/* known.c - what is known at import about small tensors: element by element a dim (integers and bools), a
 * number (floats), or nothing. Noted as each op is made, from what is known of its operands, so that chains
 * such as Shape, Gather, Unsqueeze, Concat, Reshape give the shapes that they compute. Emits nothing. */
#include "frontend/onnx/known.h"
#include <math.h>

static const tn_ox_elem unknown;

enum { MAX_KNOWN = 1024 };

typedef struct eval {
  tn_ox *x;
  tn_op op;
  const tn_ox_elems *in[3];
  tn_type_info out, from; /* types of result 0 and of operand 0 */
  uint32_t count;         /* elements of the result */
  int64_t dims[TN_MAX_RANK], from_dims[TN_MAX_RANK];
} eval;

/* ---- storage
 * ------------------------------------------------------------------------------------------------ */

static bool store(tn_ox *x, tn_value v, tn_ox_elems *e) {
  while (x->known.count <= v)
    if (!tn_vec_push(&x->known, NULL)) return x->broken = TN_OOM, false;
  x->known.items[v] = e;
  return true;
}

static tn_ox_elems *elems_new(tn_ox *x, uint32_t n) {
  tn_ox_elems *e = tn_arena_alloc(&x->arena, sizeof *e + n * sizeof *e->at);
  if (e) e->count = n;
  return e;
}

void tn_ox_know(tn_ox *x, tn_value v, const tn_ox_elem *elems, uint32_t count) {
  tn_ox_elems *e = elems_new(x, count);
  if (!e) return;
  memcpy(e->at, elems, count * sizeof *elems);
  store(x, v, e);
}

/* The sizes if all are constant and there are few elements. */
static bool small(tn_ox *x, const tn_type_info *t, int64_t *dims, uint32_t most, uint32_t *count) {
  uint64_t n = 1;
  for (uint32_t i = 0; i < t->rank; i++)
    if (!tn_ox_dconst(x, t->dims[i], &dims[i]) || !tn_mul_u64(n, (uint64_t)dims[i], &n)) return false;
  *count = (uint32_t)n;
  return n <= most;
}

static bool type_of(tn_ox *x, tn_value v, tn_type_info *t) {
  *t = (tn_type_info){0};
  if (v) x->ir->type_get(x->m, tn_ox_type_of(x, v), t);
  return v;
}

/* ---- constants
 * ---------------------------------------------------------------------------------------------- */

static bool read_element(tn_ox *x, tn_dtype t, const uint8_t *p, tn_ox_elem *e) {
  union {
    uint8_t b[8];
    double f64;
    float f32;
    uint16_t h;
    int64_t i64;
    int32_t i32;
    int16_t i16;
    int8_t i8;
    uint32_t u32;
  } u = {{0}};
  memcpy(&u, p, x->ir->dtype_info(t)->bits / 8);
  e->kind = TN_OX_DIM;
  int64_t k = 0;
  switch (t) {
  case TN_DT_f64: e->kind = TN_OX_REAL, e->real = u.f64; return true;
  case TN_DT_f32: e->kind = TN_OX_REAL, e->real = (double)u.f32; return true;
  case TN_DT_f16: e->kind = TN_OX_REAL, e->real = (double)tn_f16_to_f32(u.h); return true;
  case TN_DT_bf16: e->kind = TN_OX_REAL, e->real = (double)tn_bf16_to_f32(u.h); return true;
  case TN_DT_i64: k = u.i64; break;
  case TN_DT_i32: k = u.i32; break;
  case TN_DT_i16: k = u.i16; break;
  case TN_DT_i8: k = u.i8; break;
  case TN_DT_u64:
    if (u.i64 < 0) return false;
    k = u.i64;
    break;
  case TN_DT_u32: k = u.u32; break;
  case TN_DT_u16: k = u.h; break;
  case TN_DT_u8: k = u.b[0]; break;
  case TN_DT_bool: k = u.b[0] != 0; break;
  default: return false;
  }
  e->dim = x->ir->dim_const(x->m, k == INT64_MIN ? INT64_MIN + 1 : k);
  return e->dim != 0;
}

static tn_ox_elems *constant_elems(tn_ox *x, tn_value v, uint32_t most) {
  tn_value_info info;
  tn_type_info t;
  tn_attr data;
  int64_t dims[TN_MAX_RANK];
  uint32_t n;
  if (!v) return NULL;
  x->ir->value_get(x->m, v, &info);
  if (info.kind != TN_VALUE_RESULT || strcmp(x->ir->opcode_name(x->ir->opcode(x->m, info.op)), "constant"))
    return NULL;
  x->ir->type_get(x->m, info.type, &t);
  uint32_t width = x->ir->dtype_info(t.dtype)->bits / 8;
  if (!width || !small(x, &t, dims, most, &n) || !x->ir->op_attr(x->m, info.op, "value", &data)) return NULL;
  tn_ox_elems *e = elems_new(x, n);
  for (uint32_t i = 0; e && i < n; i++)
    if (!read_element(x, t.dtype, (const uint8_t *)data.u.data.ptr + (uint64_t)i * width, &e->at[i]))
      return NULL;
  return e;
}

const tn_ox_elems *tn_ox_known(tn_ox *x, tn_value v) {
  if (!v) return NULL;
  if (v < x->known.count && x->known.items[v]) return x->known.items[v];
  tn_ox_elems *e = constant_elems(x, v, MAX_KNOWN);
  if (e) store(x, v, e);
  return e;
}

/* ---- whole ops
 * ---------------------------------------------------------------------------------------------- */

static const char *text_attr(eval *e, const char *name) {
  tn_attr a;
  return e->x->ir->op_attr(e->x->m, e->op, name, &a) && a.kind == TN_ATTR_STR ? a.u.s : "";
}
static int64_t int_attr(eval *e, const char *name) {
  tn_attr a;
  return e->x->ir->op_attr(e->x->m, e->op, name, &a) ? a.u.i : 0;
}

/* Which element of an operand element i of the result reads. */
static uint32_t repeated(const eval *e, tn_value v, uint32_t i) {
  tn_type_info t;
  uint32_t at = 0, step = 1;
  type_of(e->x, v, &t);
  for (uint32_t d = e->out.rank, k = t.rank; d-- && k; i /= (uint32_t)e->dims[d]) {
    int64_t size;
    k--;
    if (!tn_ox_dconst(e->x, t.dims[k], &size)) size = 1;
    if (size != 1) at += i % (uint32_t)e->dims[d] * step;
    step *= (uint32_t)size;
  }
  return at;
}

/* What an integer type holds; narrow types wrap around, which dims do not. */
static tn_ox_elem held(tn_ox *x, tn_ox_elem e, tn_dtype t) {
  const tn_dtype_info *d = x->ir->dtype_info(t);
  int64_t k;
  if (t == TN_DT_i64 || t == TN_DT_bool || e.kind != TN_OX_DIM) return e;
  if (!tn_ox_elem_const(x, &e, &k)) return t == TN_DT_i32 ? e : unknown;
  uint32_t room = d->bits - (d->cls == TN_CLASS_INT);
  bool fits = (k >= 0 || d->cls == TN_CLASS_INT) &&
              (room > 62 || (k < INT64_C(1) << room && k >= -(INT64_C(1) << room)));
  return fits ? e : unknown;
}

static tn_ox_elem elementwise(eval *e, const char *op, const tn_ox_elem *in) {
  tn_ox *x = e->x;
  uint32_t n = x->ir->op_noperands(x->m, e->op);
  if (!strcmp(op, "select")) {
    int64_t k;
    if (tn_ox_elem_const(x, &in[0], &k)) return in[k ? 1 : 2];
    bool equal = in[1].kind == TN_OX_DIM && in[2].kind == TN_OX_DIM && in[1].dim == in[2].dim;
    return equal ? in[1] : unknown;
  }
  for (uint32_t i = 0; i < n; i++)
    if (!in[i].kind) return unknown;
  if (n == 2 && !strcmp(op, "compare")) return tn_ox_elem_compare(x, text_attr(e, "cmp"), &in[0], &in[1]);
  if (!strcmp(op, "cast")) return tn_ox_elem_cast(x, &in[0], e->out.dtype);
  bool real = x->ir->dtype_info(e->out.dtype)->cls == TN_CLASS_FLOAT;
  if (!real) {
    tn_ox_elem r =
        n == 2 ? tn_ox_elem_binary(x, op, &in[0], &in[1]) : tn_ox_elem_unary(x, op, &in[0], e->out.dtype);
    return held(x, r, e->out.dtype);
  }
  if (n == 2 && !strcmp(op, "mul")) { /* a size times a whole number */
    uint32_t a = in[1].kind == TN_OX_DIM;
    int64_t k = in[!a].kind == TN_OX_REAL && fabs(in[!a].real) < 1 << 20 ? (int64_t)in[!a].real : 0;
    if (in[a].kind == TN_OX_DIM && k && (double)k == in[!a].real)
      return tn_ox_elem_dim(tn_ox_dmul(x, in[a].dim, tn_ox_d(x, k)));
  }
  if (in[0].kind == TN_OX_DIM && n == 1) /* a size, as a float: whole already */
    return !strcmp(op, "floor") || !strcmp(op, "ceil") || !strcmp(op, "round") ? in[0] : unknown;
  if (in[0].kind != TN_OX_REAL || (n == 2 && in[1].kind != TN_OX_REAL)) return unknown;
  if (e->out.dtype != TN_DT_f32 && e->out.dtype != TN_DT_f64) return unknown;
  tn_ox_elem r =
      n == 2 ? tn_ox_elem_real_binary(op, in[0].real, in[1].real) : tn_ox_elem_real_unary(op, in[0].real);
  if (e->out.dtype == TN_DT_f32) r.real = (double)(float)r.real;
  return r;
}

static bool eval_elementwise(eval *e, const char *op, tn_ox_elems *out) {
  uint32_t n = e->x->ir->op_noperands(e->x->m, e->op);
  bool any = false;
  if (!n || n > 3) return false;
  for (uint32_t i = 0; i < n; i++) any |= e->in[i] != NULL;
  for (uint32_t i = 0; any && i < out->count; i++) {
    tn_ox_elem in[3] = {{0}};
    for (uint32_t k = 0; k < n; k++)
      if (e->in[k]) in[k] = e->in[k]->at[repeated(e, e->x->ir->op_operand(e->x->m, e->op, k), i)];
    out->at[i] = elementwise(e, op, in);
  }
  return any;
}

static bool eval_iota(eval *e, const char *op, tn_ox_elems *out) {
  tn_ox *x = e->x;
  tn_attr start;
  (void)op;
  if (!x->ir->op_attr(x->m, e->op, "start", &start)) return false;
  int64_t axis = int_attr(e, "axis");
  for (uint32_t i = 0; i < out->count; i++) {
    uint32_t inner = 1;
    for (uint32_t d = (uint32_t)axis + 1; d < e->out.rank; d++) inner *= (uint32_t)e->dims[d];
    uint32_t at = e->out.rank ? i / inner % (uint32_t)e->dims[axis] : 0;
    tn_ox_elem v = tn_ox_elem_dim(tn_ox_dadd(x, start.u.dim, tn_ox_d(x, at)));
    out->at[i] = tn_ox_elem_cast(x, &v, e->out.dtype);
  }
  return true;
}

static bool eval_same_order(eval *e, const char *op, tn_ox_elems *out) {
  (void)op;
  if (!e->in[0] || e->in[0]->count != out->count) return false;
  memcpy(out->at, e->in[0]->at, out->count * sizeof *out->at);
  return true;
}

static bool eval_broadcast(eval *e, const char *op, tn_ox_elems *out) {
  (void)op;
  for (uint32_t i = 0; e->in[0] && i < out->count; i++)
    out->at[i] = e->in[0]->at[repeated(e, e->x->ir->op_operand(e->x->m, e->op, 0), i)];
  return e->in[0];
}

/* Coordinates of element i in a row-major tensor, and back. */
static void unflatten(uint32_t i, const int64_t *dims, uint32_t rank, int64_t *at) {
  for (uint32_t d = rank; d--; i /= (uint32_t)dims[d]) at[d] = i % dims[d];
}
static uint32_t flatten(const int64_t *at, const int64_t *dims, uint32_t rank) {
  uint64_t i = 0;
  for (uint32_t d = 0; d < rank; d++) i = i * (uint64_t)dims[d] + (uint64_t)at[d];
  return (uint32_t)i;
}

static bool eval_transpose(eval *e, const char *op, tn_ox_elems *out) {
  tn_attr perm;
  int64_t at[TN_MAX_RANK], from[TN_MAX_RANK];
  (void)op;
  if (!e->in[0] || !e->x->ir->op_attr(e->x->m, e->op, "perm", &perm)) return false;
  for (uint32_t i = 0; i < out->count; i++) {
    unflatten(i, e->dims, e->out.rank, at);
    for (uint32_t d = 0; d < e->out.rank; d++) from[perm.u.ints[d]] = at[d];
    out->at[i] = e->in[0]->at[flatten(from, e->from_dims, e->out.rank)];
  }
  return true;
}

static uint32_t axis_of(eval *e) {
  int64_t axis = int_attr(e, "axis");
  return (uint32_t)(axis < 0 ? axis + e->from.rank : axis);
}

static bool eval_slice(eval *e, const char *op, tn_ox_elems *out) {
  tn_attr start;
  int64_t at[TN_MAX_RANK], first;
  uint32_t axis = axis_of(e);
  (void)op;
  if (!e->in[0] || !e->x->ir->op_attr(e->x->m, e->op, "start", &start)) return false;
  if (!tn_ox_dconst(e->x, start.u.dim, &first)) return false;
  for (uint32_t i = 0; i < out->count; i++) {
    unflatten(i, e->dims, e->out.rank, at);
    at[axis] = first + at[axis] * int_attr(e, "step");
    out->at[i] = e->in[0]->at[flatten(at, e->from_dims, e->from.rank)];
  }
  return true;
}

static bool eval_gather(eval *e, const char *op, tn_ox_elems *out) {
  tn_ox *x = e->x;
  tn_type_info index;
  int64_t at[TN_MAX_RANK], idims[TN_MAX_RANK], from[TN_MAX_RANK], k;
  uint32_t axis = axis_of(e), n;
  (void)op;
  type_of(x, x->ir->op_operand(x->m, e->op, 1), &index);
  if (!e->in[0] || !e->in[1] || !small(x, &index, idims, MAX_KNOWN, &n)) return false;
  for (uint32_t i = 0; i < out->count; i++) {
    unflatten(i, e->dims, e->out.rank, at);
    for (uint32_t d = 0; d < e->from.rank; d++) from[d] = d <= axis ? at[d] : at[d + index.rank - 1];
    const tn_ox_elem *where = &e->in[1]->at[flatten(at + axis, idims, index.rank)];
    if (!tn_ox_elem_const(x, where, &k)) continue;
    from[axis] = k < 0 ? k + e->from_dims[axis] : k;
    if (from[axis] >= 0 && from[axis] < e->from_dims[axis])
      out->at[i] = e->in[0]->at[flatten(from, e->from_dims, e->from.rank)];
  }
  return true;
}

static bool eval_concat(eval *e, const char *op, tn_ox_elems *out) {
  tn_ox *x = e->x;
  int64_t at[TN_MAX_RANK], dims[TN_MAX_RANK], before = 0;
  uint32_t axis = axis_of(e), n;
  bool any = false;
  (void)op;
  for (uint32_t k = 0; k < x->ir->op_noperands(x->m, e->op); k++) {
    tn_value v = x->ir->op_operand(x->m, e->op, k);
    const tn_ox_elems *part = tn_ox_known(x, v);
    tn_type_info t;
    type_of(x, v, &t);
    if (!small(x, &t, dims, MAX_KNOWN, &n)) return false;
    for (uint32_t i = 0; part && i < n; i++) {
      unflatten(i, dims, t.rank, at);
      at[axis] += before;
      out->at[flatten(at, e->dims, e->out.rank)] = part->at[i];
      any = true;
    }
    before += dims[axis];
  }
  return any;
}

static bool eval_reduce(eval *e, const char *op, tn_ox_elems *out) {
  tn_ox *x = e->x;
  tn_attr axes;
  int64_t at[TN_MAX_RANK], to[TN_MAX_RANK];
  bool keep = int_attr(e, "keep"), reduced[TN_MAX_RANK] = {false}, seen[MAX_KNOWN] = {false};
  static const char *const ops[][2] = {
      {"reduce_sum", "add"}, {"reduce_prod", "mul"}, {"reduce_max", "max"}, {"reduce_min", "min"}};
  const char *step = NULL;
  for (size_t i = 0; i < TN_COUNT(ops); i++)
    if (!strcmp(ops[i][0], op)) step = ops[i][1];
  if (!step || !e->in[0] || !e->in[0]->count || x->ir->dtype_info(e->out.dtype)->cls == TN_CLASS_FLOAT)
    return false;
  if (!x->ir->op_attr(x->m, e->op, "axes", &axes)) return false;
  for (uint32_t i = 0; i < axes.count; i++)
    reduced[axes.u.ints[i] < 0 ? axes.u.ints[i] + e->from.rank : axes.u.ints[i]] = true;
  for (uint32_t i = 0; i < e->in[0]->count; i++) {
    uint32_t r = 0;
    unflatten(i, e->from_dims, e->from.rank, at);
    for (uint32_t d = 0; d < e->from.rank; d++)
      if (!reduced[d] || keep) to[r++] = reduced[d] ? 0 : at[d];
    uint32_t k = flatten(to, e->dims, e->out.rank);
    const tn_ox_elem *v = &e->in[0]->at[i];
    out->at[k] = !seen[k]                     ? *v
                 : v->kind && out->at[k].kind ? tn_ox_elem_binary(x, step, &out->at[k], v)
                                              : unknown;
    seen[k] = true;
  }
  return true;
}

static const struct {
  const char *op;
  bool (*eval)(eval *e, const char *op, tn_ox_elems *out);
} rows[] = {{"iota", eval_iota},
            {"reshape", eval_same_order},
            {"bitcast", NULL},
            {"constant", NULL},
            {"broadcast", eval_broadcast},
            {"transpose", eval_transpose},
            {"slice", eval_slice},
            {"gather", eval_gather},
            {"concat", eval_concat},
            {"reduce_sum", eval_reduce},
            {"reduce_prod", eval_reduce},
            {"reduce_max", eval_reduce},
            {"reduce_min", eval_reduce},
            {"neg", eval_elementwise},
            {"abs", eval_elementwise},
            {"sign", eval_elementwise},
            {"relu", eval_elementwise},
            {"not", eval_elementwise},
            {"floor", eval_elementwise},
            {"ceil", eval_elementwise},
            {"round", eval_elementwise},
            {"sqrt", eval_elementwise},
            {"exp", eval_elementwise},
            {"log", eval_elementwise},
            {"cast", eval_elementwise},
            {"add", eval_elementwise},
            {"sub", eval_elementwise},
            {"mul", eval_elementwise},
            {"div", eval_elementwise},
            {"mod", eval_elementwise},
            {"min", eval_elementwise},
            {"max", eval_elementwise},
            {"pow", eval_elementwise},
            {"and", eval_elementwise},
            {"or", eval_elementwise},
            {"xor", eval_elementwise},
            {"compare", eval_elementwise},
            {"select", eval_elementwise}};

/* A split is one slice per result. */
static void note_split(tn_ox *x, tn_op op, const eval *e) {
  int64_t at[TN_MAX_RANK], dims[TN_MAX_RANK], before = 0;
  uint32_t axis = axis_of((eval *)(uintptr_t)e), n;
  for (uint32_t k = 0; e->in[0] && k < x->ir->op_nresults(x->m, op); k++) {
    tn_value v = x->ir->op_result(x->m, op, k);
    tn_type_info t;
    type_of(x, v, &t);
    if (!small(x, &t, dims, MAX_KNOWN, &n)) return;
    tn_ox_elems *part = elems_new(x, n);
    for (uint32_t i = 0; part && i < n; i++) {
      unflatten(i, dims, t.rank, at);
      at[axis] += before;
      part->at[i] = e->in[0]->at[flatten(at, e->from_dims, t.rank)];
    }
    if (part) store(x, v, part);
    before += dims[axis];
  }
}

void tn_ox_note(tn_ox *x, tn_op op) {
  const char *name = x->ir->opcode_name(x->ir->opcode(x->m, op));
  eval e = {.x = x, .op = op};
  uint32_t nin = x->ir->op_noperands(x->m, op), ignored;
  if (!x->ir->op_nresults(x->m, op)) return;
  tn_value v = x->ir->op_result(x->m, op, 0);
  bool was_failed = x->failed;
  type_of(x, v, &e.out);
  if (!small(x, &e.out, e.dims, MAX_KNOWN, &e.count) && strcmp(name, "split")) return;
  for (uint32_t i = 0; i < nin && i < 3; i++) {
    e.in[i] = tn_ox_known(x, x->ir->op_operand(x->m, op, i));
    if (i == 0 && type_of(x, x->ir->op_operand(x->m, op, 0), &e.from) &&
        !small(x, &e.from, e.from_dims, MAX_KNOWN, &ignored))
      e.in[0] = NULL;
  }
  if (!strcmp(name, "split")) {
    note_split(x, op, &e);
    return;
  }
  for (size_t i = 0; i < TN_COUNT(rows); i++) {
    if (strcmp(rows[i].op, name) || !rows[i].eval) continue;
    tn_ox_elems *out = elems_new(x, e.count);
    if (out && rows[i].eval(&e, name, out)) store(x, v, out);
  }
  x->failed = was_failed;
}

/* ---- queries
 * ------------------------------------------------------------------------------------------------ */

static const tn_ox_elems *look(tn_ox *x, tn_value v, uint32_t max) {
  const tn_ox_elems *e = tn_ox_known(x, v);
  if (!e && max > MAX_KNOWN) e = constant_elems(x, v, max);
  return e && e->count <= max ? e : NULL;
}

bool tn_ox_known_dims(tn_ox *x, tn_value v, tn_dim *out, uint32_t max, uint32_t *count) {
  const tn_ox_elems *e = look(x, v, max);
  for (uint32_t i = 0; e && i < e->count; i++) {
    if (e->at[i].kind != TN_OX_DIM) return false;
    out[i] = e->at[i].dim;
  }
  if (e) *count = e->count;
  return e;
}

bool tn_ox_known_ints(tn_ox *x, tn_value v, int64_t *out, uint32_t max, uint32_t *count) {
  const tn_ox_elems *e = look(x, v, max);
  for (uint32_t i = 0; e && i < e->count; i++)
    if (!tn_ox_elem_const(x, &e->at[i], &out[i])) return false;
  if (e) *count = e->count;
  return e;
}

bool tn_ox_known_floats(tn_ox *x, tn_value v, double *out, uint32_t max, uint32_t *count) {
  const tn_ox_elems *e = look(x, v, max);
  for (uint32_t i = 0; e && i < e->count; i++) {
    int64_t k = 0;
    if (e->at[i].kind != TN_OX_REAL && !tn_ox_elem_const(x, &e->at[i], &k)) return false;
    out[i] = e->at[i].kind == TN_OX_REAL ? e->at[i].real : (double)k;
  }
  if (e) *count = e->count;
  return e;
}

bool tn_ox_now_dims(tn_ox *x, tn_value v, tn_dim *out, uint32_t max, uint32_t *count) {
  tn_type_info t;
  int64_t dims[TN_MAX_RANK];
  if (tn_ox_known_dims(x, v, out, max, count)) return true;
  if (!type_of(x, v, &t) || x->failed) return false;
  if (!small(x, &t, dims, max, count)) {
    tn_ox_refuse(x, x->node, NULL, "a shape whose number of entries is not known at import, or above %u",
                 max);
    return false;
  }
  const tn_ox_elems *e = tn_ox_known(x, v);
  tn_dim n = tn_ox_d(x, *count);
  tn_value flat = tn_ox_reshape(x, v, &n, 1);
  for (uint32_t i = 0; i < *count; i++) {
    out[i] = e && e->at[i].kind == TN_OX_DIM ? e->at[i].dim : 0;
    if (out[i]) continue;
    tn_value one = tn_ox_slice(x, flat, 0, tn_ox_d(x, i), tn_ox_d(x, i + 1), 1);
    out[i] = tn_ox_let_dim(x, one, 0, "n");
  }
  return !x->failed;
}
