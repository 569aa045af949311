/* ukernel_few.c - writes the integer micro-kernels of few rows, and calls those of floats. A run's sums start
 * from -bias times the sum of the row's values and grow by four products a lane; then they are added to float
 * sums, times both scales.
 *
 * Without VNNI, vpmaddubsw gives sums of two products in 16 bits: as many of them are added there as cannot
 * overflow. Codes of 8 bits would overflow at once; they swap signs with the row's values first. */
#include "backends/cpu/ukernel/ukernel_few.h"
#include "backends/cpu/ukernel/codes_block.h"
#include <stdio.h>

#define AHEAD_BYTES 6144 /* what is fetched, before what is read: more than a block */
#define LARGEST 127      /* magnitude of a row's value */
#define MAX_CELLS 16

typedef struct few {
  tn_cpu_scales s;
  tn_cpu_codes codes;
  tn_cpu_int_rows row;
  uint32_t rows, cells, ahead; /* cells: rows * vectors; ahead: bytes to what is fetched */
  bool vnni;
  ll_val a[8]; /* per row: its beginning */
  ll_val at;   /* the step's first value */
  ll_val y[MAX_CELLS], acc[MAX_CELLS], narrow[MAX_CELLS];
} few;

static bool wide(const tn_cpu_codes *c) { return c->max > INT8_MAX; }

bool tn_cpu_few_handled(const tn_cpu_unit *u, tn_dtype dt) {
  const tn_quant *q = tn_quant_of(dt);
  tn_cpu_codes c;
  if (!q) return true;
  return u->precision == TN_CPU_FAST && tn_cpu_block_handled(dt) && tn_cpu_codes_of(q, &c);
}

tn_cpu_few_shape tn_cpu_few_shape_of(const tn_cpu_kernel *k, tn_dtype dt) {
  const tn_cpu_isa *isa = k->u->isa;
  bool quant = tn_quant_of(dt);
  tn_cpu_few_shape s = {isa->stream_rows, 2};
  if (quant) s = (tn_cpu_few_shape){isa->block_rows, 4};
  if (k->choice.panels) s.panels = k->choice.panels;
  /* An even number, so that halves stay halves of a pair. */
  while (!quant && s.panels > 2 && s.rows * s.panels * TN_CPU_PANEL / isa->lanes > TN_CPU_STREAM_CELLS)
    s.panels = s.panels / 2 & ~1u;
  return s;
}

/* ---- prepared rows ---- */
/* What sums start from, times the sum of the row's values: wide codes without VNNI are made signed. */
static int32_t correction(const tn_cpu_isa *isa, const tn_cpu_codes *c) {
  return !isa->vnni && wide(c) ? 128 - c->bias : -c->bias;
}
static tn_cpu_int_rows layout_of(tn_cpu_kernel *k, tn_dtype dt, ll_val depth, tn_cpu_codes *c) {
  const tn_quant *q = tn_quant_of(dt);
  tn_cpu_codes_of(q, c);
  return tn_cpu_int_rows_of(k, depth, TN_CPU_INT_BLOCK, tn_cpu_block_chunk(q), correction(k->u->isa, c));
}
ll_val tn_cpu_few_row_bytes(tn_cpu_kernel *k, tn_dtype dt, ll_val depth) {
  tn_cpu_codes c;
  return layout_of(k, dt, depth, &c).bytes;
}
void tn_cpu_few_prepare(tn_cpu_kernel *k, tn_dtype dt, ll_val depth, ll_val to, tn_cpu_row_fn get,
                        void *ctx) {
  tn_cpu_codes c;
  tn_cpu_int_rows r = layout_of(k, dt, depth, &c);
  tn_cpu_int_prepare(k, &r, depth, to, get, ctx);
  tn_cpu_codes_arrange(k, &c, to, depth);
}

/* ---- four products a lane ---- */
static ll_val call2(few *z, const char *full, const char *half, ll_val a, ll_val b) {
  ll_val args[] = {a, b};
  return ll_call(z->s.b.e, z->s.b.e->lanes == 16 ? full : half, NULL, 0, args, 2);
}
static ll_val widen(few *z, ll_val sums) {
  ll_val ones = ll_int(z->s.b.e, LLVMVectorType(z->s.b.e->i16, 2 * z->s.b.e->lanes), 1);
  return call2(z, "llvm.x86.avx512.pmaddw.d.512", "llvm.x86.avx2.pmadd.wd", sums, ones);
}
static ll_val pairs(few *z, ll_val codes, ll_val q) {
  return call2(z, "llvm.x86.avx512.pmaddubs.w.512", "llvm.x86.avx2.pmadd.ub.sw", codes, q);
}

/* The magnitude of signed codes, and q with their signs. */
static ll_val swap_signs(few *z, ll_val codes, ll_val *q) {
  tn_ll *e = z->s.b.e;
  ll_val w = ll_xor(e, codes, ll_i(e, codes, 128)), zero = ll_zero(LLVMTypeOf(w));
  ll_val negative = ll_icmp(e, LLVMIntSLT, w, zero), args[] = {*q, w};
  if (e->lanes == 16)
    *q = ll_select(e, negative, ll_sub(e, zero, *q), *q);
  else
    *q = ll_call(e, "llvm.x86.avx2.psign.b", NULL, 0, args, 2);
  return ll_select(e, negative, ll_sub(e, zero, w), w);
}

/* Vector i of a run's `count`: codes times q, both bytes, onto cell c. */
static void multiply(few *z, uint32_t c, ll_val codes, ll_val q, uint32_t i, uint32_t count) {
  tn_ll *e = z->s.b.e;
  uint32_t held = wide(&z->codes) ? 1 : INT16_MAX / (2 * LARGEST * z->codes.max);
  if (z->vnni) {
    ll_val args[] = {z->acc[c], codes, q};
    z->acc[c] = ll_call(e, "llvm.x86.avx512.vpdpbusd.512", NULL, 0, args, 3);
    return;
  }
  if (wide(&z->codes)) codes = swap_signs(z, codes, &q);
  ll_val p = pairs(z, codes, q);
  z->narrow[c] = i % held ? ll_add(e, z->narrow[c], p) : p;
  if (i == count - 1 || i % held == held - 1) z->acc[c] = ll_add(e, z->acc[c], widen(z, z->narrow[c]));
}

/* ---- a step ---- */
/* The splat of a number of row m: number (at + t) / per of the array that begins `array` bytes behind it. */
static ll_val number(few *z, ll_type t, uint32_t m, ll_val array, uint32_t first, uint32_t per) {
  tn_ll *e = z->s.b.e;
  ll_val at = ll_udiv(e, z->at, ll_k(e, per));
  ll_val p = ll_at(e, z->a[m], ll_iadd(e, array, ll_imul(e, at, ll_k(e, 4))));
  return ll_splat(e, ll_load(e, t, ll_at(e, p, ll_k(e, (int64_t)(first / per) * 4)), 4));
}

static void dot_run(few *z, uint32_t first) {
  tn_ll *e = z->s.b.e;
  uint32_t n = tn_cpu_scales_vectors(&z->s), count = z->row.run / 4;
  ll_type bytes = LLVMVectorType(e->i8, 4 * e->lanes);
  for (uint32_t c = 0; c < z->cells; c++)
    z->acc[c] = !z->row.times ? ll_zero(ll_vec(e, e->i32))
                : c % n       ? z->acc[c - 1]
                              : number(z, e->i32, c / n, z->row.isum, first, z->row.run);
  for (uint32_t i = 0; i < count; i++) {
    ll_val q[8];
    for (uint32_t m = 0; m < z->rows; m++)
      q[m] = ll_cast_bits(e, number(z, e->i32, m, ll_k(e, 0), first + 4 * i, 4), bytes);
    for (uint32_t v = 0; v < n; v++) {
      tn_cpu_lanes l = tn_cpu_scales_lanes(&z->s, v);
      ll_val codes = ll_cast_bits(e, tn_cpu_codes_vector(&l, &z->codes, first / 4 + i), bytes);
      for (uint32_t m = 0; m < z->rows; m++) multiply(z, m * n + v, codes, q[m], i, count);
    }
  }
}

/* Adds a run to the float sums. */
static void add_run(few *z, uint32_t first) {
  tn_ll *e = z->s.b.e;
  uint32_t n = tn_cpu_scales_vectors(&z->s);
  tn_cpu_scales_enter(&z->s, first);
  for (uint32_t m = 0; m < z->rows; m++) {
    ll_val d = number(z, e->f32, m, z->row.d, first, TN_CPU_INT_BLOCK), fsum = NULL;
    if (z->codes.unit != 1) d = ll_fmul(e, d, ll_f(e, d, 1 / z->codes.unit));
    if (tn_cpu_scales_low(z->s.b.q)) fsum = number(z, e->f32, m, z->row.fsum, first, z->row.run);
    for (uint32_t v = 0; v < n; v++) {
      uint32_t c = m * n + v;
      ll_val x = LLVMBuildSIToFP(e->b, z->acc[c], ll_vec(e, e->f32), "");
      z->y[c] = ll_fma(e, ll_fmul(e, z->s.scale[v], d), x, z->y[c]);
      if (z->s.low[v]) z->y[c] = ll_fma(e, z->s.low[v], fsum, z->y[c]);
    }
  }
}

static void fetch_ahead(few *z) {
  tn_ll *e = z->s.b.e;
  const tn_quant *q = z->s.b.q;
  int64_t part = (int64_t)q->bytes * TN_BLOCK_ROWS * TN_CPU_STEP / q->values;
  for (int64_t line = 0; line < part; line += 64) {
    ll_val off = ll_iadd(e, ll_imul(e, z->s.b.step, ll_k(e, part)), ll_k(e, line));
    ll_prefetch(e, ll_at(e, z->s.b.group[0], ll_iadd(e, off, ll_k(e, z->ahead))), 3);
  }
}

static void write_step(few *z, ll_val block, ll_val step) {
  tn_ll *e = z->s.b.e;
  z->s.b.step = step;
  z->at = ll_iadd(e, ll_mul(e, block, ll_k(e, z->s.b.q->values)), ll_imul(e, step, ll_k(e, TN_CPU_STEP)));
  tn_cpu_level_forget(&z->s.b);
  fetch_ahead(z);
  for (uint32_t t = 0; t < TN_CPU_STEP; t += z->row.run) {
    dot_run(z, t);
    add_run(z, t);
  }
}

static void write_block(few *z, ll_val block) {
  tn_ll *e = z->s.b.e;
  uint32_t steps = z->s.b.q->values / TN_CPU_STEP;
  tn_cpu_scales_read(&z->s);
  for (uint32_t i = 0; z->s.b.fixed && i < steps; i++) write_step(z, block, ll_k(e, i));
  if (z->s.b.fixed) return;
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), ll_k(e, steps), ll_k(e, 1), z->y, z->cells);
  memcpy(z->y, l.phi, z->cells * sizeof *z->y);
  write_step(z, block, l.iv);
  ll_loop_end(e, &l, z->y);
  memcpy(z->y, l.out, z->cells * sizeof *z->y);
}

/* ---- the function ---- */
/* Panel j of the call at `from`, to columns from 16 j on. */
static void write_panel(few *z, const ll_val *p, ll_val from, ll_val j) {
  tn_ll *e = z->s.b.e;
  const tn_quant *q = z->s.b.q;
  ll_loop l;
  for (uint32_t c = 0; c < z->cells; c++) z->y[c] = ll_zero(ll_vec(e, e->f32));
  ll_val blocks = ll_udiv(e, p[TN_UKR_DEPTH], ll_k(e, q->values));
  ll_loop_begin(e, &l, ll_k(e, 0), blocks, ll_k(e, 1), z->y, z->cells);
  memcpy(z->y, l.phi, z->cells * sizeof *z->y);
  z->s.b.group[0] = ll_at(e, from, ll_mul(e, l.iv, ll_k(e, (int64_t)q->bytes * TN_BLOCK_ROWS)));
  write_block(z, l.iv);
  ll_loop_end(e, &l, z->y);
  ll_val to = ll_at(e, p[TN_UKR_C], ll_mul(e, j, ll_k(e, TN_CPU_PANEL * 4)));
  for (uint32_t c = 0, n = tn_cpu_scales_vectors(&z->s); c < z->cells; c++) {
    ll_val row = ll_at(e, to, ll_imul(e, p[TN_UKR_C_STRIDE], ll_k(e, c / n)));
    ll_store(e, l.out[c], ll_at(e, row, ll_k(e, (int64_t)(c % n) * e->lanes * 4)), 4);
  }
}

/* One panel after the other: a single line of addresses. */
static void write_codes(tn_cpu_kernel *k, tn_dtype dt, tn_cpu_few_shape s, const ll_val *p) {
  tn_ll *e = k->e;
  few *z = tn_mem_alloc(sizeof *z);
  if (!z) {
    tn_ll_fail(e, "out of memory");
    return;
  }
  *z = (few){.rows = s.rows, .vnni = k->u->isa->vnni, .ahead = tn_cpu_few_ahead(k, AHEAD_BYTES)};
  tn_cpu_scales_init(&z->s, k, dt, 1);
  z->row = layout_of(k, dt, p[TN_UKR_DEPTH], &z->codes);
  z->cells = s.rows * tn_cpu_scales_vectors(&z->s);
  for (uint32_t m = 0; m < z->rows; m++)
    z->a[m] = ll_at(e, p[TN_UKR_A], ll_imul(e, p[TN_UKR_A_STRIDE], ll_k(e, m)));
  ll_val pairs = ll_icmp(e, LLVMIntNE, p[TN_UKR_PAIR], ll_k(e, 0)), half = ll_k(e, s.panels / 2);
  ll_val one = ll_k(e, s.panels), count = ll_imin(e, p[TN_UKR_NP], ll_select(e, pairs, half, one));
  ll_loop h, l;
  ll_loop_begin(e, &h, ll_k(e, 0), ll_select(e, pairs, ll_k(e, 2), ll_k(e, 1)), ll_k(e, 1), NULL, 0);
  ll_val from = ll_at(e, p[TN_UKR_B], ll_mul(e, h.iv, p[TN_UKR_PAIR])), first = ll_mul(e, h.iv, half);
  ll_loop_begin(e, &l, ll_k(e, 0), count, ll_k(e, 1), NULL, 0);
  write_panel(z, p, ll_at(e, from, ll_mul(e, l.iv, p[TN_UKR_PANEL_STRIDE])), ll_add(e, first, l.iv));
  ll_loop_end(e, &l, NULL);
  ll_loop_end(e, &h, NULL);
  tn_mem_free(z);
}

static ll_val function_of(tn_cpu_kernel *k, tn_dtype dt, bool dot, tn_cpu_few_shape s) {
  tn_ll *e = k->e;
  char name[64];
  snprintf(name, sizeof name, "few%s_%s_%ux%u_%u", dot ? "_dot" : "", k->u->ir->dtype_info(dt)->name, s.rows,
           s.panels, k->choice.ahead);
  ll_val fn = tn_cpu_shared_find(k->u, name), p[TN_UKR_ARGS];
  if (fn) return fn;
  tn_cpu_shared shared = tn_cpu_shared_begin(k->u);
  ll_type args[TN_UKR_ARGS] = {e->i64, e->ptr, e->i64, e->ptr, e->i64, e->i64,
                               e->ptr, e->i64, e->ptr, e->i64, e->i1,  e->i64};
  fn = ll_func(e, name, e->tvoid, args, TN_UKR_ARGS, true, true);
  ll_func_attr(e, fn, "prefer-vector-width", k->u->isa->vector_width);
  LLVMGetParams(fn, p);
  if (tn_quant_of(dt))
    write_codes(k, dt, s, p);
  else
    tn_cpu_stream_ukr(k, dt, dot, s, p);
  LLVMBuildRetVoid(e->b);
  return tn_cpu_shared_end(k->u, &shared, fn);
}

typedef struct family {
  tn_dtype dt;
  uint32_t panels;
  bool dot;
} family;
static ll_val few_for(tn_cpu_kernel *k, const void *of, uint32_t rows) {
  const family *f = of;
  return function_of(k, f->dt, f->dot, (tn_cpu_few_shape){rows, f->panels});
}

void tn_cpu_few_call(tn_cpu_kernel *k, tn_dtype dt, tn_cpu_few_shape s, ll_val rows, const tn_cpu_tile *t) {
  family f = {dt, s.panels, t->dot};
  tn_cpu_tile_switch(k, rows, s.rows, t, few_for, &f);
}
