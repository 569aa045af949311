/* stream_few.c - writes the micro-kernels of few rows of floats: panels are read in bursts of a few lines
 * each, far ahead of which the lines are fetched. An element is one chain of multiply-adds in the order of k,
 * as in the ordinary micro-kernel. */
#include "backends/cpu/ukernel/ukernel_few.h"
#include "backends/llvm/convert.h"

#define BURST 256        /* bytes of a panel that are read in a row */
#define AHEAD_BYTES 3072 /* what is fetched, before what is read */

typedef struct stream {
  tn_ll *e;
  tn_dtype dt;
  bool dot;
  uint32_t rows, panels, per, cells; /* per: vectors of a panel */
  uint32_t bytes, deep;              /* of one load per column; values of k in it */
  uint32_t ahead;                    /* bytes to what is fetched */
  const ll_val *p;
  ll_val panel[8], y[TN_CPU_STREAM_CELLS];
} stream;

/* Value i (< deep) of row m at step `at` (+ s), in every lane; of bf16 rows, the pair. */
static ll_val row_value(stream *z, uint32_t m, ll_val at, uint32_t s, uint32_t i) {
  tn_ll *e = z->e;
  int64_t width = z->dot ? 4 : 4 * (int64_t)z->deep;
  ll_val row = ll_at(e, z->p[TN_UKR_A], ll_imul(e, z->p[TN_UKR_A_STRIDE], ll_k(e, m)));
  row = ll_at(e, row, ll_mul(e, at, ll_k(e, width)));
  return ll_splat(e, ll_load(e, z->dot ? e->i32 : e->f32, ll_at(e, row, ll_k(e, s * width + i * 4)), 4));
}

/* Value i of 16 / per columns, from the bits of a load. */
static ll_val weight(stream *z, ll_val x, uint32_t i) {
  tn_ll *e = z->e;
  if (z->dt != TN_DT_bf16) return tn_ll_to_compute(e, z->dt, x);
  if (z->dot) return x;
  ll_val bits = i ? ll_and(e, x, ll_i(e, x, -65536)) : ll_shl(e, x, ll_i(e, x, 16));
  return ll_cast_bits(e, bits, ll_vec(e, e->f32));
}
static ll_val multiply(stream *z, ll_val w, ll_val a, ll_val sum) {
  tn_ll *e = z->e;
  if (!z->dot) return ll_fma(e, w, a, sum);
  ll_type pairs = LLVMVectorType(LLVMBFloatTypeInContext(e->ctx), 2 * e->lanes);
  ll_val args[] = {sum, ll_cast_bits(e, w, pairs), ll_cast_bits(e, a, pairs)};
  return ll_call(e, "llvm.x86.avx512bf16.dpbf16ps.512", NULL, 0, args, 3);
}

/* Step at + s of panel j. */
static void write_step(stream *z, uint32_t j, ll_val at, uint32_t s) {
  tn_ll *e = z->e;
  ll_type t = ll_vec(e, z->dt == TN_DT_bf16 ? e->i32 : tn_ll_memory_type(e, z->dt));
  ll_val base = ll_at(e, z->panel[j], ll_mul(e, at, ll_k(e, (int64_t)z->bytes * TN_CPU_PANEL)));
  for (uint32_t v = 0; v < z->per; v++) {
    int64_t off = ((int64_t)s * TN_CPU_PANEL + (int64_t)v * e->lanes) * z->bytes;
    ll_val x = ll_load(e, t, ll_at(e, base, ll_k(e, off)), z->bytes);
    for (uint32_t i = 0; i < (z->dot ? 1 : z->deep); i++) {
      ll_val w = weight(z, x, i);
      for (uint32_t m = 0; m < z->rows; m++) {
        ll_val *y = &z->y[(m * z->panels + j) * z->per + v];
        *y = multiply(z, w, row_value(z, m, at, s, i), *y);
      }
    }
  }
}

/* Steps at .. at + count of every panel; `fetch`: to what is fetched. */
static void write_burst(stream *z, ll_val at, uint32_t count, ll_val fetch) {
  tn_ll *e = z->e;
  ll_val off = ll_mul(e, at, ll_k(e, (int64_t)z->bytes * TN_CPU_PANEL));
  for (uint32_t j = 0; j < z->panels; j++) {
    for (uint32_t line = 0; fetch && line < BURST; line += 64)
      ll_prefetch(e, ll_at(e, ll_at(e, z->panel[j], off), ll_iadd(e, fetch, ll_k(e, line))), 3);
    for (uint32_t s = 0; s < count; s++) write_step(z, j, at, s);
  }
}

/* Bytes from `off` in every panel to what is to be fetched: behind the panel's end, in the next call's. */
static ll_val ahead_of(stream *z, ll_val off) {
  tn_ll *e = z->e;
  ll_val pairs = ll_icmp(e, LLVMIntNE, z->p[TN_UKR_PAIR], ll_k(e, 0)), by = ll_k(e, z->ahead);
  ll_val others = ll_select(e, pairs, ll_k(e, (z->panels + 1) / 2 - 1), ll_k(e, z->panels - 1));
  ll_val next = ll_add(e, ll_mul(e, z->p[TN_UKR_PANEL_STRIDE], others), by);
  return ll_select(e, ll_icmp(e, LLVMIntSLT, ll_add(e, off, by), z->p[TN_UKR_PANEL_STRIDE]), by, next);
}

static void write_steps(stream *z, ll_val lo, ll_val hi, uint32_t count, bool fetch) {
  tn_ll *e = z->e;
  ll_loop l;
  ll_loop_begin(e, &l, lo, hi, ll_k(e, count), z->y, z->cells);
  memcpy(z->y, l.phi, z->cells * sizeof *z->y);
  ll_val off = ll_mul(e, l.iv, ll_k(e, (int64_t)z->bytes * TN_CPU_PANEL));
  write_burst(z, l.iv, count, fetch ? ahead_of(z, off) : NULL);
  ll_loop_end(e, &l, z->y);
  memcpy(z->y, l.out, z->cells * sizeof *z->y);
}

void tn_cpu_stream_ukr(tn_cpu_kernel *k, tn_dtype dt, bool dot, tn_cpu_few_shape shape, const ll_val *p) {
  tn_ll *e = k->e;
  bool pairs = dt == TN_DT_bf16;
  stream z = {.e = e,
              .dt = dt,
              .dot = dot,
              .rows = shape.rows,
              .panels = shape.panels,
              .p = p,
              .ahead = tn_cpu_few_ahead(k, AHEAD_BYTES)};
  z.per = TN_CPU_PANEL / e->lanes;
  z.cells = z.rows * z.panels * z.per;
  z.bytes = pairs ? 4 : tn_ll_dtype_of(dt).bytes;
  z.deep = pairs ? 2 : 1;
  tn_cpu_ukr_panels(e, p, z.panels, z.panel);
  for (uint32_t c = 0; c < z.cells; c++) z.y[c] = ll_zero(ll_vec(e, e->f32));
  uint32_t burst = BURST / (z.bytes * TN_CPU_PANEL);
  ll_val steps = ll_udiv(e, p[TN_UKR_DEPTH], ll_k(e, z.deep));
  ll_val whole = ll_and(e, steps, ll_k(e, -(int64_t)burst));
  write_steps(&z, ll_k(e, 0), whole, burst, true);
  write_steps(&z, whole, steps, 1, false);
  for (uint32_t c = 0, n = z.panels * z.per; c < z.cells; c++) {
    ll_val row = ll_at(e, p[TN_UKR_C], ll_imul(e, p[TN_UKR_C_STRIDE], ll_k(e, c / n)));
    ll_store(e, z.y[c], ll_at(e, row, ll_k(e, (int64_t)(c % n) * e->lanes * 4)), 4);
  }
}
