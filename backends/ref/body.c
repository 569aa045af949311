/* body.c - runs the body of a kernel op by the reference kernels, one op after the other, in memory of its
 * own. Results that are yielded are computed where the caller wants them; constants, reshapes and updated
 * states are other names of memory that is already there. */
#include "body.h"
#include <stdio.h>

/* ---- symbols
 * ------------------------------------------------------------------------------------------------- */
static tn_status add_symbols(tn_ref_kernel *k, tn_dim d) {
  tn_dim_info i;
  if (!d) return TN_OK;
  k->ir->dim_get(k->m, d, &i);
  if (i.kind == TN_DIM_CONST || i.kind == TN_DIM_UNKNOWN) return TN_OK;
  if (i.kind != TN_DIM_SYM) {
    TN_TRY(add_symbols(k, i.a));
    return add_symbols(k, i.b);
  }
  for (uint32_t s = 0; s < k->symbols.count; s++)
    if (k->symbols.items[s] == d) return TN_OK;
  return tn_vec_push(&k->symbols, d) ? TN_OK : TN_OOM;
}

static tn_status add_type(tn_ref_kernel *k, tn_value v) {
  tn_value_info i;
  tn_type_info t;
  if (!v) return TN_OK;
  k->ir->value_get(k->m, v, &i);
  k->ir->type_get(k->m, i.type, &t);
  for (uint32_t d = 0; d < t.rank; d++) TN_TRY(add_symbols(k, t.dims[d]));
  return TN_OK;
}

/* The attributes that hold dims, of all ops. */
static const struct {
  const char *op, *attr;
} dim_attrs[] = {
#define TN_REF_BOOL(op, name)
#define TN_REF_INT(op, name)
#define TN_REF_FLOAT(op, name)
#define TN_REF_STR(op, name)
#define TN_REF_INTS(op, name)
#define TN_REF_DIM(op, name) {#op, #name},
#define TN_REF_DIMS(op, name) {#op, #name},
#define TN_REF_DTYPE(op, name)
#define TN_REF_DATA(op, name)
#define TN_OP(name, family, flags, nin0, nin1, nout, doc)
#define TN_IN(op, name, constraint, shape)
#define TN_OUT(op, name, shape)
#define TN_ATTR(op, name, kind, def, doc) TN_REF_##kind(op, name)
#define TN_OP_END(op)
#include "ir/ops.def"
#undef TN_OP
#undef TN_IN
#undef TN_OUT
#undef TN_ATTR
#undef TN_OP_END
};

static tn_status add_attrs(tn_ref_kernel *k, tn_op op, const char *name) {
  for (size_t i = 0; i < TN_COUNT(dim_attrs); i++) {
    tn_attr a;
    if (strcmp(dim_attrs[i].op, name) || !k->ir->op_attr(k->m, op, dim_attrs[i].attr, &a)) continue;
    if (a.kind == TN_ATTR_DIM) TN_TRY(add_symbols(k, a.u.dim));
    for (uint32_t d = 0; a.kind == TN_ATTR_DIMS && d < a.count; d++) TN_TRY(add_symbols(k, a.u.dims[d]));
  }
  return TN_OK;
}

tn_status tn_ref_kernel_init(tn_ref_kernel *k, const tn_ir *ir, tn_module *m, tn_op op) {
  *k = (tn_ref_kernel){.ir = ir, .m = m, .op = op};
  for (uint32_t i = 0; i < ir->body_nargs(m, op); i++) TN_TRY(add_type(k, ir->body_arg(m, op, i)));
  for (tn_op o = ir->first_op(m, 0, op); o; o = ir->next_op(m, o)) {
    TN_TRY(add_attrs(k, o, ir->opcode_name(ir->opcode(m, o))));
    for (uint32_t i = 0; i < ir->op_nresults(m, o); i++) TN_TRY(add_type(k, ir->op_result(m, o, i)));
  }
  return TN_OK;
}

void tn_ref_kernel_fini(tn_ref_kernel *k) { tn_vec_fini(&k->symbols); }

/* ---- running
 * ------------------------------------------------------------------------------------------------- */
typedef struct named {
  tn_value value;
  tn_ref_tensor tensor;
} named;
typedef struct frame {
  const tn_ref_kernel *k;
  const int64_t *dims;
  void *const *results;
  tn_op yield;
  TN_VEC(named) values;
  tn_arena arena;
  char *error;
} frame;

static int64_t symbol_value(void *ctx, tn_dim d) {
  const frame *f = ctx;
  for (uint32_t i = 0; i < f->k->symbols.count; i++)
    if (f->k->symbols.items[i] == d) return f->dims[i];
  return INT64_MIN;
}

static tn_status shape_of(frame *f, tn_value v, tn_ref_tensor *t) {
  tn_status s = tn_ref_shape(f->k->ir, f->k->m, v, symbol_value, f, t);
  if (s != TN_OK)
    snprintf(f->error, TN_REF_ERROR, "the type of value %u has a negative or overflowing size", v);
  return s;
}

static tn_status define(frame *f, tn_value v, tn_ref_tensor t) {
  return tn_vec_push(&f->values, ((named){v, t})) ? TN_OK : TN_OOM;
}

/* An absent operand has no data; an unknown value cannot be in a verified body. */
static tn_ref_tensor look_up(const frame *f, tn_value v) {
  for (uint32_t i = f->values.count; v && i-- > 0;)
    if (f->values.items[i].value == v) return f->values.items[i].tensor;
  return (tn_ref_tensor){0};
}

/* Where a result is wanted, or new memory. */
static void *place(frame *f, tn_value v, const tn_ref_tensor *t) {
  const tn_ir *ir = f->k->ir;
  for (uint32_t i = 0; i < ir->op_noperands(f->k->m, f->yield); i++)
    if (ir->op_operand(f->k->m, f->yield, i) == v) return f->results[i];
  return tn_arena_alloc(&f->arena, tn_ref_bytes(ir, t) + 1); /* an empty tensor has an address, too */
}

/* Memory that the only result of `op` shares; NULL: none. */
static void *shared(frame *f, tn_op op, const char *name) {
  const tn_ir *ir = f->k->ir;
  tn_attr a;
  if (!strcmp(name, "constant") && ir->op_attr(f->k->m, op, "value", &a) && a.u.data.len)
    return (void *)(uintptr_t)a.u.data.ptr;
  if (!strcmp(name, "reshape") || !strcmp(name, "kv_update"))
    return look_up(f, ir->op_operand(f->k->m, op, 0)).data;
  return NULL;
}

static tn_status run_op(frame *f, tn_op op) {
  const tn_ir *ir = f->k->ir;
  tn_module *m = f->k->m;
  const char *name = ir->opcode_name(ir->opcode(m, op));
  tn_ref_fn fn = tn_ref_of(name);
  tn_ref_call c = {.ir = ir,
                   .m = m,
                   .op = op,
                   .nin = ir->op_noperands(m, op),
                   .nout = ir->op_nresults(m, op),
                   .dim = symbol_value,
                   .ctx = f,
                   .scratch = &f->arena};
  tn_ref_tensor *in = tn_arena_alloc(&f->arena, (c.nin + 1) * sizeof *in);
  c.in = in;
  c.out = tn_arena_alloc(&f->arena, (c.nout + 1) * sizeof *c.out);
  if (!fn || !c.in || !c.out) return fn ? TN_OOM : TN_UNSUPPORTED;
  for (uint32_t i = 0; i < c.nin; i++) in[i] = look_up(f, ir->op_operand(m, op, i));
  void *memory = shared(f, op, name);
  for (uint32_t i = 0; i < c.nout; i++) {
    tn_value v = ir->op_result(m, op, i);
    TN_TRY(shape_of(f, v, &c.out[i]));
    c.out[i].data = memory ? memory : place(f, v, &c.out[i]);
    if (!c.out[i].data) return TN_OOM;
    TN_TRY(define(f, v, c.out[i]));
  }
  if (memory && strcmp(name, "kv_update")) return TN_OK;
  tn_status s = fn(&c);
  if (c.error[0]) snprintf(f->error, TN_REF_ERROR, "%s: %s", name, c.error);
  return s;
}

static void deliver(frame *f) {
  const tn_ir *ir = f->k->ir;
  for (uint32_t i = 0; i < ir->op_noperands(f->k->m, f->yield); i++) {
    tn_ref_tensor t = look_up(f, ir->op_operand(f->k->m, f->yield, i));
    uint64_t bytes = tn_ref_bytes(ir, &t);
    if (t.data != f->results[i] && bytes) memmove(f->results[i], t.data, bytes);
  }
}

static tn_status run_body(frame *f, void *const *bufs, tn_op *at) {
  const tn_ir *ir = f->k->ir;
  tn_module *m = f->k->m;
  for (uint32_t i = 0; i < ir->body_nargs(m, f->k->op); i++) {
    tn_value v = ir->body_arg(m, f->k->op, i);
    tn_ref_tensor t;
    TN_TRY(shape_of(f, v, &t));
    t.data = bufs[i];
    TN_TRY(define(f, v, t));
  }
  for (tn_op op = ir->first_op(m, 0, f->k->op); op && op != f->yield; op = ir->next_op(m, op)) {
    *at = op;
    TN_TRY(run_op(f, op));
  }
  deliver(f);
  return TN_OK;
}

tn_status tn_ref_kernel_run(const tn_ref_kernel *k, void *const *bufs, const int64_t *dims, tn_op *at,
                            char *error) {
  frame f = {.k = k, .dims = dims, .error = error};
  f.results = bufs + k->ir->body_nargs(k->m, k->op);
  f.yield = k->ir->last_op(k->m, 0, k->op);
  *at = k->op;
  error[0] = 0;
  tn_arena_init(&f.arena);
  tn_status s = run_body(&f, bufs, at);
  if (s != TN_OK && !error[0]) snprintf(error, TN_REF_ERROR, s == TN_OOM ? "no memory" : "the op cannot run");
  tn_vec_fini(&f.values);
  tn_arena_fini(&f.arena);
  return s;
}

tn_status tn_ref_kernel_result(const tn_ref_kernel *k, uint32_t i, const int64_t *dims, tn_ref_tensor *out) {
  frame f = {.k = k, .dims = dims};
  return tn_ref_shape(k->ir, k->m, k->ir->op_result(k->m, k->op, i), symbol_value, &f, out);
}
