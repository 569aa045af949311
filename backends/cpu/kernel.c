/* kernel.c - from a kernel op to its two functions, and the loops that skeletons are made of. */
#include "backends/cpu/kernel.h"
#include "backends/lib/lib.h"
#include "backends/llvm/convert.h"
#include <stdio.h>

/* ---- the two functions ---- */
#define MAX_BUFFERS 128
enum { SCRATCH, DIMS, THREAD, NTHREADS, TICKETS, LAUNCH, FIXED_ARGS }; /* before the buffers */

static void write_entry(tn_cpu_kernel *k, const char *symbol, ll_val inner, ll_type inner_type,
                        uint32_t nbufs) {
  tn_ll *e = k->e;
  ll_type arg = e->ptr;
  ll_func(e, symbol, e->tvoid, &arg, 1, false, false);
  ll_val call = LLVMGetParam(e->fn, 0), args[FIXED_ARGS + MAX_BUFFERS];
  static const int64_t pointers[] = {[SCRATCH] = offsetof(tn_kcall, scratch),
                                     [DIMS] = offsetof(tn_kcall, dims),
                                     [TICKETS] = offsetof(tn_kcall, tickets)};
  static const int64_t numbers[] = {[THREAD] = offsetof(tn_kcall, thread),
                                    [NTHREADS] = offsetof(tn_kcall, nthreads),
                                    [LAUNCH] = offsetof(tn_kcall, launch)};
  ll_val bufs = ll_load(e, e->ptr, ll_at(e, call, ll_k(e, offsetof(tn_kcall, bufs))), 8);
  for (uint32_t i = 0; i < FIXED_ARGS; i++) {
    bool number = i == THREAD || i == NTHREADS || i == LAUNCH;
    ll_val at = ll_at(e, call, ll_k(e, number ? numbers[i] : pointers[i]));
    args[i] = number ? LLVMBuildZExt(e->b, ll_load(e, e->i32, at, 4), e->i64, "") : ll_load(e, e->ptr, at, 8);
  }
  for (uint32_t i = 0; i < nbufs; i++)
    args[FIXED_ARGS + i] = ll_load(e, e->ptr, ll_at(e, bufs, ll_k(e, 8 * (int64_t)i)), 8);
  LLVMBuildCall2(e->b, inner_type, inner, args, FIXED_ARGS + nbufs, "");
  LLVMBuildRetVoid(e->b);
}

static ll_val open_inner(tn_cpu_kernel *k, const char *symbol, uint32_t nin, uint32_t nout) {
  tn_ll *e = k->e;
  char name[160];
  ll_type types[FIXED_ARGS + MAX_BUFFERS] = {e->ptr, e->ptr, e->i64, e->i64, e->ptr, e->i64};
  for (uint32_t i = 0; i < nin + nout; i++) types[FIXED_ARGS + i] = e->ptr;
  snprintf(name, sizeof name, "%s.body", symbol);
  ll_val fn = ll_func(e, name, e->tvoid, types, FIXED_ARGS + nin + nout, true, true);
  ll_func_attr(e, fn, "prefer-vector-width", k->u->isa->vector_width);
  k->scratch = LLVMGetParam(fn, SCRATCH);
  ll_val dims = LLVMGetParam(fn, DIMS);
  k->thread = LLVMGetParam(fn, THREAD);
  k->nthreads = LLVMGetParam(fn, NTHREADS);
  k->tickets = LLVMGetParam(fn, TICKETS);
  k->launch = LLVMGetParam(fn, LAUNCH);
  for (uint32_t i = 0; i < nin; i++) k->body.args[i] = LLVMGetParam(fn, FIXED_ARGS + i);
  for (uint32_t i = 0; i < nout; i++) k->outs[i] = LLVMGetParam(fn, FIXED_ARGS + nin + i);
  for (uint32_t i = 0; i < k->body.nsyms; i++)
    k->body.sym_values[i] = ll_load(e, e->i64, ll_at(e, dims, ll_k(e, 8 * (int64_t)i)), 8);
  return fn;
}

void tn_cpu_kernel_emit(tn_cpu_kernel *k, tn_cpu_unit *u, tn_op op, const char *symbol) {
  memset(k, 0, sizeof *k);
  k->u = u;
  k->e = &u->e;
  k->choice = u->choice;
  k->op = op;
  tn_ll_body_init(&k->body, k->e, u->ir, u->m, op);
  k->body.zeros = u->zeros;
  tn_ll_outline outline;
  tn_ll_body_read(&k->body, &outline);
  k->root = outline.root;
  k->root_name = outline.root_name;
  k->nyields = outline.nyields;
  memcpy(k->yields, outline.yields, sizeof k->yields);
  uint32_t nin = u->ir->op_noperands(u->m, op);
  if (nin > TN_COUNT(k->body.args)) {
    tn_ll_fail(k->e, "a kernel has %u operands, at most %zu are handled", nin, TN_COUNT(k->body.args));
    return;
  }
  ll_val inner = open_inner(k, symbol, nin, k->nyields);
  ll_type inner_type = LLVMGlobalGetValueType(inner);
  tn_cpu_skeleton_of(k->root ? k->root_name : "loop")(k);
  LLVMBuildRetVoid(k->e->b);
  write_entry(k, symbol, inner, inner_type, nin + k->nyields);
}
void tn_cpu_kernel_fini(tn_cpu_kernel *k) { tn_ll_body_fini(&k->body); }

static const struct {
  const char *root;
  tn_cpu_skeleton fn;
} skeletons[] = {{"softmax", tn_cpu_emit_rows},        {"layer_norm", tn_cpu_emit_rows},
                 {"rms_norm", tn_cpu_emit_rows},       {"reduce_sum", tn_cpu_emit_reduce},
                 {"reduce_mean", tn_cpu_emit_reduce},  {"reduce_max", tn_cpu_emit_reduce},
                 {"reduce_min", tn_cpu_emit_reduce},   {"reduce_prod", tn_cpu_emit_reduce},
                 {"argmax", tn_cpu_emit_reduce},       {"argmin", tn_cpu_emit_reduce},
                 {"matmul", tn_cpu_emit_matmul},       {"expert_matmul", tn_cpu_emit_expert_matmul},
                 {"conv", tn_cpu_emit_conv},           {"conv_transpose", tn_cpu_emit_conv},
                 {"pool", tn_cpu_emit_pool},           {"argpool", tn_cpu_emit_pool},
                 {"attention", tn_cpu_emit_attention}, {"kv_update", tn_cpu_emit_kv_update},
                 {"ssm_scan", tn_cpu_emit_ssm_scan},   {"cumsum", tn_cpu_emit_running},
                 {"cumprod", tn_cpu_emit_running},     {"sort", tn_cpu_emit_sort}};

tn_cpu_skeleton tn_cpu_skeleton_of(const char *root) {
  for (size_t i = 0; i < TN_COUNT(skeletons); i++)
    if (!strcmp(skeletons[i].root, root)) return skeletons[i].fn;
  return tn_lib_find(root) ? tn_cpu_emit_library : tn_cpu_emit_loop;
}

/* ---- dims and scratch ---- */
tn_dim tn_cpu_dim_k(tn_cpu_kernel *k, int64_t v) { return k->u->ir->dim_const(k->u->m, v); }
tn_dim tn_cpu_dim_mul(tn_cpu_kernel *k, tn_dim a, tn_dim b) {
  return k->u->ir->dim_make(k->u->m, TN_DIM_MUL, a, b);
}
tn_dim tn_cpu_dim_add(tn_cpu_kernel *k, tn_dim a, tn_dim b) {
  return k->u->ir->dim_make(k->u->m, TN_DIM_ADD, a, b);
}
tn_dim tn_cpu_dim_ceildiv(tn_cpu_kernel *k, tn_dim d, int64_t n) {
  return k->u->ir->dim_make(k->u->m, TN_DIM_FLOORDIV, tn_cpu_dim_add(k, d, tn_cpu_dim_k(k, n - 1)),
                            tn_cpu_dim_k(k, n));
}

ll_val tn_cpu_scratch(tn_cpu_kernel *k, tn_dim count, uint32_t bytes) {
  tn_dim lines = tn_cpu_dim_ceildiv(k, tn_cpu_dim_mul(k, count, tn_cpu_dim_k(k, bytes)), 64);
  tn_dim size = tn_cpu_dim_mul(k, lines, tn_cpu_dim_k(k, 64));
  ll_val at = k->scratch_bytes ? ll_at(k->e, k->scratch, tn_ll_dim(&k->body, k->scratch_bytes)) : k->scratch;
  k->scratch_bytes = k->scratch_bytes ? tn_cpu_dim_add(k, k->scratch_bytes, size) : size;
  return at;
}

ll_val tn_cpu_arg_buffer(tn_cpu_kernel *k, tn_value v) {
  tn_value_info i;
  k->u->ir->value_get(k->u->m, v, &i);
  return i.kind == TN_VALUE_ARG && i.op == k->op ? k->body.args[i.index] : NULL;
}

/* ---- loops ---- */
void tn_cpu_rows_begin(tn_cpu_kernel *k, tn_cpu_rows *r, const ll_val *sizes, uint32_t n, ll_val lo,
                       ll_val hi) {
  tn_ll *e = k->e;
  ll_val init[TN_MAX_RANK], rest = lo;
  r->n = n;
  for (uint32_t i = n; i-- > 0;) {
    r->sizes[i] = sizes[i];
    ll_val by = ll_imax(e, sizes[i], ll_k(e, 1)); /* a size of 0: no rows, but no division by 0 either */
    init[i] = i ? ll_imod(e, rest, by) : rest;
    rest = i ? ll_idiv(e, rest, by) : rest;
  }
  ll_loop_begin(e, &r->loop, lo, hi, ll_k(e, 1), init, n > 1 ? n : 0);
  r->flat = r->loop.iv;
  for (uint32_t i = 0; i < n; i++) r->at[i] = tn_ll_ix_scalar(n > 1 ? r->loop.phi[i] : r->loop.iv);
  tn_ll_body_forget(&k->body);
}

void tn_cpu_rows_end(tn_cpu_kernel *k, tn_cpu_rows *r) {
  tn_ll *e = k->e;
  ll_val next[TN_MAX_RANK], carry = ll_k(e, 1);
  for (uint32_t i = r->n; r->n > 1 && i-- > 0;) {
    ll_val c = ll_add(e, r->loop.phi[i], carry);
    ll_val wrap = ll_icmp(e, LLVMIntEQ, c, r->sizes[i]);
    next[i] = i ? ll_select(e, wrap, ll_k(e, 0), c) : c;
    carry = LLVMBuildZExt(e->b, wrap, e->i64, "");
  }
  ll_loop_end(e, &r->loop, next);
  tn_ll_body_forget(&k->body);
}

void tn_cpu_columns(tn_cpu_kernel *k, ll_val lo, ll_val hi, tn_cpu_column_fn fn, void *ctx, ll_val *acc,
                    uint32_t nacc) {
  tn_ll *e = k->e;
  int64_t a, b, w = e->lanes;
  ll_val rest = ll_and(e, ll_sub(e, hi, lo), ll_k(e, -w));
  ll_val full = ll_add(e, lo, ll_imax(e, rest, ll_k(e, 0)));
  bool known = ll_const(lo, &a) && ll_const(hi, &b), one = known && b - a == w;
  ll_loop loop;
  if (one) {
    fn(k, ctx, tn_ll_ix_lanes(lo, true), NULL, acc);
    return;
  }
  for (int tail = 0; tail < 2; tail++) {
    if (known && (tail ? (b - a) % w == 0 : b - a < w)) continue;
    ll_loop_begin(e, &loop, tail ? full : lo, tail ? hi : full, ll_k(e, w), acc, nacc);
    tn_ll_body_forget(&k->body);
    for (uint32_t i = 0; i < nacc; i++) acc[i] = loop.phi[i];
    ll_val mask = tail ? ll_mask_below(e, ll_sub(e, hi, loop.iv)) : NULL;
    fn(k, ctx, tn_ll_ix_lanes(loop.iv, true), mask, acc);
    ll_loop_end(e, &loop, acc);
    for (uint32_t i = 0; i < nacc; i++) acc[i] = loop.out[i];
    tn_ll_body_forget(&k->body);
  }
}

tn_ll_index tn_cpu_row_index(const tn_cpu_rows *r, const tn_type_info *t, tn_ll_ix j, ll_val mask) {
  tn_ll_index ix = {.rank = t->rank, .mask = mask, .shape = t->dims, .flat = r->flat};
  for (uint32_t i = 0; i + 1 < t->rank; i++) ix.at[i] = r->at[i];
  if (t->rank) ix.at[t->rank - 1] = j;
  return ix;
}

void tn_cpu_store_yields(tn_cpu_kernel *k, const tn_ll_index *ix) {
  for (uint32_t i = 0; i < k->nyields; i++)
    tn_ll_store_at(&k->body, k->yields[i], k->outs[i], ix, tn_ll_eval(&k->body, k->yields[i], ix));
}
