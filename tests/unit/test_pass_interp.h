/* test_pass_interp.h - runs a function of the IR op by op with the reference kernels, before or after any
 * pass. Bodies of kernels run like functions. Where plan-memory has been, kernels write into the slots it
 * gave, and reading a slot that somebody else has written since is an error: that is the check that live
 * values never overlap. */
#ifndef TEST_PASS_INTERP_H
#define TEST_PASS_INTERP_H
#include "backends/ref/ref.h"
#include "backends/runtime/rt.h"
#include "ir/ir.h"
#include <stdio.h>

enum { MAX_SLOTS = 4096 };
typedef struct interp {
  tn_module *m;
  const uint8_t *file; /* the bytes that weights' parts point into */
  int64_t B, S, P, C;  /* values of the symbols */
  uint8_t *states[8];  /* by state id; kept between runs */
  tn_arena arena;
  TN_VEC(tn_ref_tensor) values; /* by value id; data NULL: not computed */
  tn_value owner[MAX_SLOTS];    /* by slot: the value that lies there, whole */
  uint64_t slot_bytes[MAX_SLOTS], slot_at[MAX_SLOTS];
  uint8_t *slots; /* where they lie, as the runtime packs them */
  uint32_t nslots;
  bool planned;
  char error[256];
} interp;

static inline int64_t interp_dim(void *ctx, tn_dim d) {
  interp *x = ctx;
  tn_dim_info i;
  tn_ir_dim_get(x->m, d, &i);
  if (i.kind == TN_DIM_CONST) return i.value;
  if (i.kind == TN_DIM_SYM) {
    const char *names = "BSPC", *at = strchr(names, i.symbol[0]);
    const int64_t v[] = {x->B, x->S, x->P, x->C};
    return at ? v[at - names] : -1;
  }
  int64_t a = interp_dim(x, i.a), b = interp_dim(x, i.b);
  switch (i.kind) {
  case TN_DIM_ADD: return a + b;
  case TN_DIM_MUL: return a * b;
  case TN_DIM_FLOORDIV: return a / b; /* no negative dims here */
  case TN_DIM_MOD: return a % b;
  case TN_DIM_MIN: return a < b ? a : b;
  default: return a > b ? a : b;
  }
}

static inline bool interp_fail(interp *x, const char *what, tn_op op) {
  if (!x->error[0])
    snprintf(x->error, sizeof x->error, "%s at op %u (%s)", what, op,
             op ? tn_ir_opcode_name(tn_ir_opcode(x->m, op)) : "");
  return false;
}

static inline tn_ref_tensor interp_shape(interp *x, tn_value v) {
  tn_value_info i;
  tn_type_info t;
  tn_ir_value_get(x->m, v, &i);
  tn_ir_type_get(x->m, i.type, &t);
  tn_ref_tensor r = {t.dtype, t.rank, {0}, NULL};
  for (uint32_t d = 0; d < t.rank; d++) r.dims[d] = interp_dim(x, t.dims[d]);
  return r;
}

static inline tn_ref_tensor interp_alloc(interp *x, tn_value v) {
  tn_ref_tensor r = interp_shape(x, v);
  r.data = tn_arena_alloc(&x->arena, tn_ref_bytes(&tn_ir_table, &r) + 64);
  return r;
}

static inline void interp_set(interp *x, tn_value v, tn_ref_tensor t) {
  while (x->values.count <= v) tn_vec_push(&x->values, (tn_ref_tensor){0});
  x->values.items[v] = t;
}

/* A weight is its parts, one after the other. */
static inline tn_ref_tensor interp_weight(interp *x, const tn_value_info *i, tn_value v) {
  tn_ref_tensor r = interp_alloc(x, v);
  tn_weight_info w;
  uint64_t at = 0;
  tn_ir_weight_get(x->m, i->weight, &w);
  for (uint32_t p = 0; p < w.nparts; at += w.parts[p++].bytes)
    memcpy((uint8_t *)r.data + at, x->file + w.parts[p].offset, w.parts[p].bytes);
  interp_set(x, v, r);
  return r;
}

static inline tn_value interp_base(interp *x, tn_value v) {
  for (;;) {
    tn_value_info i;
    tn_ir_value_get(x->m, v, &i);
    if (i.kind != TN_VALUE_RESULT || tn_ir_opcode(x->m, i.op) != TN_OPC_reshape) return v;
    v = tn_ir_op_operand(x->m, i.op, 0);
  }
}

static inline tn_ref_tensor interp_get(interp *x, tn_value v, tn_op by) {
  tn_ref_tensor none = {0};
  tn_value_info i;
  if (!v) return none;
  tn_value base = interp_base(x, v);
  tn_ir_value_get(x->m, base, &i);
  bool of_kernel = i.kind == TN_VALUE_RESULT && tn_ir_opcode(x->m, i.op) == TN_OPC_kernel;
  tn_attr a;
  if (x->planned && of_kernel && tn_ir_op_attr(x->m, i.op, "slots", &a) && i.index < a.count &&
      a.u.ints[i.index] >= 0 && x->owner[a.u.ints[i.index]] != base)
    interp_fail(x, "a live slot was overwritten", by);
  if (v < x->values.count && x->values.items[v].data) return x->values.items[v];
  tn_ir_value_get(x->m, v, &i);
  if (i.kind == TN_VALUE_WEIGHT) return interp_weight(x, &i, v);
  if (i.kind == TN_VALUE_STATE) {
    tn_ref_tensor r = interp_shape(x, v);
    r.data = x->states[i.state];
    return r;
  }
  interp_fail(x, "a value is read before it is computed", by);
  return none;
}

static inline bool interp_op(interp *x, tn_op op) {
  tn_ref_tensor in[64], out[64];
  uint32_t n = tn_ir_op_noperands(x->m, op), nout = tn_ir_op_nresults(x->m, op);
  for (uint32_t i = 0; i < n; i++) in[i] = interp_get(x, tn_ir_op_operand(x->m, op, i), op);
  bool view = tn_ir_opcode(x->m, op) == TN_OPC_reshape, update = tn_ir_opcode(x->m, op) == TN_OPC_kv_update;
  for (uint32_t i = 0; i < nout; i++) {
    out[i] = interp_shape(x, tn_ir_op_result(x->m, op, i));
    out[i].data = view || update ? in[0].data : interp_alloc(x, tn_ir_op_result(x->m, op, i)).data;
    interp_set(x, tn_ir_op_result(x->m, op, i), out[i]);
  }
  if (x->error[0] || view) return !x->error[0];
  tn_ref_fn fn = tn_ref_of(tn_ir_opcode_name(tn_ir_opcode(x->m, op)));
  tn_ref_call c = {&tn_ir_table, x->m, op, in, n, out, nout, interp_dim, x, &x->arena, ""};
  if (!fn) return interp_fail(x, "no reference kernel", op);
  return fn(&c) == TN_OK || interp_fail(x, c.error, op);
}

/* Where result i of a kernel goes. */
static inline tn_ref_tensor interp_place(interp *x, tn_op kernel, uint32_t i, tn_ref_tensor got) {
  tn_value v = tn_ir_op_result(x->m, kernel, i);
  tn_attr a;
  tn_ref_tensor r = interp_shape(x, v);
  uint64_t bytes = tn_ref_bytes(&tn_ir_table, &r);
  if (!x->planned || !tn_ir_op_attr(x->m, kernel, "slots", &a) || i >= a.count) return r.data = got.data, r;
  int64_t s = a.u.ints[i];
  if (s <= -2) {
    r.data = got.data;
  } else if (s == -1) {
    r.data = interp_alloc(x, v).data;
    memcpy(r.data, got.data, bytes);
  } else if (s < 0 || s >= x->nslots || bytes > x->slot_bytes[s]) {
    interp_fail(x, "a result does not fit its slot", kernel);
  } else {
    r.data = x->slots + x->slot_at[s];
    for (uint32_t k = 0; k < x->nslots; k++)
      if (x->slot_at[k] < x->slot_at[s] + x->slot_bytes[s] &&
          x->slot_at[s] < x->slot_at[k] + x->slot_bytes[k])
        x->owner[k] = 0;
    x->owner[s] = v;
    memcpy(r.data, got.data, bytes);
  }
  return r;
}

static inline bool interp_kernel(interp *x, tn_op kernel) {
  for (uint32_t i = 0; i < tn_ir_body_nargs(x->m, kernel); i++)
    interp_set(x, tn_ir_body_arg(x->m, kernel, i), interp_get(x, tn_ir_op_operand(x->m, kernel, i), kernel));
  tn_op op = tn_ir_first_op(x->m, 0, kernel);
  for (; op && tn_ir_opcode(x->m, op) != TN_OPC_yield && !x->error[0]; op = tn_ir_next_op(x->m, op))
    interp_op(x, op);
  tn_ref_tensor got[64];
  uint32_t n = tn_ir_op_nresults(x->m, kernel);
  if (!op || tn_ir_op_noperands(x->m, op) != n)
    return interp_fail(x, "a kernel does not yield its results", kernel);
  for (uint32_t i = 0; i < n; i++) got[i] = interp_get(x, tn_ir_op_operand(x->m, op, i), op);
  for (uint32_t i = 0; i < n && !x->error[0]; i++)
    interp_set(x, tn_ir_op_result(x->m, kernel, i), interp_place(x, kernel, i, got[i]));
  /* A kernel writes while it reads: none of its results may lie on one of its operands. */
  for (uint32_t i = 0; x->planned && i < tn_ir_op_noperands(x->m, kernel); i++)
    interp_get(x, tn_ir_op_operand(x->m, kernel, i), kernel);
  return !x->error[0];
}

static inline void interp_slots(interp *x, tn_func f) {
  tn_attr a, live;
  uint64_t total, least;
  x->planned = tn_ir_func_attr(x->m, f, "slots", &a) && tn_ir_func_attr(x->m, f, "live", &live);
  x->nslots = x->planned ? a.count : 0;
  if (!x->planned || a.count > MAX_SLOTS || live.count != 2 * a.count) return;
  tn_rt_room *rooms = tn_arena_alloc(&x->arena, (a.count + 1) * sizeof *rooms);
  for (uint32_t i = 0; i < a.count; i++) {
    x->slot_bytes[i] = (uint64_t)interp_dim(x, a.u.dims[i]);
    x->owner[i] = 0;
    rooms[i] = (tn_rt_room){.bytes = x->slot_bytes[i],
                            .slot = i,
                            .from = (uint32_t)live.u.ints[2 * i],
                            .until = (uint32_t)live.u.ints[2 * i + 1]};
  }
  if (!tn_rt_pack(rooms, a.count, &total, &least)) return;
  for (uint32_t i = 0; i < a.count; i++) x->slot_at[rooms[i].slot] = rooms[i].at;
  x->slots = tn_arena_alloc(&x->arena, total + 64);
}

/* Results' data live until interp_fini. false: x->error has words. */
static inline bool interp_run(interp *x, tn_func f, const tn_ref_tensor *args, tn_ref_tensor *results) {
  tn_func_info info;
  tn_ir_func_get(x->m, f, &info);
  x->error[0] = 0;
  x->values.count = 0;
  interp_slots(x, f);
  for (uint32_t i = 0; i < info.nargs; i++) interp_set(x, info.args[i], args[i]);
  for (tn_op op = tn_ir_first_op(x->m, f, 0); op && !x->error[0]; op = tn_ir_next_op(x->m, op)) {
    uint32_t code = tn_ir_opcode(x->m, op);
    if (code == TN_OPC_return)
      for (uint32_t i = 0; i < tn_ir_op_noperands(x->m, op); i++)
        results[i] = interp_get(x, tn_ir_op_operand(x->m, op, i), op);
    else if (code == TN_OPC_kernel)
      interp_kernel(x, op);
    else
      interp_op(x, op);
  }
  return !x->error[0];
}

static inline void interp_init(interp *x, tn_module *m) {
  memset(x, 0, sizeof *x);
  x->m = m;
  tn_arena_init(&x->arena);
}

static inline void interp_fini(interp *x) {
  tn_vec_fini(&x->values);
  tn_arena_fini(&x->arena);
}
#endif
