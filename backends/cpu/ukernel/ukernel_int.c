/* ukernel_int.c - writes the integer micro-kernels. Sums of a run start from -bias times the sum of the row's
 * values, grow by four products a lane, and are added to float sums times both scales.
 *
 * Without VNNI, vpmaddubsw gives sums of two products in 16 bits: as many of them are added there as cannot
 * overflow. Codes of 8 bits would overflow at once; they swap signs with the row's values first. */
#include "backends/cpu/ukernel/ukernel_int.h"
#include <stdio.h>

#define MAX_CELLS 32
#define LARGEST 127 /* magnitude of a row's value */
#define SIGNED 128  /* what makes bytes signed */

typedef struct intukr {
  tn_cpu_kernel *k;
  tn_ll *e;
  const tn_cpu_int_form *f;
  bool biased;
  uint32_t rows, panels, per, cells;     /* per: vectors of a panel; cells: rows * panels * per */
  ll_val b[4], q, d, isum, fsum, stride; /* at the block */
  ll_val y[MAX_CELLS], acc[MAX_CELLS], narrow[MAX_CELLS];
} intukr;

/* Sums of pairs that 16 bits hold; 0: not even one. */
static uint32_t pairs_held(const tn_cpu_int_form *f) { return INT16_MAX / (2 * LARGEST * f->codes.max); }

uint32_t tn_cpu_int_rows_max(const tn_cpu_isa *isa) { return isa->lanes == 16 ? 7 : 3; }
uint32_t tn_cpu_int_panels(const tn_cpu_isa *isa) { return isa->lanes == 16 ? 2 : 1; }
uint32_t tn_cpu_int_block_bytes(const tn_cpu_int_form *f) {
  uint32_t numbers = f->plain ? 0 : f->block / f->run * (1 + f->low);
  return f->block * TN_CPU_PANEL + numbers * TN_CPU_PANEL * 4;
}
bool tn_cpu_int_fits(const tn_cpu_isa *isa, const tn_cpu_int_form *f) {
  return isa->vnni || isa->lanes == 8 || pairs_held(f); /* vpsignb has no form of 512 bits */
}

int32_t tn_cpu_int_times(const tn_cpu_isa *isa, const tn_cpu_int_form *f) {
  return isa->vnni || pairs_held(f) ? -f->codes.bias : SIGNED - f->codes.bias;
}

/* ---- four products a lane ---- */
static ll_val bytes_of(intukr *u, ll_val v) {
  return ll_cast_bits(u->e, v, LLVMVectorType(u->e->i8, 4 * u->e->lanes));
}
static ll_val call2(intukr *u, const char *wide, const char *narrow, ll_val a, ll_val b) {
  ll_val args[] = {a, b};
  return ll_call(u->e, u->e->lanes == 16 ? wide : narrow, NULL, 0, args, 2);
}
static ll_val widen(intukr *u, ll_val sums) {
  ll_val ones = ll_int(u->e, LLVMVectorType(u->e->i16, 2 * u->e->lanes), 1);
  return call2(u, "llvm.x86.avx512.pmaddw.d.512", "llvm.x86.avx2.pmadd.wd", sums, ones);
}
static ll_val pairs(intukr *u, ll_val codes, ll_val q) {
  return call2(u, "llvm.x86.avx512.pmaddubs.w.512", "llvm.x86.avx2.pmadd.ub.sw", codes, q);
}

/* Step kk of a run, `last` of it: codes (bytes) times q (bytes) onto cell c. */
static void multiply(intukr *u, uint32_t c, ll_val codes, ll_val q, uint32_t kk, bool last) {
  tn_ll *e = u->e;
  uint32_t held = pairs_held(u->f);
  if (u->k->u->isa->vnni) {
    ll_val args[] = {u->acc[c], codes, q};
    u->acc[c] = ll_call(e, "llvm.x86.avx512.vpdpbusd.512", NULL, 0, args, 3);
    return;
  }
  if (!held) { /* |code - 128| * (q with the sign of that) */
    ll_val w = u->f->plain ? codes : ll_xor(e, codes, ll_i(e, codes, -SIGNED));
    ll_val args[] = {q, w};
    q = ll_call(e, "llvm.x86.avx2.psign.b", NULL, 0, args, 2);
    ll_val zero = ll_zero(LLVMTypeOf(w)), minus = ll_sub(e, zero, w);
    codes = ll_select(e, ll_icmp(e, LLVMIntSLT, w, zero), minus, w);
    u->acc[c] = ll_add(e, u->acc[c], widen(u, pairs(u, codes, q)));
    return;
  }
  ll_val p = pairs(u, codes, q);
  u->narrow[c] = kk % held ? ll_add(e, u->narrow[c], p) : p;
  if (last || kk % held == held - 1) u->acc[c] = ll_add(e, u->acc[c], widen(u, u->narrow[c]));
}
/* ---- a block ---- */
static ll_val in_row(intukr *u, ll_val base, uint32_t r, int64_t off) {
  tn_ll *e = u->e;
  return ll_at(e, ll_at(e, base, ll_imul(e, u->stride, ll_k(e, r))), ll_k(e, off));
}
static ll_val spread(intukr *u, ll_type t, ll_val p) { return ll_splat(u->e, ll_load(u->e, t, p, 4)); }

/* Dot products of `quads` times four values from value `first` (i64) on of the block. */
static void dot_quads(intukr *u, ll_val first, uint32_t quads) {
  tn_ll *e = u->e;
  uint32_t n = u->panels * u->per;
  ll_val q0 = ll_at(e, u->q, first), within = ll_imul(e, first, ll_k(e, TN_CPU_PANEL));
  for (uint32_t kk = 0; kk < quads; kk++) {
    ll_val codes[8];
    for (uint32_t v = 0; v < n; v++) {
      int64_t at = (int64_t)kk * TN_CPU_PANEL * 4 + (int64_t)(v % u->per) * e->lanes * 4;
      ll_type t = LLVMVectorType(e->i8, 4 * e->lanes);
      codes[v] = ll_load(e, t, ll_at(e, ll_at(e, u->b[v / u->per], within), ll_k(e, at)), e->lanes * 4);
      if (u->f->plain && u->k->u->isa->vnni) codes[v] = ll_xor(e, codes[v], ll_i(e, codes[v], -SIGNED));
    }
    for (uint32_t r = 0; r < u->rows; r++) {
      ll_val q = bytes_of(u, spread(u, e->i32, in_row(u, q0, r, 4 * (int64_t)kk)));
      for (uint32_t v = 0; v < n; v++) multiply(u, r * n + v, codes[v], q, kk, kk == quads - 1);
    }
  }
}

/* Dot products of run j of the block: a long run is a loop. */
static void dot_run(intukr *u, uint32_t j) {
  tn_ll *e = u->e;
  uint32_t n = u->panels * u->per, run = u->f->run;
  for (uint32_t c = 0; c < u->cells; c++) {
    ll_val at = in_row(u, u->isum, c / n, 4 * (int64_t)j);
    u->acc[c] = !u->biased ? ll_zero(ll_vec(e, e->i32)) : c % n ? u->acc[c - 1] : spread(u, e->i32, at);
  }
  if (run <= TN_CPU_INT_BLOCK) {
    dot_quads(u, ll_k(e, j * run), run / 4);
    return;
  }
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, j * run), ll_k(e, (j + 1) * run), ll_k(e, TN_CPU_INT_BLOCK), u->acc, u->cells);
  memcpy(u->acc, l.phi, u->cells * sizeof *u->acc);
  dot_quads(u, l.iv, TN_CPU_INT_BLOCK / 4);
  ll_loop_end(e, &l, u->acc);
  memcpy(u->acc, l.out, u->cells * sizeof *u->acc);
}

/* Adds run j to the float sums. */
static void add_run(intukr *u, uint32_t j) {
  tn_ll *e = u->e;
  uint32_t n = u->panels * u->per;
  int64_t vectors = 1 + u->f->low, base = u->f->block * TN_CPU_PANEL + j * vectors * TN_CPU_PANEL * 4;
  ll_val scale[8], low[8];
  ll_type t = ll_vec(e, e->f32);
  for (uint32_t v = 0; v < n && !u->f->plain; v++) {
    ll_val at = ll_at(e, u->b[v / u->per], ll_k(e, base + (int64_t)(v % u->per) * e->lanes * 4));
    scale[v] = ll_load(e, t, at, e->lanes * 4);
    if (u->f->low) low[v] = ll_load(e, t, ll_at(e, at, ll_k(e, TN_CPU_PANEL * 4)), e->lanes * 4);
  }
  for (uint32_t r = 0; r < u->rows; r++) {
    ll_val d = spread(u, e->f32, in_row(u, u->d, r, 0)), fsum = NULL;
    if (u->f->low) fsum = spread(u, e->f32, in_row(u, u->fsum, r, 4 * (int64_t)j));
    for (uint32_t v = 0; v < n; v++) {
      uint32_t c = r * n + v;
      ll_val x = LLVMBuildSIToFP(e->b, u->acc[c], t, "");
      u->y[c] = u->f->plain ? ll_fma(e, x, d, u->y[c]) : ll_fma(e, scale[v], ll_fmul(e, x, d), u->y[c]);
      if (u->f->low) u->y[c] = ll_fma(e, low[v], fsum, u->y[c]);
    }
  }
}

/* ---- the function ---- */
enum { DEPTH, Q, D, ISUM, FSUM, A_STRIDE, B, PANEL_STRIDE, C, C_STRIDE, MORE, ARGS };

static ll_val cell(intukr *u, const ll_val *p, uint32_t c) {
  tn_ll *e = u->e;
  uint32_t n = u->panels * u->per;
  ll_val row = ll_at(e, p[C], ll_imul(e, p[C_STRIDE], ll_k(e, c / n)));
  return ll_at(e, row, ll_k(e, (int64_t)(c % n) * e->lanes * 4));
}

static void write_body(intukr *u, const ll_val *p) {
  tn_ll *e = u->e;
  ll_val all = ll_splat(e, p[MORE]);
  ll_loop l;
  u->stride = p[A_STRIDE];
  for (uint32_t c = 0; c < u->cells; c++)
    u->y[c] = ll_load_masked(e, ll_vec(e, e->f32), cell(u, p, c), all, 4);
  ll_val blocks = ll_udiv(e, p[DEPTH], ll_k(e, u->f->block));
  ll_loop_begin(e, &l, ll_k(e, 0), blocks, ll_k(e, 1), u->y, u->cells);
  memcpy(u->y, l.phi, u->cells * sizeof *u->y);
  ll_val sums = ll_mul(e, l.iv, ll_k(e, u->f->block / u->f->run * 4));
  ll_val at = ll_mul(e, l.iv, ll_k(e, tn_cpu_int_block_bytes(u->f)));
  for (uint32_t j = 0; j < u->panels; j++)
    u->b[j] = ll_at(e, ll_at(e, p[B], ll_imul(e, p[PANEL_STRIDE], ll_k(e, j))), at);
  u->q = ll_at(e, p[Q], ll_mul(e, l.iv, ll_k(e, u->f->block)));
  u->d = ll_at(e, p[D], ll_mul(e, l.iv, ll_k(e, 4)));
  u->isum = ll_at(e, p[ISUM], sums);
  u->fsum = ll_at(e, p[FSUM], sums);
  for (uint32_t j = 0; j < u->f->block / u->f->run; j++) {
    dot_run(u, j);
    add_run(u, j);
  }
  ll_loop_end(e, &l, u->y);
  for (uint32_t c = 0; c < u->cells; c++) ll_store(e, l.out[c], cell(u, p, c), 4);
  LLVMBuildRetVoid(e->b);
}

static ll_val function_of(tn_cpu_kernel *k, const tn_cpu_int_form *f, uint32_t rows) {
  tn_ll *e = k->e;
  uint32_t panels = tn_cpu_int_panels(k->u->isa), per = TN_CPU_PANEL / e->lanes;
  intukr u = {.k = k, .e = e, .f = f, .rows = rows, .panels = panels, .per = per};
  char name[64];
  u.cells = rows * panels * per;
  u.biased = tn_cpu_int_times(k->u->isa, f) != 0;
  snprintf(name, sizeof name, "dot%u_%u%s%s%s_%ux%u", f->run, f->codes.max, u.biased ? "b" : "",
           f->low ? "m" : "", f->plain ? "p" : "", rows, panels);
  ll_val fn = tn_cpu_shared_find(k->u, name), p[ARGS];
  if (fn) return fn;
  tn_cpu_shared shared = tn_cpu_shared_begin(k->u);
  ll_type args[ARGS] = {e->i64, e->ptr, e->ptr, e->ptr, e->ptr, e->i64,
                        e->ptr, e->i64, e->ptr, e->i64, e->i1};
  fn = ll_func(e, name, e->tvoid, args, ARGS, false, true);
  ll_func_attr(e, fn, "prefer-vector-width", k->u->isa->vector_width);
  LLVMGetParams(fn, p);
  write_body(&u, p);
  return tn_cpu_shared_end(k->u, &shared, fn);
}

void tn_cpu_int_tile_call(tn_cpu_kernel *k, const tn_cpu_int_form *f, ll_val rows, const tn_cpu_int_tile *t) {
  tn_ll *e = k->e;
  uint32_t most = tn_cpu_int_rows_max(k->u->isa);
  ll_val args[ARGS] = {t->depth,        t->q, t->d,        t->isum, t->fsum, t->a_stride, t->b,
                       t->panel_stride, t->c, t->c_stride, t->more};
  LLVMBasicBlockRef end = ll_block(e, "tiled");
  ll_val sw = LLVMBuildSwitch(e->b, rows, end, most);
  for (uint32_t r = 1; r <= most; r++) {
    LLVMBasicBlockRef block = ll_block(e, "rows");
    LLVMAddCase(sw, ll_k(e, r), block);
    LLVMPositionBuilderAtEnd(e->b, block);
    ll_val fn = function_of(k, f, r);
    LLVMBuildCall2(e->b, LLVMGlobalGetValueType(fn), fn, args, ARGS, "");
    LLVMBuildBr(e->b, end);
  }
  LLVMPositionBuilderAtEnd(e->b, end);
  tn_ll_body_forget(&k->body);
}
