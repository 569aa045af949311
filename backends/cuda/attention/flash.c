/* flash.c - attention by tensor cores (Dao 2023): a warp has 16 or 32 rows of one group, whose weighted sums
 * stay in its registers while the block goes over the keys. Tiles of keys and values are fetched one step
 * ahead; scores become weights, and weights the left operand of the second product, without leaving their
 * registers. Only tiles that a warp's rows see in part look at single keys.
 *
 * Operands are 16-bit floats as they come, or, at precision "fast", rounded to them; weights are rounded to
 * them too. Scores, sums and the softmax are f32. */
#include "backends/cuda/attention/flash.h"
#include "backends/llvm/convert.h"

enum { WARPS = 4, THREADS = WARPS * 32, MOST_FEATURES = 256, MOST_TILES = 32 };

typedef struct flash {
  tn_cuda_att *a;
  tn_cuda_mma kind;
  uint32_t bands, keys, wide; /* tiles of 16 rows of a warp; keys of a step; features stored at once */
  bool held;                  /* queries stay in registers */
  bool plain;                 /* scores are only scaled, by a number above 0: that is left to the softmax */
  tn_cuda_att_tile q, k, v;
  ll_val room; /* shared: queries, then two slots of keys and values */
  uint32_t slot_bytes;
  /* of the launch; i32 */
  ll_val r0, nrows, lane, warp, lo, hi;
  ll_val fragments[2][16][4]; /* of queries: [band][step] */
  /* in memory that becomes registers: [band][tile of 8 columns][4], and per half of a band */
  ll_val sums[2][MOST_TILES][4], scores[2][8][4], top[2][2], total[2][2];
  ll_val query[2][2], head[2][2], place[2][2]; /* of the thread's rows; place: as a key's position, i32 */
} flash;

static ll_val n32(flash *f, int64_t x) { return tn_cuda_n32(f->a, x); }
static ll_val at_bytes(flash *f, ll_val base, ll_val bytes) {
  return LLVMBuildInBoundsGEP2(f->a->k->e->b, f->a->k->e->i8, base, &bytes, 1, "");
}
static ll_val get(flash *f, ll_val var) { return LLVMBuildLoad2(f->a->k->e->b, f->a->k->e->f32, var, ""); }
static void set(flash *f, ll_val var, ll_val x) { LLVMBuildStore(f->a->k->e->b, x, var); }
static ll_val variable(flash *f, double x) {
  tn_ll *e = f->a->k->e;
  ll_val v = LLVMBuildAlloca(e->b, e->f32, "");
  set(f, v, ll_real(e, e->f32, x));
  return v;
}
static uint32_t rows_of(const flash *f) { return WARPS * 16 * f->bands; }

/* ---- the plan ------------------------------------------------------------------------------------------ */

static bool half(tn_dtype t) { return t == TN_DT_f16 || t == TN_DT_bf16; }
static bool kind_of(const tn_cuda_att *a, tn_cuda_mma *kind) {
  tn_dtype q = a->tq.dtype, k = a->key.t.dtype, v = a->value.t.dtype;
  *kind = k == TN_DT_f16 && v == TN_DT_f16 ? TN_CUDA_MMA_F16 : TN_CUDA_MMA_BF16;
  return (half(q) && q == k && k == v) || a->k->u->precision == TN_CUDA_FAST;
}
bool tn_cuda_att_flash_takes(const tn_cuda_att *a) {
  tn_cuda_mma kind;
  int64_t nq;
  bool many = !tn_ll_dim_const(&a->k->body, a->s, &nq) || nq * a->g > TN_CUDA_ATT_FEW_ROWS;
  return many && a->d <= MOST_FEATURES && a->dv <= MOST_FEATURES && kind_of(a, &kind);
}

static tn_cuda_att_tile tile_of(flash *f, const tn_cuda_att_side *side, uint32_t rows, int64_t features) {
  tn_cuda_att_tile t = {.a = f->a, .kind = f->kind, .side = side, .rows = rows, .threads = THREADS};
  t.width = (uint32_t)(features + 15) / 16 * 16;
  t.wide = f->wide;
  t.copied = tn_cuda_att_tile_copies(&t);
  return t;
}
static void plan(flash *f) {
  tn_cuda_att *a = f->a;
  int64_t most = a->d > a->dv ? a->d : a->dv;
  kind_of(a, &f->kind);
  f->wide = (a->d | a->dv) % 8 == 0 ? 8 : (a->d | a->dv) % 4 == 0 ? 4 : 1;
  a->k->e->lanes = f->wide > 1 ? f->wide : 4;
  f->plain = !tn_cuda_att_touches(a) && a->scale > 0;
  f->k = tile_of(f, &a->key, 64, a->d);
  f->v = tile_of(f, &a->value, 64, a->dv);
  bool wide = f->plain && f->k.copied && f->v.copied && !a->ring && most <= 128;
  f->bands = wide || (f->plain && most <= 64) ? 2 : 1;
  f->held = most <= 128 && f->bands == 1;
  f->keys = most <= 64 || (f->plain && f->held) ? 64 : 32;
  f->k.rows = f->v.rows = f->keys;
  f->q = tile_of(f, NULL, rows_of(f), a->d);
  f->slot_bytes = tn_cuda_att_tile_bytes(&f->k) + tn_cuda_att_tile_bytes(&f->v);
}

/* ---- where a block is ---------------------------------------------------------------------------------- */

/* Rows that see many keys come first. Called again behind the keys, so that all this need not stay in
 * registers meanwhile. */
static void open_block(flash *f, tn_dim chunks) {
  tn_cuda_att *a = f->a;
  tn_cuda_kernel *k = a->k;
  tn_ll *e = k->e;
  ll_val units = tn_cuda_to32(a, ll_imul(e, tn_ll_dim(&k->body, a->batches), ll_k(e, a->hkv)));
  ll_val block = tn_cuda_asm(k, e->i32, "mov.u32 $0, %ctaid.x;", "=r", NULL, 0),
         unit = ll_urem(e, block, units), chunk = ll_udiv(e, block, units);
  if (a->causal) {
    ll_val n = tn_cuda_to32(a, tn_ll_dim(&k->body, chunks));
    chunk = ll_sub(e, ll_sub(e, n, n32(f, 1)), chunk);
  }
  tn_cuda_att_unit(a, tn_cuda_i64(k, ll_idiv(e, unit, n32(f, a->hkv))),
                   tn_cuda_i64(k, ll_imod(e, unit, n32(f, a->hkv))));
  f->r0 = ll_mul(e, chunk, n32(f, rows_of(f)));
  ll_val all = tn_cuda_to32(a, ll_imul(e, a->nq, ll_k(e, a->g)));
  f->nrows = ll_imin(e, ll_sub(e, all, f->r0), n32(f, rows_of(f)));
  tn_cuda_att_range(a, tn_cuda_i64(k, f->r0), tn_cuda_i64(k, f->nrows), &f->lo, &f->hi);
  f->warp = tn_cuda_warp(k);
  f->lane = tn_cuda_lane(k);
}

/* Row of the tile where half h of band b of this thread is. */
static ll_val tile_row(flash *f, uint32_t b, uint32_t h) {
  tn_ll *e = f->a->k->e;
  ll_val first = ll_add(e, ll_mul(e, f->warp, n32(f, 16 * f->bands)), n32(f, 16 * b + 8 * h));
  return ll_add(e, first, ll_lshr(e, f->lane, n32(f, 2)));
}
/* Rows past the end are those of the last one again. */
static void find_rows(flash *f) {
  tn_cuda_att *a = f->a;
  tn_ll *e = a->k->e;
  for (uint32_t b = 0; b < f->bands; b++)
    for (uint32_t h = 0; h < 2; h++) {
      ll_val row = ll_imin(e, tile_row(f, b, h), ll_sub(e, f->nrows, n32(f, 1)));
      row = tn_cuda_i64(a->k, ll_add(e, f->r0, row));
      tn_cuda_att_row(a, row, &f->query[b][h], &f->head[b][h]);
      f->place[b][h] = tn_cuda_to32(a, ll_add(e, f->query[b][h], a->last));
    }
}

/* ---- fragments ----------------------------------------------------------------------------------------- */

static ll_val slot(flash *f, ll_val step) { /* keys of a step; values lie behind them */
  tn_ll *e = f->a->k->e;
  ll_val at = ll_mul(e, ll_and(e, step, n32(f, 1)), n32(f, f->slot_bytes));
  return at_bytes(f, f->room, ll_add(e, at, n32(f, tn_cuda_att_tile_bytes(&f->q))));
}
static ll_val values_of(flash *f, ll_val keys) {
  return at_bytes(f, keys, n32(f, tn_cuda_att_tile_bytes(&f->k)));
}

static void load_queries(flash *f, uint32_t b, uint32_t step, ll_val *out) {
  tn_ll *e = f->a->k->e;
  ll_val row = ll_mul(e, f->warp, n32(f, 16 * f->bands));
  row = ll_add(e, row, ll_and(e, f->lane, n32(f, 15)));
  ll_val chunk = ll_lshr(e, f->lane, n32(f, 4));
  ll_val p = tn_cuda_att_chunk_at(&f->q, f->room, row, chunk, 16 * b, 2 * step);
  tn_cuda_ldmatrix(f->a->k, p, 4, false, out);
}
static void hold_queries(flash *f) {
  for (uint32_t b = 0; b < f->bands && f->held; b++)
    for (uint32_t s = 0; s < f->q.width / 16; s++) load_queries(f, b, s, f->fragments[b][s]);
}

/* Two tiles of 8 keys from 16 j on, 16 features from 16 step on. */
static void load_keys(flash *f, ll_val keys, uint32_t j, uint32_t step, ll_val *out) {
  tn_ll *e = f->a->k->e;
  ll_val row = ll_add(e, ll_and(e, f->lane, n32(f, 7)), ll_shl(e, ll_lshr(e, f->lane, n32(f, 4)), n32(f, 3)));
  ll_val chunk = ll_and(e, ll_lshr(e, f->lane, n32(f, 3)), n32(f, 1));
  ll_val p = tn_cuda_att_chunk_at(&f->k, keys, row, chunk, 16 * j, 2 * step);
  tn_cuda_ldmatrix(f->a->k, p, 4, false, out);
}
/* 16 keys from 16 step on, two tiles of 8 features from 16 j on. */
static void load_values(flash *f, ll_val values, uint32_t j, uint32_t step, ll_val *out) {
  tn_ll *e = f->a->k->e;
  ll_val row = ll_and(e, f->lane, n32(f, 15)), chunk = ll_lshr(e, f->lane, n32(f, 4));
  ll_val p = tn_cuda_att_chunk_at(&f->v, values, row, chunk, 16 * step, 2 * j);
  tn_cuda_ldmatrix(f->a->k, p, 4, true, out);
}

/* ---- scores -------------------------------------------------------------------------------------------- */

static void score_step(flash *f, ll_val keys) {
  tn_cuda_kernel *k = f->a->k;
  tn_ll *e = k->e;
  ll_val s[2][8][4], b[4], q[2][4];
  for (uint32_t i = 0; i < f->bands * 8 * 4; i++) s[i / 32][i / 4 % 8][i % 4] = ll_real(e, e->f32, 0);
  for (uint32_t step = 0; step < f->k.width / 16; step++) {
    for (uint32_t band = 0; band < f->bands && !f->held; band++) load_queries(f, band, step, q[band]);
    for (uint32_t j = 0; j < f->keys / 16; j++) {
      load_keys(f, keys, j, step, b);
      for (uint32_t band = 0; band < f->bands; band++)
        for (uint32_t u = 0; u < 2; u++) {
          ll_val *c = s[band][2 * j + u];
          tn_cuda_mma_sync(k, f->kind, f->held ? f->fragments[band][step] : q[band], &b[2 * u], c, c);
        }
    }
  }
  for (uint32_t band = 0; band < f->bands; band++)
    for (uint32_t j = 0; j < f->keys / 8; j++)
      for (uint32_t i = 0; i < 4; i++) set(f, f->scores[band][j][i], s[band][j][i]);
}

/* Does a row of this warp not see all of the keys kb .. kb + f->keys? The same for all of its lanes. */
static ll_val partly(flash *f, ll_val kb) {
  tn_cuda_att *a = f->a;
  tn_ll *e = a->k->e;
  ll_val end = ll_add(e, kb, n32(f, f->keys)), some = ll_icmp(e, LLVMIntSGT, end, f->hi);
  ll_val row = ll_mul(e, f->warp, n32(f, 16 * f->bands)), last = ll_sub(e, f->nrows, n32(f, 1));
  ll_val q0, q1, head;
  tn_cuda_att_row(a, tn_cuda_i64(a->k, ll_add(e, f->r0, ll_imin(e, row, last))), &q0, &head);
  row = ll_imin(e, ll_add(e, row, n32(f, 16 * f->bands - 1)), last);
  tn_cuda_att_row(a, tn_cuda_i64(a->k, ll_add(e, f->r0, row)), &q1, &head);
  ll_val in = LLVMConstInt(e->i1, 1, 0);
  in = tn_cuda_att_sees(a, in, tn_cuda_to32(a, ll_add(e, q0, a->last)), ll_sub(e, end, n32(f, 1)));
  in = tn_cuda_att_sees(a, in, tn_cuda_to32(a, ll_add(e, q1, a->last)), kb);
  return ll_or(e, some, ll_not(e, in));
}

static void mask_score(flash *f, uint32_t b, uint32_t j, uint32_t i, ll_val kb) {
  tn_cuda_att *a = f->a;
  tn_ll *e = a->k->e;
  ll_val key = ll_add(e, kb, n32(f, 8 * j + i % 2));
  key = ll_add(e, key, ll_shl(e, ll_and(e, f->lane, n32(f, 3)), n32(f, 1)));
  ll_val in = ll_icmp(e, LLVMIntSLT, key, f->hi), x = get(f, f->scores[b][j][i]);
  if (!f->plain) {
    ll_val there = ll_imin(e, key, ll_sub(e, f->hi, n32(f, 1)));
    x = tn_cuda_att_score(a, ll_fmul(e, x, ll_f(e, x, a->scale)), f->query[b][i / 2], f->head[b][i / 2],
                          there, &in);
  }
  in = tn_cuda_att_sees(a, in, f->place[b][i / 2], key);
  set(f, f->scores[b][j][i], ll_select(e, in, x, ll_f(e, x, -__builtin_inf())));
}
static void mask_scores(flash *f, ll_val kb) {
  tn_cuda_att *a = f->a;
  ll_if some;
  ll_val lane = f->lane;
  if (f->plain) {
    ll_if_begin(a->k->e, &some, partly(f, kb));
    f->lane = ll_and(a->k->e, tn_cuda_att_thread_again(a), n32(f, 31));
    find_rows(f);
  }
  tn_ll_body_forget(&a->k->body);
  for (uint32_t b = 0; b < f->bands; b++)
    for (uint32_t j = 0; j < f->keys / 8; j++)
      for (uint32_t i = 0; i < 4; i++) mask_score(f, b, j, i, kb);
  if (f->plain) ll_if_end(a->k->e, &some);
  f->lane = lane;
  tn_ll_body_forget(&a->k->body);
}

/* ---- softmax ------------------------------------------------------------------------------------------- */

/* Of numbers: NaN counts as nothing, and comes back in the weights. */
static ll_val larger(tn_ll *e, ll_val x, ll_val y) { return ll_call2(e, "llvm.maxnum", x, y); }

/* Scores of half h of a band become weights. factor: of scores, times log2(e). Gives what the sums so far are
 * worth at the new largest score; *moved: whether that is another one. */
static ll_val weigh(flash *f, uint32_t b, uint32_t h, double factor, ll_val *moved) {
  tn_cuda_att *a = f->a;
  tn_ll *e = a->k->e;
  ll_val old = get(f, f->top[b][h]), top = old, sum = ll_real(e, e->f32, 0);
  for (uint32_t i = 0; i < f->keys / 4; i++) top = larger(e, top, get(f, f->scores[b][i / 2][2 * h + i % 2]));
  top = tn_cuda_warp_reduce(a->k, top, 4, larger);
  set(f, f->top[b][h], top);
  *moved = ll_fcmp(e, LLVMRealUNE, top, old);
  ll_val none = ll_fcmp(e, LLVMRealOEQ, top, ll_f(e, top, -__builtin_inf()));
  ll_val base = ll_select(e, none, ll_f(e, top, 0), ll_fmul(e, top, ll_f(e, top, -factor)));
  for (uint32_t i = 0; i < f->keys / 4; i++) {
    ll_val var = f->scores[b][i / 2][2 * h + i % 2];
    ll_val p = tn_cuda_ex2(a->k, ll_fma(e, get(f, var), ll_f(e, top, factor), base));
    set(f, var, p);
    sum = ll_fadd(e, sum, p);
  }
  ll_val alpha = tn_cuda_ex2(a->k, ll_fma(e, old, ll_f(e, old, factor), base));
  set(f, f->total[b][h], ll_fma(e, get(f, f->total[b][h]), alpha, sum));
  return alpha;
}

/* The sums move to the new largest scores. After some keys these seldom change, for any row of the warp. */
static void softmax(flash *f, double factor) {
  tn_cuda_kernel *k = f->a->k;
  tn_ll *e = k->e;
  ll_val alpha[2][2], any = NULL, moved;
  ll_if some;
  for (uint32_t i = 0; i < f->bands * 2; i++) {
    alpha[i / 2][i % 2] = weigh(f, i / 2, i % 2, factor, &moved);
    any = any ? ll_or(e, any, moved) : moved;
  }
  ll_if_begin(e, &some, tn_cuda_any(k, any));
  for (uint32_t b = 0; b < f->bands; b++)
    for (uint32_t i = 0; i < f->v.width / 8 * 4; i++) {
      ll_val var = f->sums[b][i / 4][i % 4];
      set(f, var, ll_fmul(e, get(f, var), alpha[b][i % 4 / 2]));
    }
  ll_if_end(e, &some);
}

static void add_values(flash *f, ll_val values) {
  tn_cuda_kernel *k = f->a->k;
  ll_val (*pack)(tn_cuda_kernel *, ll_val, ll_val) =
      f->kind == TN_CUDA_MMA_F16 ? tn_cuda_pack_f16 : tn_cuda_pack_bf16;
  for (uint32_t step = 0; step < f->keys / 16; step++) {
    ll_val p[2][4], b[4], c[4];
    for (uint32_t i = 0; i < f->bands * 4; i++) {
      const ll_val *s = &f->scores[i / 4][2 * step + i % 4 / 2][i % 2 * 2];
      p[i / 4][i % 4] = pack(k, get(f, s[0]), get(f, s[1]));
    }
    for (uint32_t j = 0; j < f->v.width / 16; j++) {
      load_values(f, values, j, step, b);
      for (uint32_t i = 0; i < f->bands * 2; i++) {
        ll_val *var = f->sums[i / 2][2 * j + i % 2];
        for (uint32_t n = 0; n < 4; n++) c[n] = get(f, var[n]);
        tn_cuda_mma_sync(k, f->kind, p[i / 2], &b[i % 2 * 2], c, c);
        for (uint32_t n = 0; n < 4; n++) set(f, var[n], c[n]);
      }
    }
  }
}

/* ---- steps --------------------------------------------------------------------------------------------- */

static void fetch(flash *f, ll_val step) {
  tn_ll *e = f->a->k->e;
  ll_val keys = slot(f, step), first = ll_add(e, f->lo, ll_mul(e, step, n32(f, f->keys)));
  tn_cuda_att_tile_fill(&f->k, keys, first, f->hi);
  tn_cuda_att_tile_fill(&f->v, values_of(f, keys), first, f->hi);
}

static void one_step(flash *f, ll_val step, ll_val steps) {
  tn_cuda_kernel *k = f->a->k;
  tn_ll *e = k->e;
  ll_if more;
  ll_val next = ll_add(e, step, n32(f, 1)), keys = slot(f, step), lane = f->lane;
  double factor = (f->plain ? f->a->scale : 1) * TN_CUDA_LOG2E;
  tn_cuda_copy_wait(k, 0);
  tn_cuda_barrier(k); /* what was fetched is there, and nobody reads what the next fetch overwrites */
  ll_if_begin(e, &more, ll_icmp(e, LLVMIntSLT, next, steps));
  fetch(f, next);
  ll_if_end(e, &more);
  tn_cuda_copy_commit(k);
  f->lane = ll_and(e, tn_cuda_att_thread_again(f->a), n32(f, 31));
  score_step(f, keys);
  mask_scores(f, ll_add(e, f->lo, ll_mul(e, step, n32(f, f->keys))));
  softmax(f, factor);
  add_values(f, values_of(f, keys));
  f->lane = lane;
}

static void over_keys(flash *f) {
  tn_cuda_kernel *k = f->a->k;
  tn_ll *e = k->e;
  ll_loop l;
  ll_if some;
  ll_val n = ll_imax(e, ll_sub(e, f->hi, f->lo), n32(f, 0)), steps = ll_ceildiv(e, n, n32(f, f->keys));
  ll_if_begin(e, &some, ll_icmp(e, LLVMIntSGT, steps, n32(f, 0)));
  tn_cuda_att_tile_fill(&f->q, f->room, f->r0, ll_add(e, f->r0, f->nrows));
  fetch(f, n32(f, 0));
  tn_cuda_copy_commit(k);
  tn_cuda_copy_wait(k, 0);
  tn_cuda_barrier(k);
  hold_queries(f);
  ll_loop_begin(e, &l, n32(f, 0), steps, n32(f, 1), NULL, 0);
  tn_ll_body_forget(&k->body);
  one_step(f, l.iv, steps);
  ll_loop_end(e, &l, NULL);
  ll_if_end(e, &some);
  tn_ll_body_forget(&k->body);
}

/* ---- results ------------------------------------------------------------------------------------------- */

static ll_val parked_at(flash *f, ll_val row, ll_val j) { /* f32, rows a little apart for the sake of banks */
  tn_ll *e = f->a->k->e;
  ll_val at = ll_add(e, ll_mul(e, row, n32(f, f->v.width + 8)), j);
  return LLVMBuildInBoundsGEP2(e->b, e->f32, f->room, &at, 1, "");
}
static uint32_t parked_bytes(const flash *f) { return rows_of(f) * (f->v.width + 8) * 4; }

/* Sums go through shared memory, so that neighbouring threads store neighbouring features. */
static void park(flash *f) {
  tn_cuda_att *a = f->a;
  tn_ll *e = a->k->e;
  tn_cuda_barrier(a->k);
  for (uint32_t b = 0; b < f->bands; b++)
    for (uint32_t h = 0; h < 2; h++) {
      ll_val sum = tn_cuda_warp_reduce(a->k, get(f, f->total[b][h]), 4, tn_cuda_fadd);
      ll_val inverse = tn_cuda_att_inverse(a, sum), row = tile_row(f, b, h);
      for (uint32_t j = 0; j < f->v.width / 8; j++) {
        ll_val x = LLVMGetPoison(LLVMVectorType(e->f32, 2));
        for (uint32_t i = 0; i < 2; i++)
          x = ll_put(e, x, ll_fmul(e, get(f, f->sums[b][j][2 * h + i]), inverse), i);
        ll_val column = ll_shl(e, ll_and(e, f->lane, n32(f, 3)), n32(f, 1));
        ll_store(e, x, parked_at(f, row, ll_add(e, column, n32(f, 8 * j))), 8);
      }
    }
  tn_cuda_barrier(a->k);
}

static void store(flash *f) {
  tn_cuda_att *a = f->a;
  tn_ll *e = a->k->e;
  ll_val per = n32(f, a->dv / f->wide), query, head;
  ll_loop l;
  park(f);
  ll_loop_begin(e, &l, tn_cuda_thread(a->k), ll_mul(e, f->nrows, per), n32(f, THREADS), NULL, 0);
  tn_ll_body_forget(&a->k->body);
  ll_val row = ll_udiv(e, l.iv, per), j = ll_imul(e, ll_urem(e, l.iv, per), n32(f, f->wide));
  tn_cuda_att_row(a, tn_cuda_i64(a->k, ll_add(e, f->r0, row)), &query, &head);
  ll_type t = f->wide > 1 ? ll_vec(e, e->f32) : e->f32;
  ll_val x = ll_load(e, t, parked_at(f, row, j), f->wide > 1 ? 16 : 4);
  tn_cuda_att_put(a, query, head, j, f->wide, x);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&a->k->body);
}

/* ---- the launch ---------------------------------------------------------------------------------------- */

static void clear(flash *f) {
  for (uint32_t b = 0; b < f->bands; b++) {
    for (uint32_t i = 0; i < f->v.width / 8 * 4; i++) f->sums[b][i / 4][i % 4] = variable(f, 0);
    for (uint32_t i = 0; i < f->keys / 8 * 4; i++) f->scores[b][i / 4][i % 4] = variable(f, 0);
    for (uint32_t h = 0; h < 2; h++) {
      f->top[b][h] = variable(f, -__builtin_inf());
      f->total[b][h] = variable(f, 0);
    }
  }
}

void tn_cuda_att_flash(tn_cuda_att *a, tn_dim only) {
  tn_cuda_kernel *k = a->k;
  flash *f = tn_arena_alloc(k->arena, sizeof *f);
  if (!f) {
    tn_ll_fail(k->e, "no memory");
    return;
  }
  *f = (flash){.a = a};
  plan(f);
  tn_dim rows = tn_cuda_dim_mul(k, a->s, tn_cuda_dim_k(k, a->g));
  tn_dim chunks = tn_cuda_dim_ceildiv(k, rows, rows_of(f));
  tn_dim units = tn_cuda_dim_mul(k, a->batches, tn_cuda_dim_k(k, a->hkv));
  tn_cuda_shape shape = {.threads = THREADS,
                         .grid = {tn_cuda_dim_mul(k, tn_cuda_dim_mul(k, units, chunks), only)}};
  tn_cuda_launch_begin(k, &shape);
  uint32_t bytes = tn_cuda_att_tile_bytes(&f->q) + 2 * f->slot_bytes, parked = parked_bytes(f);
  f->room = tn_cuda_shared(k, bytes > parked ? bytes : parked, 128);
  clear(f);
  tn_cuda_att_open(a);
  open_block(f, chunks);
  if (!f->plain) find_rows(f);
  over_keys(f);
  open_block(f, chunks);
  store(f);
  tn_cuda_launch_end(k);
}
