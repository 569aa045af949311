/* ops.c - ops of ir/ops.def by name: arguments become operands and attributes as the table says; numbers
 * become constants. An op whose arguments are all numbers is computed at once. */
#include "frontend/describe/eval.h"
#include <math.h>

typedef struct op_field {
  char what;
  const char *name, *text;
  uint8_t kind;
} op_field; /* 'i' operand, 'a' attribute, 0 end */
#define TN_OP(name, family, flags, lo, hi, nout, doc) static const op_field fields_##name[] = {
#define TN_IN(op, name, constraint, shape) {'i', #name, shape, 0},
#define TN_OUT(op, name, shape)
#define TN_ATTR(op, name, kind, def, doc) {'a', #name, def, TN_ATTR_##kind},
#define TN_OP_END(op) {0}}                                                                                   \
  ;
#include "ir/ops.def"
#undef TN_OP
#undef TN_IN
#undef TN_OUT
#undef TN_ATTR
#undef TN_OP_END

typedef struct op_row {
  const char *name;
  const op_field *fields;
  int min_in, max_in;
} op_row;
static const op_row rows[] = {
#define TN_OP(name, family, flags, lo, hi, nout, doc) {#name, fields_##name, lo, hi},
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
};
#define FIELDS_MAX 16
#define OPERANDS_MAX 256

/* Ops that a page cannot write: they hold bodies, end functions, or need bytes. */
static const char *const hidden[] = {"constant",  "kernel",  "yield", "return",
                                     "kv_update", "let_dim", "if",    "loop"};

static const op_row *op_find(const char *name) {
  for (size_t i = 0; i < TN_COUNT(hidden); i++)
    if (!strcmp(hidden[i], name)) return NULL;
  for (size_t i = 0; i < TN_COUNT(rows); i++)
    if (!strcmp(rows[i].name, name)) return &rows[i];
  return NULL;
}

bool tn_op_known(const char *name) { return op_find(name) != NULL; }

tn_loc tn_eval_loc(tn_eval *ev) {
  tn_loc_info l = {.kind = TN_LOC_PAGE, .line = ev->pos.line, .col = ev->pos.col, .name = ev->file};
  return ev->ir->loc_make(ev->m, &l);
}

/* ---- making ---------------------------------------------------------------------------------- */
static tn_op create(tn_eval *ev, const tn_op_desc *d) {
  tn_point end = {.func = ev->func};
  if (!tn_eval_step(ev)) return 0;
  tn_op op = ev->ir->op_create(ev->m, end, d);
  if (!op) ev->errors++; /* op_create said why */
  return op;
}

static tn_val results_of(tn_eval *ev, tn_op op) {
  tn_val items[64];
  uint32_t n = op ? ev->ir->op_nresults(ev->m, op) : 0;
  if (n == 1) return tn_val_tensor(ev->ir->op_result(ev->m, op, 0));
  if (!n || n > TN_COUNT(items)) return tn_val_bad();
  for (uint32_t i = 0; i < n; i++) items[i] = tn_val_tensor(ev->ir->op_result(ev->m, op, i));
  return tn_val_list(ev, items, n);
}

tn_val tn_make_op(tn_eval *ev, const char *name, const tn_value *in, uint32_t nin, const tn_named_attr *attrs,
                  uint32_t nattrs) {
  tn_op_desc d = {.name = name,
                  .operands = in,
                  .noperands = nin,
                  .attrs = attrs,
                  .nattrs = nattrs,
                  .loc = tn_eval_loc(ev)};
  if (!ev->func) return tn_eval_fail(ev, "'%s' builds an op, which only graphs can hold", name);
  return results_of(ev, create(ev, &d));
}

tn_val tn_make_reshape(tn_eval *ev, tn_val x, const tn_dim *dims, uint32_t rank) {
  tn_named_attr a = {"shape", {.kind = TN_ATTR_DIMS, .count = rank, .u.dims = dims}};
  return tn_make_op(ev, "reshape", &x.u.tensor, 1, &a, 1);
}

/* ---- constants ------------------------------------------------------------------------------- */
/* Writes one number in the type's own bytes; false: it does not fit the type. */
static bool encode(tn_dtype dt, tn_val v, uint8_t *out) {
  double r = v.kind == TN_V_INT ? (double)v.u.i : v.u.r;
  float f = (float)r;
  uint16_t h;
  if (dt == TN_DT_f64) return memcpy(out, &r, 8), true;
  if (dt == TN_DT_f32) return memcpy(out, &f, 4), true;
  if (dt == TN_DT_f16 || dt == TN_DT_bf16) {
    h = dt == TN_DT_f16 ? tn_f32_to_f16(f) : tn_f32_to_bf16(f);
    return memcpy(out, &h, 2), true;
  }
  if (v.kind != TN_V_INT) return false;
  int64_t i = v.u.i;
  static const struct {
    tn_dtype dt;
    uint8_t bytes;
    int64_t low, high;
  } ints[] = {{TN_DT_i64, 8, INT64_MIN, INT64_MAX},
              {TN_DT_i32, 4, INT32_MIN, INT32_MAX},
              {TN_DT_i16, 2, INT16_MIN, INT16_MAX},
              {TN_DT_i8, 1, INT8_MIN, INT8_MAX},
              {TN_DT_u64, 8, 0, INT64_MAX},
              {TN_DT_u32, 4, 0, UINT32_MAX},
              {TN_DT_u16, 2, 0, UINT16_MAX},
              {TN_DT_u8, 1, 0, UINT8_MAX},
              {TN_DT_bool, 1, 0, 1}};
  for (size_t k = 0; k < TN_COUNT(ints); k++)
    if (ints[k].dt == dt) return memcpy(out, &i, ints[k].bytes), i >= ints[k].low && i <= ints[k].high;
  return false;
}

/* The same constant is one op in a function. */
static tn_val constant_of(tn_eval *ev, tn_type type, const void *bytes, uint64_t size) {
  uint64_t found;
  tn_buf key = {0};
  tn_buf_printf(&key, "%u:", type);
  tn_buf_put(&key, bytes, size);
  tn_str k = {key.text, key.len};
  tn_val v = tn_val_bad();
  if (key.failed)
    v = tn_eval_oom(ev);
  else if (tn_map_get(&ev->constants, k, &found))
    v = tn_val_tensor((tn_value)found);
  else {
    tn_named_attr a = {"value", {.kind = TN_ATTR_DATA, .u.data = {bytes, size}}};
    tn_op_desc d = {.name = "constant",
                    .attrs = &a,
                    .nattrs = 1,
                    .results = &type,
                    .nresults = 1,
                    .loc = tn_eval_loc(ev)};
    v = results_of(ev, create(ev, &d));
    if (v.kind == TN_V_TENSOR && tn_map_put(&ev->constants, k, v.u.tensor, NULL) != TN_OK)
      v = tn_eval_oom(ev);
  }
  tn_buf_fini(&key);
  return v;
}

tn_val tn_make_constant(tn_eval *ev, tn_dtype dt, const tn_val *numbers, uint32_t count, bool scalar) {
  const tn_dtype_info *info = ev->ir->dtype_info(dt);
  if (!ev->func) return tn_eval_fail(ev, "a constant tensor can only stand in a graph");
  if (!info || info->cls == TN_CLASS_BLOCK || info->bits < 8)
    return tn_eval_fail(ev, "no constants of type %s", info ? info->name : "?");
  size_t item = info->bits / 8;
  uint8_t *bytes = tn_arena_alloc(&ev->arena, (size_t)count * item);
  if (!bytes) return tn_eval_oom(ev);
  for (uint32_t i = 0; i < count; i++) {
    if (numbers[i].kind == TN_V_BAD) return numbers[i];
    if (!tn_val_is_number(numbers[i]) || !encode(dt, numbers[i], bytes + i * item))
      return tn_eval_fail(ev, "%s is not a number of type %s", tn_val_show(ev, numbers[i]), info->name);
  }
  tn_dim d = ev->ir->dim_const(ev->m, count);
  tn_type type = ev->ir->type_make(ev->m, dt, scalar ? 0 : 1, &d, NULL);
  return type ? constant_of(ev, type, bytes, (uint64_t)count * item) : tn_val_bad();
}

tn_val tn_make_scalar(tn_eval *ev, tn_dtype dt, tn_val v) {
  if (v.kind == TN_V_BAD || v.kind == TN_V_TENSOR) return v;
  if (v.kind == TN_V_BOOL) v = tn_val_int(v.u.b);
  if (v.kind == TN_V_DIM) { /* a counter of shape [] that starts at the dim */
    tn_named_attr a[3] = {{"shape", {.kind = TN_ATTR_DIMS}},
                          {"start", {.kind = TN_ATTR_DIM, .u.dim = v.u.dim}},
                          {"dtype", {.kind = TN_ATTR_DTYPE, .u.i = dt}}};
    return tn_make_op(ev, "iota", NULL, 0, a, 3);
  }
  if (!tn_val_is_number(v))
    return tn_eval_fail(ev, "expected a tensor or a number, found %s", tn_val_show(ev, v));
  return tn_make_constant(ev, dt, &v, 1, true);
}

/* ---- attributes ------------------------------------------------------------------------------ */
static bool wrong(tn_eval *ev, const char *op, const op_field *f, tn_val v, const char *what) {
  if (v.kind != TN_V_BAD)
    tn_eval_fail(ev, "%s: '%s' is %s, expected %s", op, f->name, tn_val_show(ev, v), what);
  return false;
}

static bool list_attr(tn_eval *ev, const char *op, const op_field *f, tn_val v, tn_attr *out) {
  tn_vals l = v.kind == TN_V_LIST ? v.u.list : (tn_vals){&v, 1};
  bool dims = f->kind == TN_ATTR_DIMS;
  tn_dim *d = tn_arena_alloc(&ev->arena, l.count * sizeof *d);
  int64_t *n = tn_arena_alloc(&ev->arena, l.count * sizeof *n);
  if (!d || !n) return tn_eval_oom(ev), false;
  for (uint32_t i = 0; i < l.count; i++) {
    tn_val x = l.items[i];
    if (dims && !(d[i] = tn_val_to_dim(ev, x))) return wrong(ev, op, f, x.kind == TN_V_BAD ? x : v, "dims");
    if (!dims && x.kind != TN_V_INT) return wrong(ev, op, f, x.kind == TN_V_BAD ? x : v, "whole numbers");
    if (!dims) n[i] = x.u.i;
  }
  out->count = l.count;
  if (dims)
    out->u.dims = d;
  else
    out->u.ints = n;
  return true;
}

static bool to_attr(tn_eval *ev, const char *op, const op_field *f, tn_val v, tn_attr *out) {
  bool text = v.kind == TN_V_TEXT;
  *out = (tn_attr){.kind = f->kind};
  if (v.kind == TN_V_BAD) return false;
  switch (f->kind) {
  case TN_ATTR_BOOL: out->u.i = v.u.b; return v.kind == TN_V_BOOL || wrong(ev, op, f, v, "true or false");
  case TN_ATTR_INT: out->u.i = v.u.i; return v.kind == TN_V_INT || wrong(ev, op, f, v, "a whole number");
  case TN_ATTR_FLOAT:
    out->u.f = v.kind == TN_V_INT ? (double)v.u.i : v.u.r;
    return tn_val_is_number(v) || wrong(ev, op, f, v, "a number");
  case TN_ATTR_STR:
    if (text) out->u.s = v.u.text.alts[0].raw;
    return text || wrong(ev, op, f, v, "a word");
  case TN_ATTR_DIM: out->u.dim = tn_val_to_dim(ev, v); return out->u.dim || wrong(ev, op, f, v, "a dim");
  case TN_ATTR_DTYPE:
    if (text) out->u.i = ev->ir->dtype_by_name(v.u.text.alts[0].raw);
    return (text && out->u.i) || wrong(ev, op, f, v, "an element type");
  case TN_ATTR_INTS:
  case TN_ATTR_DIMS: return list_attr(ev, op, f, v, out);
  default: return wrong(ev, op, f, v, "bytes, which a page cannot write");
  }
}

/* ---- calls ----------------------------------------------------------------------------------- */
/* keep: whole numbers stay whole; round: the result is whole. */
typedef struct number_fn {
  const char *name;
  double (*one)(double);
  double (*two)(double, double);
  bool keep, round;
} number_fn;
static const number_fn number_fns[] = {{"sqrt", sqrt, NULL, false, false}, {"exp", exp, NULL, false, false},
                                       {"log", log, NULL, false, false},   {"sin", sin, NULL, false, false},
                                       {"cos", cos, NULL, false, false},   {"tanh", tanh, NULL, false, false},
                                       {"abs", fabs, NULL, true, false},   {"floor", floor, NULL, true, true},
                                       {"ceil", ceil, NULL, true, true},   {"pow", NULL, pow, false, false},
                                       {"min", NULL, fmin, true, false},   {"max", NULL, fmax, true, false}};

/* All arguments are numbers: computed at once. */
static bool static_call(tn_eval *ev, const char *name, const tn_args *args, tn_val *out) {
  double x[2] = {0}, r;
  bool ints = true;
  const number_fn *f = NULL;
  for (size_t i = 0; i < TN_COUNT(number_fns); i++)
    if (!strcmp(number_fns[i].name, name)) f = &number_fns[i];
  if (!f || args->count != (f->one ? 1 : 2)) return false;
  for (uint32_t i = 0; i < args->count; i++) {
    tn_val v = args->items[i].v;
    if (args->items[i].named || args->items[i].unknown || !tn_val_is_number(v)) return false;
    ints = ints && v.kind == TN_V_INT;
    x[i] = v.kind == TN_V_INT ? (double)v.u.i : v.u.r;
  }
  r = f->one ? f->one(x[0]) : f->two(x[0], x[1]);
  bool whole = f->round || (f->keep && ints);
  if (!isfinite(r) || (whole && fabs(r) > 9007199254740992.0))
    *out = tn_eval_fail(ev, "%s of %.9g is out of range", name, x[0]);
  else
    *out = whole ? tn_val_int((int64_t)r) : tn_val_real(r);
  return true;
}

typedef struct op_call {
  const op_row *row;
  tn_slot slots[FIELDS_MAX];
  const op_field *fields[FIELDS_MAX];
  tn_val vals[FIELDS_MAX];
  uint32_t nslots;
  tn_value in[OPERANDS_MAX];
  uint32_t nin;
  tn_named_attr attrs[FIELDS_MAX];
  uint32_t nattrs;
} op_call;

static bool is_optional(const op_field *f) { return f->what == 'i' ? f->text[0] == '?' : f->text[0] != 0; }

/* concat(a, b, axis = 1) and concat([a, b], 1): what comes by position are operands. */
static bool take_variadic(tn_eval *ev, op_call *c, const tn_args *args, tn_args *rest) {
  for (uint32_t i = 0; i < args->count; i++) {
    const tn_arg *a = &args->items[i];
    bool attr = a->named || a->unknown || (a->bare && a->v.kind != TN_V_TENSOR && a->v.kind != TN_V_LIST);
    if (attr) {
      if (!tn_vec_push(rest, *a)) return tn_eval_oom(ev), false;
      continue;
    }
    tn_vals l = a->v.kind == TN_V_LIST ? a->v.u.list : (tn_vals){(tn_val *)&a->v, 1};
    for (uint32_t k = 0; k < l.count; k++) {
      if (l.items[k].kind == TN_V_BAD) return false;
      if (l.items[k].kind != TN_V_TENSOR || c->nin == OPERANDS_MAX)
        return tn_eval_fail(ev, "%s takes tensors, at most %d: found %s", c->row->name, OPERANDS_MAX,
                            tn_val_show(ev, l.items[k])),
               false;
      c->in[c->nin++] = l.items[k].u.tensor;
    }
  }
  return true;
}

/* The element type that numbers among the operands get: that of the tensors beside them. */
static tn_dtype operand_dtype(tn_eval *ev, const op_call *c) {
  bool select = !strcmp(c->row->name, "select");
  for (uint32_t i = select; i < c->nslots; i++)
    if (c->fields[i]->what == 'i' && c->vals[i].kind == TN_V_TENSOR) return tn_val_type(ev, c->vals[i]).dtype;
  return TN_DT_f32;
}

static bool fill_operands(tn_eval *ev, op_call *c) {
  tn_dtype dt = operand_dtype(ev, c);
  uint32_t last = 0;
  for (uint32_t i = 0; i < c->nslots && c->fields[i]->what == 'i'; i++) {
    tn_val v = c->vals[i];
    if (v.kind == TN_V_BAD) return false;
    bool absent = v.kind == TN_V_UNSET || v.kind == TN_V_NONE;
    if (!absent) v = tn_make_scalar(ev, dt, v);
    if (!absent && v.kind != TN_V_TENSOR) return false;
    if (absent && !is_optional(c->fields[i]))
      return tn_eval_fail(ev, "%s needs '%s'", c->row->name, c->fields[i]->name), false;
    c->in[c->nin++] = absent ? 0 : v.u.tensor;
    if (!absent) last = c->nin;
  }
  c->nin = last;
  return true;
}

static bool fill_attrs(tn_eval *ev, op_call *c) {
  bool ok = true;
  for (uint32_t i = 0; i < c->nslots; i++) {
    tn_val v = c->vals[i];
    if (c->fields[i]->what != 'a') continue;
    if (v.kind == TN_V_UNSET || v.kind == TN_V_NONE) {
      if (!is_optional(c->fields[i]))
        ok = tn_eval_fail(ev, "%s needs '%s'", c->row->name, c->fields[i]->name).kind != TN_V_BAD;
      continue;
    }
    tn_named_attr *a = &c->attrs[c->nattrs];
    a->name = c->fields[i]->name;
    if (to_attr(ev, c->row->name, c->fields[i], v, &a->attr))
      c->nattrs++;
    else
      ok = false;
  }
  return ok;
}

tn_val tn_call_op(tn_eval *ev, const char *name, const tn_args *args) {
  op_call c = {.row = op_find(name)};
  tn_args rest = {0};
  tn_val v;
  if (static_call(ev, name, args, &v)) return v;
  bool variadic = c.row->max_in < 0, ok = true;
  for (const op_field *f = c.row->fields; f->what && c.nslots < FIELDS_MAX; f++) {
    if (variadic && f->what == 'i') continue;
    c.slots[c.nslots] = (tn_slot){f->name, is_optional(f)};
    c.fields[c.nslots++] = f;
  }
  if (variadic) ok = take_variadic(ev, &c, args, &rest);
  ok = ok && tn_bind(ev, name, variadic ? &rest : args, c.slots, c.nslots, c.vals, NULL);
  tn_vec_fini(&rest);
  if (!ok || (!variadic && !fill_operands(ev, &c)) || !fill_attrs(ev, &c)) return tn_val_bad();
  return tn_make_op(ev, name, c.in, c.nin, c.attrs, c.nattrs);
}
