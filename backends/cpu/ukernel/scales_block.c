/* scales_block.c - scales and lows of the blocks of a packed weight, 16 rows at a time: of a whole block
 * where its steps are written out, else made once per block and kept in memory while the steps are a loop. */
#include "backends/cpu/ukernel/ukernel_block.h"

uint32_t tn_cpu_block_chunk(const tn_quant *q) {
  uint32_t run = tn_block_run(q);
  return run < TN_CPU_STEP ? run : TN_CPU_STEP;
}
bool tn_cpu_block_fixed(const tn_quant *q) {
  return q->values <= TN_CPU_BLOCK_WHOLE || !tn_cpu_block_loops(q);
}

bool tn_cpu_scales_low(const tn_quant *q) { return q->m_sign || q->zero_bits; }
static bool has_runs(const tn_quant *q) { return q->sub && q->sub < q->values; }

tn_cpu_lanes tn_cpu_scales_lanes(tn_cpu_scales *s, uint32_t i) {
  return (tn_cpu_lanes){&s->b, i / s->b.per, i % s->b.per};
}

/* Run j (i32) of vector i. */
static void make_run(tn_cpu_scales *s, uint32_t i, ll_val j, ll_val *scale, ll_val *low) {
  tn_ll *e = s->b.e;
  const tn_quant *q = s->b.q;
  tn_cpu_lanes l = tn_cpu_scales_lanes(s, i);
  tn_block_reader r = tn_cpu_lanes_reader(&l);
  *scale = tn_block_scale(&r, s->d[i], j);
  *low = q->m_sign ? tn_block_minimum(&r, s->m[i], j) : NULL;
  if (*low && q->m_sign < 0) *low = ll_neg(e, *low);
  ll_val zero = tn_block_zero(&r, j);
  if (!zero) return;
  ll_val z = ll_fmul(e, LLVMBuildSIToFP(e->b, zero, LLVMTypeOf(*scale), ""), *scale);
  *low = *low ? ll_fsub(e, *low, z) : ll_neg(e, z);
}

static ll_val kept_at(tn_cpu_scales *s, ll_val run, uint32_t i, bool low) {
  tn_ll *e = s->b.e;
  int64_t row = (int64_t)tn_cpu_scales_vectors(s) * 2 * e->lanes * 4;
  return ll_at(e, s->kept,
               ll_iadd(e, ll_imul(e, run, ll_k(e, row)), ll_k(e, ((int64_t)i * 2 + low) * e->lanes * 4)));
}

void tn_cpu_scales_read(tn_cpu_scales *s) {
  tn_ll *e = s->b.e;
  const tn_quant *q = s->b.q;
  s->run_of = UINT32_MAX;
  for (uint32_t i = 0; i < tn_cpu_scales_vectors(s); i++) {
    tn_cpu_lanes l = tn_cpu_scales_lanes(s, i);
    tn_block_reader r = tn_cpu_lanes_reader(&l);
    s->d[i] = tn_block_number(&r, q->d, q->d_at);
    if (q->m_sign) s->m[i] = tn_block_number(&r, q->m, q->m_at);
    if (!has_runs(q)) make_run(s, i, LLVMConstInt(e->i32, 0, 0), &s->scale[i], &s->low[i]);
    for (uint32_t j = 0; s->kept && j < q->values / q->sub; j++) {
      ll_val scale, low;
      make_run(s, i, LLVMConstInt(e->i32, j, 0), &scale, &low);
      ll_store(e, scale, kept_at(s, ll_k(e, j), i, false), 4 * e->lanes);
      if (low) ll_store(e, low, kept_at(s, ll_k(e, j), i, true), 4 * e->lanes);
    }
  }
}

void tn_cpu_scales_enter(tn_cpu_scales *s, uint32_t t) {
  tn_ll *e = s->b.e;
  const tn_quant *q = s->b.q;
  int64_t step;
  if (!has_runs(q)) return;
  if (ll_const(s->b.step, &step)) {
    uint32_t run = ((uint32_t)step * TN_CPU_STEP + t) / q->sub;
    if (s->run_of == run) return;
    s->run_of = run;
    for (uint32_t i = 0; i < tn_cpu_scales_vectors(s); i++)
      make_run(s, i, LLVMConstInt(e->i32, run, 0), &s->scale[i], &s->low[i]);
    return;
  }
  ll_val at = ll_iadd(e, ll_mul(e, s->b.step, ll_k(e, TN_CPU_STEP)), ll_k(e, t));
  ll_val run = ll_udiv(e, at, ll_k(e, q->sub));
  ll_type f = ll_vec(e, e->f32);
  for (uint32_t i = 0; i < tn_cpu_scales_vectors(s); i++) {
    s->scale[i] = ll_load(e, f, kept_at(s, run, i, false), 4 * e->lanes);
    s->low[i] = tn_cpu_scales_low(q) ? ll_load(e, f, kept_at(s, run, i, true), 4 * e->lanes) : NULL;
  }
}

void tn_cpu_scales_init(tn_cpu_scales *s, tn_cpu_kernel *k, tn_dtype dt, uint32_t panels) {
  const tn_quant *q = tn_quant_of(dt);
  *s = (tn_cpu_scales){.b = {.k = k, .e = k->e, .q = q, .panels = panels, .per = TN_CPU_PANEL / k->e->lanes}};
  s->b.fixed = tn_cpu_block_fixed(q);
  if (tn_cpu_scales_vectors(s) > TN_CPU_BLOCK_VECTORS)
    tn_ll_fail(k->e, "%u panels of a block format at once, at most %u vectors", panels, TN_CPU_BLOCK_VECTORS);
  if (!s->b.fixed && has_runs(q))
    s->kept =
        ll_alloca(k->e, (uint64_t)(q->values / q->sub) * tn_cpu_scales_vectors(s) * 2 * k->e->lanes * 4);
}
