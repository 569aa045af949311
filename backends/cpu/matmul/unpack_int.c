/* unpack_int.c - panels of codes (ukernel_int.h) from packed weights in block formats. Every step of a block
 * is written out, so that each place in it is known. */
#include "backends/cpu/ukernel/ukernel_int.h"
#include <stdio.h>

bool tn_cpu_int_form_of(const tn_quant *q, tn_cpu_int_form *f) {
  *f = (tn_cpu_int_form){.run = tn_cpu_block_chunk(q), .low = tn_cpu_scales_low(q)};
  return tn_cpu_codes_of(q, &f->codes);
}

typedef struct unpack {
  tn_cpu_scales s;
  tn_cpu_int_form f;
  ll_val to; /* the step's */
} unpack;

/* Scale and low of the run that begins at value t of the step. */
static void put_run(unpack *u, uint32_t t) {
  tn_ll *e = u->s.b.e;
  int64_t wide = (1 + u->f.low) * TN_CPU_PANEL * 4,
          base = TN_CPU_INT_BLOCK * TN_CPU_PANEL + t / u->f.run * wide;
  tn_cpu_scales_enter(&u->s, t);
  for (uint32_t v = 0; v < u->s.b.per; v++) {
    ll_val scale = u->s.scale[v], at = ll_at(e, u->to, ll_k(e, base + (int64_t)v * e->lanes * 4));
    if (u->f.codes.unit != 1) scale = ll_fmul(e, scale, ll_f(e, scale, 1 / (double)u->f.codes.unit));
    ll_store(e, scale, at, e->lanes * 4);
    if (u->f.low) ll_store(e, u->s.low[v], ll_at(e, at, ll_k(e, TN_CPU_PANEL * 4)), e->lanes * 4);
  }
}

static void put_step(unpack *u) {
  tn_ll *e = u->s.b.e;
  tn_cpu_level_forget(&u->s.b);
  for (uint32_t t = 0; t < TN_CPU_STEP; t += u->f.run) put_run(u, t);
  for (uint32_t t = 0; t < TN_CPU_STEP; t += 4)
    for (uint32_t v = 0; v < u->s.b.per; v++) {
      tn_cpu_lanes l = {&u->s.b, 0, v};
      int64_t at = (int64_t)t * TN_CPU_PANEL + (int64_t)v * e->lanes * 4;
      ll_store(e, tn_cpu_codes_vector(&l, &u->f.codes, t / 4), ll_at(e, u->to, ll_k(e, at)), e->lanes * 4);
    }
}

enum { FROM, TO, BLOCKS, ARGS };
static void write_body(tn_cpu_kernel *k, const tn_quant *q, const ll_val *p) {
  tn_ll *e = k->e;
  uint32_t steps = q->values / TN_CPU_STEP, per = TN_CPU_PANEL / e->lanes;
  unpack u = {.s.b = {.k = k, .e = e, .q = q, .panels = 1, .per = per, .fixed = true}};
  tn_cpu_int_form_of(q, &u.f);
  int64_t size = tn_cpu_int_step_bytes(&u.f);
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), p[BLOCKS], ll_k(e, 1), NULL, 0);
  u.s.b.group[0] = ll_at(e, p[FROM], ll_mul(e, l.iv, ll_k(e, (int64_t)q->bytes * TN_BLOCK_ROWS)));
  ll_val to = ll_at(e, p[TO], ll_mul(e, l.iv, ll_k(e, steps * size)));
  tn_cpu_scales_read(&u.s);
  for (uint32_t i = 0; i < steps; i++) {
    u.s.b.step = ll_k(e, i);
    u.to = ll_at(e, to, ll_k(e, i * size));
    put_step(&u);
  }
  ll_loop_end(e, &l, NULL);
  LLVMBuildRetVoid(e->b);
}

static ll_val function_of(tn_cpu_kernel *k, const tn_quant *q) {
  tn_ll *e = k->e;
  char name[64];
  snprintf(name, sizeof name, "codes_%s", q->name);
  ll_val fn = LLVMGetNamedFunction(e->mod, name), outer = e->fn, p[ARGS];
  if (fn) return fn;
  LLVMBasicBlockRef here = LLVMGetInsertBlock(e->b);
  ll_type args[ARGS] = {e->ptr, e->ptr, e->i64};
  fn = ll_func(e, name, e->tvoid, args, ARGS, true, true);
  ll_func_attr(e, fn, "prefer-vector-width", k->u->isa->vector_width);
  LLVMGetParams(fn, p);
  write_body(k, q, p);
  e->fn = outer;
  LLVMPositionBuilderAtEnd(e->b, here);
  return fn;
}

void tn_cpu_int_unpack(tn_cpu_kernel *k, tn_dtype dt, ll_val from, ll_val depth, ll_val to) {
  tn_ll *e = k->e;
  const tn_quant *q = tn_quant_of(dt);
  ll_val fn = function_of(k, q), args[ARGS] = {from, to, ll_udiv(e, depth, ll_k(e, q->values))};
  LLVMBuildCall2(e->b, LLVMGlobalGetValueType(fn), fn, args, ARGS, "");
}
