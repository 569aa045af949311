/* ukernel_block.c - products with packed block formats. Few rows: the weight passes by once, its codes become
 * floats in registers, one product per sum of a run and one more by the run's scale. Many rows: panels are
 * rebuilt as f32 panels for the ordinary micro-kernel.
 *
 * Biases, minima and stored zeros are the same for all values of a run, so they multiply the sum of A's
 * values, which a prepared row carries. */
#include "backends/cpu/ukernel/ukernel_block.h"
#include "backends/llvm/convert.h"
#include <stdio.h>

#define AHEAD_BYTES 3072 /* fetched so far ahead in every panel; behind its end, in the next group's */

static const tn_quant *quant(tn_dtype dt) { return tn_quant_of(dt); }

bool tn_cpu_block_handled(tn_dtype dt) {
  const tn_quant *q = quant(dt);
  return q && q->values % TN_CPU_STEP == 0 && TN_CPU_STEP % tn_cpu_block_chunk(q) == 0 &&
         tn_block_run(q) % tn_cpu_block_chunk(q) == 0;
}
/* Written out at length, a format gets one panel at a time. */
uint32_t tn_cpu_block_panels(const tn_cpu_isa *isa, tn_dtype dt) {
  const tn_quant *q = quant(dt);
  return tn_cpu_block_fixed(q) && q->values > TN_CPU_BLOCK_WHOLE ? 1 : isa->block_panels;
}

ll_val tn_cpu_panel_bytes(tn_cpu_kernel *k, tn_dtype dt, ll_val depth) {
  tn_ll *e = k->e;
  const tn_quant *q = quant(dt);
  if (dt == TN_DT_bf16) depth = ll_and(e, ll_iadd(e, depth, ll_k(e, 1)), ll_k(e, -2)); /* pairs of k */
  if (!q) return ll_imul(e, depth, ll_k(e, (int64_t)TN_CPU_PANEL * tn_ll_dtype_of(dt).bytes));
  return ll_imul(e, ll_udiv(e, depth, ll_k(e, q->values)), ll_k(e, (int64_t)TN_CPU_PANEL * q->bytes));
}

/* ---- prepared rows ---- */
ll_val tn_cpu_block_row_bytes(tn_cpu_kernel *k, tn_dtype dt, ll_val depth) {
  tn_ll *e = k->e;
  ll_val sums = ll_udiv(e, depth, ll_k(e, tn_cpu_block_chunk(quant(dt))));
  ll_val n = ll_imul(e, ll_iadd(e, depth, sums), ll_k(e, 4));
  return ll_iadd(e, ll_and(e, n, ll_k(e, -64)), ll_k(e, 128)); /* whole lines, and off the page's size */
}

void tn_cpu_block_prepare(tn_cpu_kernel *k, tn_dtype dt, ll_val depth, ll_val to, tn_cpu_row_fn get,
                          void *ctx) {
  tn_ll *e = k->e;
  const tn_quant *q = quant(dt);
  uint32_t chunk = tn_cpu_block_chunk(q);
  ll_loop l;
  ll_val sums = ll_at(e, to, ll_imul(e, depth, ll_k(e, 4)));
  ll_loop_begin(e, &l, ll_k(e, 0), depth, ll_k(e, TN_CPU_STEP), NULL, 0);
  tn_ll_body_forget(&k->body);
  for (uint32_t c = 0; c < TN_CPU_STEP; c += chunk) {
    ll_val sum = NULL;
    for (uint32_t t = c; t < c + chunk; t += e->lanes) {
      ll_val at = ll_iadd(e, l.iv, ll_k(e, t)), x = get(k, ctx, tn_ll_ix_lanes(at, true)), scale[16];
      sum = sum ? ll_fadd(e, sum, x) : x;
      for (uint32_t i = 0; i < e->lanes; i++)
        scale[i] = LLVMConstReal(e->f32, 1 / (double)(1u << tn_cpu_level_shift(q, t + i)));
      ll_store(e, ll_fmul(e, x, LLVMConstVector(scale, e->lanes)), ll_at(e, to, ll_mul(e, at, ll_k(e, 4))),
               4);
    }
    ll_val at = ll_udiv(e, ll_iadd(e, l.iv, ll_k(e, c)), ll_k(e, chunk));
    ll_store(e, ll_reduce_fadd(e, sum), ll_at(e, sums, ll_mul(e, at, ll_k(e, 4))), 4);
  }
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&k->body);
}

/* ---- few rows ---- */
#define MAX_CELLS 32
typedef struct stream {
  tn_cpu_scales s;
  uint32_t rows, cells, ways; /* cells: rows * vectors; ways: partial sums of each */
  ll_val ahead;               /* bytes from what is read to what is fetched */
  ll_val x[8], sums[8];       /* per row of A: prepared values and sums from the step on */
  ll_val y[MAX_CELLS];
} stream;

/* Values [t, t + chunk) of the step. */
static void stream_chunk(stream *z, uint32_t first) {
  tn_ll *e = z->s.b.e;
  const tn_quant *q = z->s.b.q;
  uint32_t chunk = tn_cpu_block_chunk(q), order[TN_CPU_STEP], bias = tn_cpu_level_bias(q),
           n = tn_cpu_scales_vectors(&z->s);
  ll_val acc[2][MAX_CELLS], sum[8] = {0};
  for (uint32_t m = 0; m < z->rows && (bias || tn_cpu_scales_low(q)); m++) {
    ll_val at = ll_at(e, z->sums[m], ll_k(e, (int64_t)first / chunk * 4));
    sum[m] = ll_splat(e, ll_load(e, e->f32, at, 4));
  }
  for (uint32_t c = 0; c < z->cells; c++) {
    ll_val zero = ll_zero(ll_vec(e, e->f32));
    acc[1][c] = zero;
    acc[0][c] = bias ? ll_fmul(e, sum[c / n], ll_f(e, zero, -(double)bias)) : zero;
  }
  tn_cpu_level_order(q, first, chunk, order);
  for (uint32_t i = 0; i < chunk; i++) {
    uint32_t t = order[i], way = i % z->ways;
    ll_val x[8];
    for (uint32_t m = 0; m < z->rows; m++)
      x[m] = ll_splat(e, ll_load(e, e->f32, ll_at(e, z->x[m], ll_k(e, 4 * (int64_t)t)), 4));
    for (uint32_t v = 0; v < n; v++) {
      tn_cpu_lanes l = tn_cpu_scales_lanes(&z->s, v);
      ll_val level = tn_cpu_level(&l, t);
      for (uint32_t m = 0; m < z->rows; m++)
        acc[way][m * n + v] = ll_fma(e, level, x[m], acc[way][m * n + v]);
    }
  }
  tn_cpu_scales_enter(&z->s, first);
  for (uint32_t c = 0; c < z->cells; c++) {
    uint32_t v = c % n;
    ll_val a = z->ways > 1 ? ll_fadd(e, acc[0][c], acc[1][c]) : acc[0][c];
    z->y[c] = ll_fma(e, a, z->s.scale[v], z->y[c]);
    if (z->s.low[v]) z->y[c] = ll_fma(e, z->s.low[v], sum[c / n], z->y[c]);
  }
}

static void fetch_ahead(stream *z) {
  tn_ll *e = z->s.b.e;
  const tn_quant *q = z->s.b.q;
  int64_t part = (int64_t)q->bytes * TN_BLOCK_ROWS * TN_CPU_STEP / q->values;
  for (uint32_t p = 0; p < z->s.b.panels; p++)
    for (int64_t line = 0; line < part; line += 64) {
      ll_val off = ll_iadd(e, ll_imul(e, z->s.b.step, ll_k(e, part)), ll_k(e, line));
      ll_prefetch(e, ll_at(e, z->s.b.group[p], ll_iadd(e, off, z->ahead)), 3);
    }
}

/* Step `step` of the block whose prepared rows are at x0 and sums at s0. */
static void stream_step(stream *z, ll_val step, const ll_val *x0, const ll_val *s0) {
  tn_ll *e = z->s.b.e;
  const tn_quant *q = z->s.b.q;
  z->s.b.step = step;
  tn_cpu_level_forget(&z->s.b);
  for (uint32_t m = 0; m < z->rows; m++) {
    z->x[m] = ll_at(e, x0[m], ll_imul(e, step, ll_k(e, 4 * TN_CPU_STEP)));
    z->sums[m] = ll_at(e, s0[m], ll_imul(e, step, ll_k(e, 4 * TN_CPU_STEP / tn_cpu_block_chunk(q))));
  }
  fetch_ahead(z);
  for (uint32_t t = 0; t < TN_CPU_STEP; t += tn_cpu_block_chunk(q)) stream_chunk(z, t);
}

static void stream_block(stream *z, const ll_val *x0, const ll_val *s0) {
  tn_ll *e = z->s.b.e;
  uint32_t steps = z->s.b.q->values / TN_CPU_STEP;
  tn_cpu_scales_read(&z->s);
  for (uint32_t i = 0; z->s.b.fixed && i < steps; i++) stream_step(z, ll_k(e, i), x0, s0);
  if (z->s.b.fixed) return;
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), ll_k(e, steps), ll_k(e, 1), z->y, z->cells);
  memcpy(z->y, l.phi, z->cells * sizeof *z->y);
  stream_step(z, l.iv, x0, s0);
  ll_loop_end(e, &l, z->y);
  memcpy(z->y, l.out, z->cells * sizeof *z->y);
}

static void stream_store(stream *z, ll_val c, ll_val stride) {
  tn_ll *e = z->s.b.e;
  uint32_t n = tn_cpu_scales_vectors(&z->s);
  for (uint32_t i = 0; i < z->cells; i++) {
    ll_val row = ll_at(e, c, ll_imul(e, stride, ll_k(e, i / n)));
    ll_store(e, z->y[i], ll_at(e, row, ll_k(e, (int64_t)(i % n) * e->lanes * 4)), 4);
  }
}

/* Writes the body of a micro-kernel function whose parameters are p. */
void tn_cpu_block_ukr(tn_cpu_kernel *k, tn_dtype dt, uint32_t rows, uint32_t panels, const ll_val *p) {
  tn_ll *e = k->e;
  const tn_quant *q = quant(dt);
  stream *z = tn_mem_alloc(sizeof *z);
  if (!z) {
    tn_ll_fail(e, "out of memory");
    return;
  }
  tn_cpu_scales_init(&z->s, k, dt, panels);
  z->rows = rows;
  z->cells = rows * tn_cpu_scales_vectors(&z->s);
  z->ways = z->cells <= 4 ? 2 : 1;
  ll_val panel[8], a[8], s[8];
  tn_cpu_ukr_panels(e, p, panels, panel);
  for (uint32_t c = 0; c < z->cells; c++) z->y[c] = ll_zero(ll_vec(e, e->f32));
  ll_loop l;
  ll_val blocks = ll_udiv(e, p[TN_UKR_DEPTH], ll_k(e, q->values));
  ll_loop_begin(e, &l, ll_k(e, 0), blocks, ll_k(e, 1), z->y, z->cells);
  memcpy(z->y, l.phi, z->cells * sizeof *z->y);
  ll_val at = ll_mul(e, l.iv, ll_k(e, (int64_t)q->bytes * TN_BLOCK_ROWS)), ahead = ll_k(e, AHEAD_BYTES);
  ll_val next = ll_add(e, ll_mul(e, p[TN_UKR_PANEL_STRIDE], ll_k(e, panels - 1)), ahead);
  ll_val inside = ll_icmp(e, LLVMIntSLT, ll_add(e, at, ahead), p[TN_UKR_PANEL_STRIDE]);
  z->ahead = ll_select(e, inside, ahead, next);
  for (uint32_t j = 0; j < panels; j++) z->s.b.group[j] = ll_at(e, panel[j], at);
  for (uint32_t m = 0; m < rows; m++) {
    ll_val row = ll_at(e, p[TN_UKR_A], ll_imul(e, p[TN_UKR_A_STRIDE], ll_k(e, m)));
    ll_val sums = ll_at(e, row, ll_mul(e, p[TN_UKR_DEPTH], ll_k(e, 4)));
    a[m] = ll_at(e, row, ll_mul(e, l.iv, ll_k(e, 4 * (int64_t)q->values)));
    s[m] = ll_at(e, sums, ll_mul(e, l.iv, ll_k(e, 4 * (int64_t)(q->values / tn_cpu_block_chunk(q)))));
  }
  stream_block(z, a, s);
  ll_loop_end(e, &l, z->y);
  memcpy(z->y, l.out, z->cells * sizeof *z->y);
  stream_store(z, p[TN_UKR_C], p[TN_UKR_C_STRIDE]);
  tn_mem_free(z);
}

/* ---- many rows: panels as f32, or as pairs of bf16 ---- */
typedef struct unpack {
  tn_cpu_scales s;
  bool pairs;
  ll_val even[TN_CPU_STEP / 2][TN_CPU_BLOCK_VECTORS]; /* of a pair, what came first */
} unpack;

/* Value t of the step, vector v of its rows. In a pair the lower k is in the low halves. */
static void put_value(unpack *u, uint32_t t, uint32_t v, ll_val x, ll_val to) {
  tn_ll *e = u->s.b.e;
  int64_t line = TN_CPU_PANEL * 4, at = (int64_t)v * e->lanes * 4;
  if (!u->pairs) {
    ll_store(e, x, ll_at(e, to, ll_k(e, t * line + at)), 4);
    return;
  }
  ll_val *other = &u->even[t / 2][v];
  x = LLVMBuildZExt(e->b, tn_ll_round_bf16(e, x), ll_vec(e, e->i32), "");
  if (t % 2) x = ll_shl(e, x, ll_i(e, x, 16));
  if (*other) ll_store(e, ll_or(e, *other, x), ll_at(e, to, ll_k(e, t / 2 * line + at)), 4);
  *other = *other ? NULL : x;
}

/* Step `step` of a block at `to`. */
static void unpack_step(unpack *u, ll_val step, ll_val to) {
  tn_cpu_scales *s = &u->s;
  tn_ll *e = s->b.e;
  const tn_quant *q = s->b.q;
  uint32_t order[TN_CPU_STEP], bias = tn_cpu_level_bias(q), chunk = tn_cpu_block_chunk(q);
  s->b.step = step;
  tn_cpu_level_forget(&s->b);
  for (uint32_t first = 0; first < TN_CPU_STEP; first += chunk) {
    tn_cpu_scales_enter(s, first);
    tn_cpu_level_order(q, first, chunk, order);
    for (uint32_t i = 0; i < chunk; i++)
      for (uint32_t v = 0; v < tn_cpu_scales_vectors(s); v++) {
        tn_cpu_lanes l = tn_cpu_scales_lanes(s, v);
        ll_val x = tn_cpu_level(&l, order[i]), low = s->low[v];
        ll_val scale = s->scale[v], less = bias ? ll_fmul(e, scale, ll_f(e, scale, -(double)bias)) : NULL;
        uint32_t shift = tn_cpu_level_shift(q, order[i]);
        if (less) low = low ? ll_fadd(e, low, less) : less;
        if (shift) scale = ll_fmul(e, scale, ll_f(e, scale, 1 / (double)(1u << shift)));
        x = low ? ll_fma(e, x, scale, low) : ll_fmul(e, x, scale);
        put_value(u, order[i], v, x, to);
      }
  }
}

static void unpack_block(unpack *u, ll_val to) {
  tn_cpu_scales *s = &u->s;
  tn_ll *e = s->b.e;
  uint32_t steps = s->b.q->values / TN_CPU_STEP, size = TN_CPU_STEP * TN_CPU_PANEL * (u->pairs ? 2 : 4);
  tn_cpu_scales_read(s);
  for (uint32_t i = 0; s->b.fixed && i < steps; i++)
    unpack_step(u, ll_k(e, i), ll_at(e, to, ll_k(e, (int64_t)i * size)));
  if (s->b.fixed) return;
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), ll_k(e, steps), ll_k(e, 1), NULL, 0);
  unpack_step(u, l.iv, ll_at(e, to, ll_mul(e, l.iv, ll_k(e, size))));
  ll_loop_end(e, &l, NULL);
}

enum { FROM, TO, BLOCKS, UNPACK_ARGS };
static ll_val write_unpack(tn_cpu_kernel *k, tn_dtype dt, uint32_t rows, uint32_t panels, uint32_t flags) {
  tn_ll *e = k->e;
  const tn_quant *q = quant(dt);
  char name[64];
  (void)rows, (void)panels;
  bool pairs = flags & TN_UKR_DOT;
  snprintf(name, sizeof name, "unpack_%s%s", pairs ? "bf16_" : "", q->name);
  ll_type args[UNPACK_ARGS] = {e->ptr, e->ptr, e->i64};
  ll_val fn = ll_func(e, name, e->tvoid, args, UNPACK_ARGS, true, true);
  ll_func_attr(e, fn, "prefer-vector-width", k->u->isa->vector_width);
  unpack *u = tn_mem_alloc(sizeof *u);
  if (!u) {
    tn_ll_fail(e, "out of memory");
    return fn;
  }
  memset(u->even, 0, sizeof u->even);
  u->pairs = pairs;
  tn_cpu_scales_init(&u->s, k, dt, 1);
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), LLVMGetParam(fn, BLOCKS), ll_k(e, 1), NULL, 0);
  ll_val group = ll_mul(e, l.iv, ll_k(e, (int64_t)q->bytes * TN_BLOCK_ROWS));
  u->s.b.group[0] = ll_at(e, LLVMGetParam(fn, FROM), group);
  ll_val to = ll_mul(e, l.iv, ll_k(e, (int64_t)q->values * TN_CPU_PANEL * (pairs ? 2 : 4)));
  unpack_block(u, ll_at(e, LLVMGetParam(fn, TO), to));
  ll_loop_end(e, &l, NULL);
  LLVMBuildRetVoid(e->b);
  tn_mem_free(u);
  return fn;
}

void tn_cpu_block_unpack(tn_cpu_kernel *k, tn_dtype dt, ll_val from, ll_val depth, bool pairs, ll_val to) {
  tn_ll *e = k->e;
  ll_val fn = tn_cpu_ukr_of(k, dt, 0, 1, pairs ? TN_UKR_DOT : 0, write_unpack);
  ll_val args[UNPACK_ARGS] = {from, to, ll_udiv(e, depth, ll_k(e, quant(dt)->values))};
  LLVMBuildCall2(e->b, LLVMGlobalGetValueType(fn), fn, args, UNPACK_ARGS, "");
}
