/* unpack_int.c - panels of codes (ukernel_int.h) from packed weights in block formats. Every step of a block
 * is written out, so that each place in it is known. */
#include "backends/cpu/ukernel/ukernel_int.h"
#include <stdio.h>

/* Bytes without scales, as models with 8-bit activations have them, whose quads are those of a panel of
 * codes: their products may go on over long runs. */
static bool is_plain(const tn_quant *q, const tn_cpu_codes *c) {
  bool order = true;
  for (uint32_t i = 0; i < TN_CPU_STEP; i++) order &= c->order[i] == i;
  return order && tn_cpu_byte_words(q) && q->level == TN_QL_SIGNED && q->d == TN_QN_ONE && !q->sub &&
         q->values == TN_CPU_STEP && q->bytes == TN_CPU_STEP && !tn_cpu_scales_low(q);
}

bool tn_cpu_int_form_of(tn_cpu_kernel *k, const tn_quant *q, tn_dim depth, tn_cpu_int_form *f) {
  *f =
      (tn_cpu_int_form){.block = TN_CPU_INT_BLOCK, .run = tn_cpu_block_chunk(q), .low = tn_cpu_scales_low(q)};
  if (!tn_cpu_codes_of(q, &f->codes)) return false;
  if (!is_plain(q, &f->codes)) return true;
  for (uint32_t n = TN_CPU_INT_LONG_BLOCK; n > TN_CPU_INT_BLOCK; n -= 4 * TN_CPU_INT_BLOCK)
    if (tn_ll_dim_multiple(&k->body, depth, n)) {
      f->block = f->run = n;
      f->plain = true;
      break;
    }
  return true;
}

typedef struct unpack {
  tn_cpu_scales s;
  tn_cpu_int_form f;
  ll_val to, numbers; /* the step's codes; its runs' scales and lows */
} unpack;

/* Scale and low of the run that begins at value t of the step. */
static void put_run(unpack *u, uint32_t t) {
  tn_ll *e = u->s.b.e;
  int64_t base = t / u->f.run * (1 + u->f.low) * TN_CPU_PANEL * 4;
  tn_cpu_scales_enter(&u->s, t);
  for (uint32_t v = 0; v < u->s.b.per; v++) {
    ll_val scale = u->s.scale[v], at = ll_at(e, u->numbers, ll_k(e, base + (int64_t)v * e->lanes * 4));
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
/* Step i of the block of the weight that goes to `to`. */
static void go_to(unpack *u, ll_val to, uint32_t i) {
  tn_ll *e = u->s.b.e;
  u->to = ll_at(e, to, ll_k(e, (int64_t)i * tn_cpu_int_block_bytes(&u->f)));
  u->numbers = ll_at(e, u->to, ll_k(e, (int64_t)u->f.block * TN_CPU_PANEL));
}

static void write_body(tn_cpu_kernel *k, const tn_quant *q, const tn_cpu_int_form *f, const ll_val *p) {
  tn_ll *e = k->e;
  uint32_t steps = q->values / TN_CPU_STEP, per = TN_CPU_PANEL / e->lanes;
  unpack u = {.s.b = {.k = k, .e = e, .q = q, .panels = 1, .per = per, .fixed = true}, .f = *f};
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), p[BLOCKS], ll_k(e, 1), NULL, 0);
  u.s.b.group[0] = ll_at(e, p[FROM], ll_mul(e, l.iv, ll_k(e, (int64_t)q->bytes * TN_BLOCK_ROWS)));
  ll_val to = ll_at(e, p[TO], ll_mul(e, l.iv, ll_k(e, (int64_t)steps * tn_cpu_int_block_bytes(f))));
  tn_cpu_scales_read(&u.s);
  for (uint32_t i = 0; i < steps; i++) {
    u.s.b.step = ll_k(e, i);
    go_to(&u, to, i);
    put_step(&u);
  }
  ll_loop_end(e, &l, NULL);
  LLVMBuildRetVoid(e->b);
}

static ll_val function_of(tn_cpu_kernel *k, const tn_quant *q, const tn_cpu_int_form *f) {
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
  write_body(k, q, f, p);
  e->fn = outer;
  LLVMPositionBuilderAtEnd(e->b, here);
  return fn;
}

void tn_cpu_int_unpack(tn_cpu_kernel *k, tn_dtype dt, const tn_cpu_int_form *f, ll_val from, ll_val depth,
                       ll_val to) {
  tn_ll *e = k->e;
  const tn_quant *q = tn_quant_of(dt);
  ll_val fn = function_of(k, q, f), args[ARGS] = {from, to, ll_udiv(e, depth, ll_k(e, q->values))};
  LLVMBuildCall2(e->b, LLVMGlobalGetValueType(fn), fn, args, ARGS, "");
}
