/* few.c - attention of few rows, that is, decoding, and of every type in f32. A block has up to 8 rows of one
 * group; some lanes of a warp share a key, each with some of its features, so that a warp takes several keys
 * at once and rows of keys are read where they lie. Warps go their own ways over the keys and are combined at
 * the end.
 *
 * Where rows alone would not fill a device, the keys are split among blocks; how many there are follows from
 * the cache's size and the number of queries, not from the position, so that the launches of all steps are
 * equal. Each leaves its
 * largest score, sum of weights and weighted sum; a second launch combines them. */
#include "backends/cuda/attention/attention.h"
#include "backends/cuda/matmul/gemv.h"
#include "backends/llvm/convert.h"

enum {
  WARPS = 4,
  THREADS = WARPS * 32,
  MOST_ROWS = 8,
  MOST_STEPS = 4,
  KEPT = 48,        /* numbers of queries, or of sums, in a thread */
  SPLIT_KEYS = 128, /* worth a block of their own */
  MOST_SPLITS = 64,
  ENOUGH_BLOCKS = 1024,
  MOST_PARTS = 8 /* vectors of a row in a thread: 1024 / 4 / 32 */
};

typedef struct few {
  tn_cuda_att *a;
  uint32_t wide, lanes, parts[2]; /* features per load; lanes of a key; loads of a lane, per key and value */
  uint32_t rows, steps;           /* of a block; keys that a lane takes at once */
  tn_dim splits, chunks;          /* chunks: blocks of rows of a group */
  bool split;                     /* there may be several splits */
  tn_dim several;                 /* 1 where there are, and 0 */
  tn_dim sums, tops;              /* offsets of scratch: [row][split][dv], [row][split][2] */
  /* of the launch; i32 but for r0 and the row's numbers, i64 */
  ll_val at, nsplits, r0, nrows, lane, group, warp, lo, hi;
  bool step;              /* the newest key is made here, and is not among those from lo to hi */
  ll_val own, fresh[2];   /* i1: this warp sees the newest key; it and its value, in shared memory */
  ll_val queries, parked; /* shared: [rows][d], and what warps leave */
  ll_val q[KEPT];         /* [row][part] */
  ll_val query[MOST_ROWS], head[MOST_ROWS];
} few;

static ll_val n32(few *f, int64_t x) { return tn_cuda_n32(f->a, x); }
static ll_val floats(few *f, ll_val base, ll_val i) { /* i: i32 */
  return LLVMBuildInBoundsGEP2(f->a->k->e->b, f->a->k->e->f32, base, &i, 1, "");
}
static ll_type wide_type(few *f) {
  tn_ll *e = f->a->k->e;
  return f->wide > 1 ? ll_vec(e, e->f32) : e->f32;
}
static unsigned wide_align(few *f) { return f->wide > 1 ? 16 : 4; }
static int64_t padded(few *f, uint32_t side) { return (int64_t)f->parts[side] * f->lanes * f->wide; }
static int64_t features(few *f, uint32_t side) { return side ? f->a->dv : f->a->d; }

/* ---- the shape of a block ------------------------------------------------------------------------------ */

static uint32_t bytes_of(const tn_cuda_att_side *s) {
  return s->t.dtype >= TN_DT_BLOCK ? 1 : tn_ll_dtype_of(s->t.dtype).bytes;
}
static void plan(few *f) {
  tn_cuda_att *a = f->a;
  int64_t all = a->d | a->dv, nq = 0, most = a->d > a->dv ? a->d : a->dv;
  bool narrow = bytes_of(&a->key) <= 2 && bytes_of(&a->value) <= 2;
  bool known = tn_ll_dim_const(&a->k->body, a->s, &nq);
  f->wide = all % 8 == 0 && narrow && (a->g <= 4 || most > 512) ? 8 : all % 4 == 0 ? 4 : 1;
  for (f->lanes = 1; f->lanes < 32 && f->lanes * f->wide < most; f->lanes *= 2);
  uint32_t at_once = f->lanes * f->wide;
  for (uint32_t i = 0; i < 2; i++) f->parts[i] = (uint32_t)((features(f, i) + at_once - 1) / at_once);
  uint32_t per_row = (f->parts[0] > f->parts[1] ? f->parts[0] : f->parts[1]) * f->wide;
  for (f->rows = MOST_ROWS; f->rows > 1 && f->rows * per_row > KEPT; f->rows /= 2);
  while (known && f->rows > 1 && f->rows / 2 >= nq * a->g) f->rows /= 2;
  f->steps = per_row > 16 || tn_cuda_att_touches(a) ? 1 : per_row * f->rows > 32 ? 2 : MOST_STEPS;
  a->k->e->lanes = f->wide > 1 ? f->wide : 4;
}

/* Parts are left and combined only where there are several: else scratch and the second launch are none. */
static void plan_splits(few *f, tn_dim only) {
  tn_cuda_att *a = f->a;
  tn_cuda_kernel *k = a->k;
  const tn_ir *ir = k->u->ir;
  int64_t nq = 0, n = 0;
  tn_dim one = tn_cuda_dim_k(k, 1);
  f->chunks = tn_cuda_dim_ceildiv(k, tn_cuda_dim_mul(k, a->s, tn_cuda_dim_k(k, a->g)), f->rows);
  f->splits = one;
  if (tn_ll_dim_const(&k->body, a->s, &nq) && nq * a->g > 64) return;
  tn_dim units = tn_cuda_dim_mul(k, tn_cuda_dim_mul(k, a->batches, f->chunks), tn_cuda_dim_k(k, a->hkv));
  tn_dim fill =
      ir->dim_make(k->u->m, TN_DIM_FLOORDIV, tn_cuda_dim_k(k, ENOUGH_BLOCKS), tn_cuda_dim_max(k, units, one));
  tn_dim worth = tn_cuda_dim_ceildiv(k, a->key.t.dims[1], SPLIT_KEYS);
  f->splits = tn_cuda_dim_min(k, tn_cuda_dim_min(k, fill, worth), tn_cuda_dim_k(k, MOST_SPLITS));
  f->splits = tn_cuda_dim_max(k, f->splits, one);
  f->split = !tn_ll_dim_const(&k->body, f->splits, &n) || n > 1;
  if (!f->split) return;
  f->several = tn_cuda_dim_mul(k, tn_cuda_many(k, f->splits, 1), only);
  tn_dim parts = tn_cuda_dim_mul(k, tn_cuda_dim_mul(k, a->batches, a->s), tn_cuda_dim_k(k, a->h));
  parts = tn_cuda_dim_mul(k, tn_cuda_dim_mul(k, parts, f->splits), f->several);
  f->sums = tn_cuda_scratch(k, tn_cuda_dim_mul(k, parts, tn_cuda_dim_k(k, a->dv * 4)));
  f->tops = tn_cuda_scratch(k, tn_cuda_dim_mul(k, parts, tn_cuda_dim_k(k, 8)));
}

/* ---- where a block is ---------------------------------------------------------------------------------- */

static void open_block(few *f) {
  tn_cuda_att *a = f->a;
  tn_cuda_kernel *k = a->k;
  tn_ll *e = k->e;
  ll_val unit = tn_cuda_block(k, 0), chunks = tn_cuda_to32(a, tn_ll_dim(&k->body, f->chunks));
  f->nsplits = tn_cuda_to32(a, tn_ll_dim(&k->body, f->splits));
  f->at = ll_imod(e, unit, f->nsplits);
  unit = ll_idiv(e, unit, f->nsplits);
  ll_val chunk = ll_imod(e, unit, chunks);
  unit = ll_idiv(e, unit, chunks);
  tn_cuda_att_unit(a, tn_cuda_i64(k, ll_idiv(e, unit, n32(f, a->hkv))),
                   tn_cuda_i64(k, ll_imod(e, unit, n32(f, a->hkv))));
  f->r0 = ll_imul(e, tn_cuda_i64(k, chunk), ll_k(e, f->rows));
  f->nrows = ll_imin(e, ll_sub(e, ll_imul(e, a->nq, ll_k(e, a->g)), f->r0), ll_k(e, f->rows));
  f->warp = tn_cuda_warp(k);
  ll_val lane = tn_cuda_lane(k);
  f->lane = ll_and(e, lane, n32(f, f->lanes - 1));
  f->group = ll_lshr(e, lane, n32(f, __builtin_ctz(f->lanes)));
  for (uint32_t r = 0; r < f->rows; r++) { /* rows past the end are those of the last one again */
    ll_val row = ll_imin(e, ll_k(e, r), ll_sub(e, f->nrows, ll_k(e, 1)));
    tn_cuda_att_row(a, ll_iadd(e, f->r0, row), &f->query[r], &f->head[r]);
  }
}

/* This block's part of the keys: a multiple of what its warps take at once. */
static void find_keys(few *f) {
  tn_cuda_att *a = f->a;
  tn_ll *e = a->k->e;
  tn_cuda_att_range(a, f->r0, f->nrows, &f->lo, &f->hi);
  if (f->step) {
    ll_val last = tn_cuda_to32(a, a->last),
           first = ll_icmp(e, LLVMIntEQ, ll_or(e, f->at, f->warp), n32(f, 0));
    ll_val seen = ll_and(e, ll_icmp(e, LLVMIntSLE, f->lo, last), ll_icmp(e, LLVMIntSLT, last, f->hi));
    f->own = ll_and(e, first, seen);
    f->hi = ll_imin(e, f->hi, last);
  }
  if (!f->split) return;
  int64_t step = (int64_t)WARPS * (32 / f->lanes) * f->steps;
  ll_val zero = n32(f, 0), n = ll_imax(e, ll_sub(e, f->hi, f->lo), zero);
  ll_val per = ll_ceildiv(e, ll_ceildiv(e, n, f->nsplits), n32(f, step));
  ll_val begin = ll_mul(e, ll_mul(e, per, n32(f, step)), f->at);
  f->lo = ll_add(e, f->lo, ll_imin(e, begin, n));
  f->hi = ll_imin(e, f->hi, ll_add(e, f->lo, ll_mul(e, per, n32(f, step))));
}

/* ---- queries ------------------------------------------------------------------------------------------- */

/* Chunk i of all rows' chunks: its row and first feature. */
static void chunk_at(few *f, uint32_t side, ll_val i, ll_val *row, ll_val *j) {
  tn_ll *e = f->a->k->e;
  ll_val n = n32(f, features(f, side) / f->wide);
  *row = ll_idiv(e, i, n);
  *j = ll_imul(e, ll_imod(e, i, n), n32(f, f->wide));
}
static void all_chunks(few *f, uint32_t side, ll_loop *l) {
  tn_ll *e = f->a->k->e;
  int64_t n = f->rows * (features(f, side) / f->wide);
  ll_loop_begin(e, l, tn_cuda_thread(f->a->k), n32(f, n), n32(f, THREADS), NULL, 0);
  tn_ll_body_forget(&f->a->k->body);
}
static void chunks_end(few *f, ll_loop *l) {
  ll_loop_end(f->a->k->e, l, NULL);
  tn_ll_body_forget(&f->a->k->body);
}

static void stage_queries(few *f) {
  tn_cuda_att *a = f->a;
  tn_ll *e = a->k->e;
  ll_loop l;
  ll_val i, j, query, head;
  f->queries = tn_cuda_shared(a->k, f->rows * (uint32_t)a->d * 4, 16);
  all_chunks(f, 0, &l);
  chunk_at(f, 0, l.iv, &i, &j);
  ll_val row = ll_imin(e, tn_cuda_i64(a->k, i), ll_sub(e, f->nrows, ll_k(e, 1)));
  tn_cuda_att_row(a, ll_iadd(e, f->r0, row), &query, &head);
  ll_val x = tn_cuda_att_load_query(a, query, head, j, f->wide);
  ll_val at = ll_add(e, ll_mul(e, i, n32(f, a->d)), j);
  ll_store(e, ll_fmul(e, x, ll_f(e, x, a->scale)), floats(f, f->queries, at), wide_align(f));
  chunks_end(f, &l);
  tn_cuda_barrier(a->k);
}

/* First feature of a lane's part p; parts behind the end are the last one again. *none: i1, or NULL. */
static ll_val part_at(few *f, uint32_t side, uint32_t p, ll_val *none) {
  tn_ll *e = f->a->k->e;
  int64_t last = features(f, side) - f->wide;
  ll_val j = ll_imul(e, ll_iadd(e, n32(f, (int64_t)p * f->lanes), f->lane), n32(f, f->wide));
  *none = NULL;
  if (padded(f, side) == features(f, side)) return j;
  *none = ll_icmp(e, LLVMIntSGT, j, n32(f, last));
  return ll_imin(e, j, n32(f, last));
}
static void take_queries(few *f) {
  tn_ll *e = f->a->k->e;
  for (uint32_t r = 0; r < f->rows; r++)
    for (uint32_t p = 0; p < f->parts[0]; p++) {
      ll_val none, j = part_at(f, 0, p, &none);
      ll_val at = floats(f, f->queries, ll_iadd(e, n32(f, (int64_t)r * f->a->d), j));
      ll_val x = ll_load(e, wide_type(f), at, wide_align(f));
      if (none) x = ll_select(e, none, ll_f(e, x, 0), x);
      f->q[r * f->parts[0] + p] = x;
    }
}

/* ---- keys ---------------------------------------------------------------------------------------------- */

/* What a lane carries over its keys. */
typedef struct carried {
  ll_val top[MOST_ROWS], sum[MOST_ROWS], acc[KEPT]; /* acc: [row][part] */
} carried;

static uint32_t pack(few *f, carried *c, ll_val *out, bool back) {
  uint32_t n = 0;
  for (uint32_t r = 0; r < f->rows; r++) {
    ll_val *of[2 + MOST_PARTS * 4] = {&c->top[r], &c->sum[r]};
    for (uint32_t p = 0; p < f->parts[1]; p++) of[2 + p] = &c->acc[r * f->parts[1] + p];
    for (uint32_t i = 0; i < 2 + f->parts[1]; i++, n++) {
      if (back)
        *of[i] = out[n];
      else
        out[n] = *of[i];
    }
  }
  return n;
}

/* Scores of the lane's keys, the same in all lanes of a key; x: [step][row]. */
static void score_keys(few *f, const ll_val *key, const ll_val *row, ll_val *x) {
  tn_cuda_att *a = f->a;
  tn_ll *e = a->k->e;
  for (uint32_t u = 0; u < f->steps; u++)
    for (uint32_t p = 0; p < f->parts[0]; p++) {
      ll_val none, keys = tn_cuda_att_load(a, &a->key, row[u], part_at(f, 0, p, &none), f->wide);
      for (uint32_t r = 0; r < f->rows; r++) {
        ll_val *dot = &x[u * f->rows + r], q = f->q[r * f->parts[0] + p];
        *dot = p ? ll_fma(e, q, keys, *dot) : ll_fmul(e, q, keys);
      }
    }
  for (uint32_t u = 0; u < f->steps; u++) {
    ll_val here = ll_icmp(e, LLVMIntSLT, key[u], f->hi);
    ll_val known = ll_imin(e, key[u], ll_sub(e, f->hi, n32(f, 1)));
    for (uint32_t r = 0; r < f->rows; r++) {
      ll_val dot = x[u * f->rows + r], in = here;
      if (f->wide > 1) dot = ll_reduce_fadd(e, dot);
      dot = tn_cuda_warp_reduce(a->k, dot, f->lanes, tn_cuda_fadd);
      dot = tn_cuda_att_score(a, dot, f->query[r], f->head[r], known, &in);
      if (!a->single) in = tn_cuda_att_sees(a, in, tn_cuda_to32(a, ll_add(e, f->query[r], a->last)), known);
      x[u * f->rows + r] = ll_select(e, in, dot, ll_f(e, dot, -__builtin_inf()));
    }
  }
}

/* Scores become weights; the sums move to the new largest score, which is the warp's. */
static void weigh(few *f, ll_val *x, carried *c) {
  tn_cuda_att *a = f->a;
  tn_ll *e = a->k->e;
  for (uint32_t r = 0; r < f->rows; r++) {
    ll_val top = c->top[r];
    for (uint32_t u = 0; u < f->steps; u++) top = ll_fmax(e, x[u * f->rows + r], top);
    for (uint32_t by = f->lanes; by < 32; by *= 2) top = ll_fmax(e, tn_cuda_shuffle_xor(a->k, top, by), top);
    ll_val base = tn_cuda_att_base(a, top), alpha = tn_cuda_att_exp(a, c->top[r], base);
    c->top[r] = top;
    c->sum[r] = ll_fmul(e, c->sum[r], alpha);
    for (uint32_t u = 0; u < f->steps; u++) {
      ll_val *p = &x[u * f->rows + r];
      *p = tn_cuda_att_exp(a, *p, base);
      c->sum[r] = ll_fadd(e, c->sum[r], *p);
    }
    for (uint32_t p = 0; p < f->parts[1]; p++) {
      ll_val *acc = &c->acc[r * f->parts[1] + p];
      *acc = ll_fmul(e, *acc, ll_wide(e, alpha, f->wide > 1));
    }
  }
}

static void add_values(few *f, const ll_val *row, const ll_val *x, carried *c) {
  tn_cuda_att *a = f->a;
  tn_ll *e = a->k->e;
  for (uint32_t u = 0; u < f->steps; u++)
    for (uint32_t p = 0; p < f->parts[1]; p++) {
      ll_val none, v = tn_cuda_att_load(a, &a->value, row[u], part_at(f, 1, p, &none), f->wide);
      for (uint32_t r = 0; r < f->rows; r++) {
        ll_val *acc = &c->acc[r * f->parts[1] + p];
        *acc = ll_fma(e, ll_wide(e, x[u * f->rows + r], f->wide > 1), v, *acc);
      }
    }
}

/* ---- the newest key ------------------------------------------------------------------------------------ */

static void make_fresh(few *f) {
  tn_cuda_att *a = f->a;
  tn_ll *e = a->k->e;
  if (!f->step) return;
  ll_val chunk = LLVMBuildTrunc(e->b, f->r0, e->i32, "");
  ll_val writes = ll_icmp(e, LLVMIntEQ, ll_or(e, f->at, chunk), n32(f, 0));
  f->fresh[0] = tn_cuda_att_step_row(a, &a->key, THREADS, f->wide, writes);
  f->fresh[1] = tn_cuda_att_step_row(a, &a->value, THREADS, f->wide, writes);
}

static ll_val fresh_part(few *f, uint32_t side, uint32_t p) {
  ll_val none, j = part_at(f, side, p, &none);
  return ll_load(f->a->k->e, wide_type(f), floats(f, f->fresh[side], j), wide_align(f));
}

/* One group of lanes of one warp of one split takes it, as if it were the first of its keys. */
static void take_fresh(few *f, carried *c) {
  tn_cuda_att *a = f->a;
  tn_ll *e = a->k->e;
  uint32_t steps = f->steps;
  ll_val x[MOST_ROWS], last = tn_cuda_to32(a, a->last);
  if (!f->step) return;
  ll_val own = ll_and(e, f->own, ll_icmp(e, LLVMIntEQ, f->group, n32(f, 0)));
  for (uint32_t r = 0; r < f->rows; r++) {
    for (uint32_t p = 0; p < f->parts[0]; p++) {
      ll_val q = f->q[r * f->parts[0] + p], key = fresh_part(f, 0, p);
      x[r] = p ? ll_fma(e, q, key, x[r]) : ll_fmul(e, q, key);
    }
    if (f->wide > 1) x[r] = ll_reduce_fadd(e, x[r]);
    ll_val in = own, dot = tn_cuda_warp_reduce(a->k, x[r], f->lanes, tn_cuda_fadd);
    dot = tn_cuda_att_score(a, dot, f->query[r], f->head[r], last, &in);
    x[r] = ll_select(e, in, dot, ll_f(e, dot, -__builtin_inf()));
  }
  f->steps = 1;
  weigh(f, x, c);
  f->steps = steps;
  for (uint32_t p = 0; p < f->parts[1]; p++) {
    ll_val v = fresh_part(f, 1, p);
    v = ll_select(e, own, v, ll_f(e, v, 0)); /* 0 times an infinite value is no 0 */
    for (uint32_t r = 0; r < f->rows; r++) {
      ll_val *acc = &c->acc[r * f->parts[1] + p];
      *acc = ll_fma(e, ll_wide(e, x[r], f->wide > 1), v, *acc);
    }
  }
}

/* All keys from f->lo to f->hi: each warp takes some at once, in turns. */
static void over_keys(few *f, carried *c) {
  tn_cuda_att *a = f->a;
  tn_ll *e = a->k->e;
  int64_t groups = 32 / f->lanes, own = groups * f->steps;
  ll_val state[LL_LOOP_PHIS], x[MOST_STEPS * MOST_ROWS], key[MOST_STEPS], row[MOST_STEPS];
  uint32_t n = pack(f, c, state, false);
  ll_loop l;
  ll_val first = ll_add(e, f->lo, ll_mul(e, f->warp, n32(f, own)));
  ll_loop_begin(e, &l, first, f->hi, n32(f, WARPS * own), state, n);
  tn_ll_body_forget(&a->k->body);
  pack(f, c, l.phi, true);
  for (uint32_t u = 0; u < f->steps; u++) {
    key[u] = ll_add(e, ll_iadd(e, l.iv, n32(f, u * groups)), f->group);
    row[u] = tn_cuda_att_key_row(a, ll_imin(e, key[u], ll_sub(e, f->hi, n32(f, 1))));
  }
  score_keys(f, key, row, x);
  weigh(f, x, c);
  add_values(f, row, x, c);
  pack(f, c, state, false);
  ll_loop_end(e, &l, state);
  tn_ll_body_forget(&a->k->body);
  pack(f, c, l.out, true);
}

/* ---- the end of a block -------------------------------------------------------------------------------- */

/* A warp's part of a row: [rows][dv] sums, then [rows][2]. */
static ll_val parked_at(few *f, ll_val warp, ll_val i) {
  int64_t each = f->rows * (f->a->dv + 2);
  return floats(f, f->parked, ll_add(f->a->k->e, ll_imul(f->a->k->e, warp, n32(f, each)), i));
}

static void park(few *f, carried *c) {
  tn_cuda_att *a = f->a;
  tn_ll *e = a->k->e;
  ll_if mine;
  f->parked = tn_cuda_shared(a->k, WARPS * f->rows * (uint32_t)(a->dv + 2) * 4, 16);
  for (uint32_t r = 0; r < f->rows; r++)
    for (uint32_t by = f->lanes; by < 32; by *= 2) {
      c->sum[r] = ll_fadd(e, c->sum[r], tn_cuda_shuffle_xor(a->k, c->sum[r], by));
      for (uint32_t p = 0; p < f->parts[1]; p++) {
        ll_val *acc = &c->acc[r * f->parts[1] + p], other = *acc;
        for (uint32_t i = 0; f->wide > 1 && i < f->wide; i++)
          other = ll_put(e, other, tn_cuda_shuffle_xor(a->k, ll_lane(e, *acc, i), by), i);
        if (f->wide == 1) other = tn_cuda_shuffle_xor(a->k, *acc, by);
        *acc = ll_fadd(e, *acc, other);
      }
    }
  ll_if_begin(e, &mine, ll_icmp(e, LLVMIntEQ, f->group, n32(f, 0)));
  for (uint32_t r = 0; r < f->rows; r++) {
    ll_val tail = n32(f, f->rows * a->dv + 2 * r), next = n32(f, f->rows * a->dv + 2 * r + 1);
    ll_store(e, c->top[r], parked_at(f, f->warp, tail), 4);
    ll_store(e, c->sum[r], parked_at(f, f->warp, next), 4);
    for (uint32_t p = 0; p < f->parts[1]; p++) { /* the last part of several lanes has the same place */
      ll_val none, j = part_at(f, 1, p, &none);
      ll_if there;
      if (none) ll_if_begin(e, &there, ll_not(e, none));
      ll_val at = ll_iadd(e, n32(f, r * a->dv), j);
      ll_store(e, c->acc[r * f->parts[1] + p], parked_at(f, f->warp, at), f->wide > 1 ? 8 : 4);
      if (none) ll_if_end(e, &there);
    }
  }
  ll_if_end(e, &mine);
  tn_cuda_barrier(a->k);
}

/* The warps' parts of a chunk, together. */
static void join(few *f, ll_val row, ll_val j, ll_val *top, ll_val *sum, ll_val *acc) {
  tn_cuda_att *a = f->a;
  tn_ll *e = a->k->e;
  ll_val tops[WARPS], at = ll_add(e, n32(f, f->rows * a->dv), ll_shl(e, row, n32(f, 1)));
  for (uint32_t w = 0; w < WARPS; w++) {
    tops[w] = ll_load(e, e->f32, parked_at(f, n32(f, w), at), 4);
    *top = w ? ll_fmax(e, tops[w], *top) : tops[w];
  }
  ll_val base = tn_cuda_att_base(a, *top);
  for (uint32_t w = 0; w < WARPS; w++) {
    ll_val factor = tn_cuda_att_exp(a, tops[w], base);
    ll_val s = ll_load(e, e->f32, parked_at(f, n32(f, w), ll_add(e, at, n32(f, 1))), 4);
    ll_val from = parked_at(f, n32(f, w), ll_add(e, ll_mul(e, row, n32(f, a->dv)), j));
    ll_val x = ll_load(e, wide_type(f), from, f->wide > 1 ? 8 : 4);
    ll_val many = ll_wide(e, factor, f->wide > 1);
    *sum = w ? ll_fma(e, s, factor, *sum) : ll_fmul(e, s, factor);
    *acc = w ? ll_fma(e, x, many, *acc) : ll_fmul(e, x, many);
  }
}

/* Number of a row among all rows, times splits, plus this one. */
static ll_val split_at(few *f, ll_val row) {
  tn_cuda_att *a = f->a;
  tn_ll *e = a->k->e;
  ll_val group = ll_iadd(e, ll_imul(e, a->b, ll_k(e, a->hkv)), a->hk);
  ll_val all = ll_iadd(e, ll_imul(e, group, ll_imul(e, a->nq, ll_k(e, a->g))), row);
  return ll_iadd(e, ll_imul(e, all, tn_cuda_i64(a->k, f->nsplits)), tn_cuda_i64(a->k, f->at));
}
static ll_val in_scratch(few *f, tn_dim offset, ll_val i) {
  tn_ll *e = f->a->k->e;
  ll_val base = tn_cuda_global(f->a->k, tn_cuda_scratch_at(f->a->k, offset));
  return ll_at(e, base, ll_imul(e, i, ll_k(e, 4)));
}

static void leave(few *f, ll_val row, ll_val j, ll_val top, ll_val sum, ll_val acc) {
  tn_cuda_att *a = f->a;
  tn_ll *e = a->k->e;
  ll_if first;
  ll_val at = split_at(f, row);
  ll_val place = ll_iadd(e, ll_imul(e, at, ll_k(e, a->dv)), tn_cuda_i64(a->k, j));
  ll_store(e, acc, in_scratch(f, f->sums, place), wide_align(f));
  ll_if_begin(e, &first, ll_icmp(e, LLVMIntEQ, j, n32(f, 0)));
  ll_val tops = in_scratch(f, f->tops, ll_imul(e, at, ll_k(e, 2)));
  ll_store(e, top, tops, 8);
  ll_store(e, sum, ll_at(e, tops, ll_k(e, 4)), 4);
  ll_if_end(e, &first);
}

/* What a row is, where no other block has keys of it. */
static void give(few *f, ll_val row, ll_val j, ll_val sum, ll_val acc) {
  tn_cuda_att *a = f->a;
  tn_ll *e = a->k->e;
  ll_val query, head;
  tn_ll_body_forget(&a->k->body);
  tn_cuda_att_row(a, row, &query, &head);
  acc = ll_fmul(e, acc, ll_wide(e, tn_cuda_att_inverse(a, sum), f->wide > 1));
  tn_cuda_att_put(a, query, head, j, f->wide, acc);
  tn_ll_body_forget(&a->k->body);
}

static void finish(few *f) {
  tn_cuda_att *a = f->a;
  tn_ll *e = a->k->e;
  ll_val i, j, top, sum, acc;
  ll_loop l;
  ll_if there, several;
  all_chunks(f, 1, &l);
  chunk_at(f, 1, l.iv, &i, &j);
  ll_if_begin(e, &there, ll_icmp(e, LLVMIntSLT, tn_cuda_i64(a->k, i), f->nrows));
  tn_ll_body_forget(&a->k->body);
  join(f, i, j, &top, &sum, &acc);
  ll_val row = ll_iadd(e, f->r0, tn_cuda_i64(a->k, i));
  if (f->split) {
    ll_if_begin(e, &several, ll_icmp(e, LLVMIntSGT, f->nsplits, n32(f, 1)));
    leave(f, row, j, top, sum, acc);
    ll_if_else(e, &several);
  }
  give(f, row, j, sum, acc);
  if (f->split) ll_if_end(e, &several);
  ll_if_end(e, &there);
  chunks_end(f, &l);
}

static void write_rows(few *f, tn_dim only) {
  tn_cuda_att *a = f->a;
  tn_cuda_kernel *k = a->k;
  tn_ll *e = k->e;
  carried c;
  tn_dim grid = tn_cuda_dim_mul(k, tn_cuda_dim_mul(k, a->batches, tn_cuda_dim_k(k, a->hkv)), f->chunks);
  tn_cuda_shape shape = {.threads = THREADS,
                         .grid = {tn_cuda_dim_mul(k, tn_cuda_dim_mul(k, grid, f->splits), only)}};
  tn_cuda_launch_begin(k, &shape);
  tn_cuda_att_open(a);
  open_block(f);
  find_keys(f);
  make_fresh(f);
  stage_queries(f);
  take_queries(f);
  for (uint32_t i = 0; i < f->rows; i++) {
    c.top[i] = ll_real(e, e->f32, -__builtin_inf());
    c.sum[i] = ll_real(e, e->f32, 0);
  }
  for (uint32_t i = 0; i < f->rows * f->parts[1]; i++) c.acc[i] = ll_real(e, wide_type(f), 0);
  take_fresh(f, &c);
  over_keys(f, &c);
  park(f, &c);
  finish(f);
  tn_cuda_launch_end(k);
}

/* ---- the splits together ------------------------------------------------------------------------------- */

static ll_val largest(few *f, ll_val first, ll_val n) {
  tn_ll *e = f->a->k->e;
  ll_loop l;
  ll_val top = ll_real(e, e->f32, -__builtin_inf());
  ll_loop_begin(e, &l, ll_k(e, 0), n, ll_k(e, 1), &top, 1);
  ll_val at = ll_imul(e, ll_iadd(e, first, l.iv), ll_k(e, 2));
  top = ll_fmax(e, ll_load(e, e->f32, in_scratch(f, f->tops, at), 8), l.phi[0]);
  ll_loop_end(e, &l, &top);
  return l.out[0];
}

/* Sum of weights and weighted sum at features j .. of the row whose splits begin at `first`. */
static void combine(few *f, ll_val first, ll_val n, ll_val j, ll_val *sum, ll_val *acc) {
  tn_cuda_att *a = f->a;
  tn_ll *e = a->k->e;
  ll_loop l;
  ll_val base = tn_cuda_att_base(a, largest(f, first, n));
  ll_val state[] = {ll_real(e, e->f32, 0), ll_real(e, wide_type(f), 0)};
  ll_loop_begin(e, &l, ll_k(e, 0), n, ll_k(e, 1), state, 2);
  ll_val at = ll_iadd(e, first, l.iv), tops = in_scratch(f, f->tops, ll_imul(e, at, ll_k(e, 2)));
  ll_val factor = tn_cuda_att_exp(a, ll_load(e, e->f32, tops, 8), base);
  ll_val from = in_scratch(f, f->sums, ll_iadd(e, ll_imul(e, at, ll_k(e, a->dv)), j));
  ll_val x = ll_load(e, wide_type(f), from, wide_align(f));
  state[0] = ll_fma(e, ll_load(e, e->f32, ll_at(e, tops, ll_k(e, 4)), 4), factor, l.phi[0]);
  state[1] = ll_fma(e, x, ll_wide(e, factor, f->wide > 1), l.phi[1]);
  ll_loop_end(e, &l, state);
  *sum = l.out[0];
  *acc = l.out[1];
}

static void write_together(few *f) {
  tn_cuda_att *a = f->a;
  tn_cuda_kernel *k = a->k;
  tn_ll *e = k->e;
  ll_if inside;
  ll_val query, head, sum, acc;
  int64_t each = a->dv / f->wide;
  tn_dim rows = tn_cuda_dim_mul(k, tn_cuda_dim_mul(k, a->batches, a->s), tn_cuda_dim_k(k, a->h));
  tn_dim units = tn_cuda_dim_mul(k, rows, tn_cuda_dim_k(k, each));
  tn_cuda_shape shape = {.threads = THREADS,
                         .grid = {tn_cuda_dim_mul(k, tn_cuda_dim_ceildiv(k, units, THREADS), f->several)}};
  tn_cuda_launch_begin(k, &shape);
  tn_cuda_att_open(a);
  ll_val unit = tn_cuda_position(k, THREADS);
  ll_if_begin(e, &inside, ll_icmp(e, LLVMIntSLT, unit, tn_ll_dim(&k->body, units)));
  tn_ll_body_forget(&k->body);
  ll_val row = ll_idiv(e, unit, ll_k(e, each)),
         j = ll_imul(e, ll_imod(e, unit, ll_k(e, each)), ll_k(e, f->wide));
  ll_val per = ll_imul(e, a->nq, ll_k(e, a->g)), group = ll_idiv(e, row, per),
         n = tn_ll_dim(&k->body, f->splits);
  a->b = ll_idiv(e, group, ll_k(e, a->hkv));
  a->hk = ll_imod(e, group, ll_k(e, a->hkv));
  tn_cuda_att_row(a, ll_imod(e, row, per), &query, &head);
  combine(f, ll_imul(e, row, n), n, j, &sum, &acc);
  acc = ll_fmul(e, acc, ll_wide(e, tn_cuda_att_inverse(a, sum), f->wide > 1));
  tn_cuda_att_put(a, query, head, tn_cuda_to32(a, j), f->wide, acc);
  ll_if_end(e, &inside);
  tn_cuda_launch_end(k);
}

void tn_cuda_att_few(tn_cuda_att *a, tn_dim only) {
  few f = {.a = a, .step = a->key.fresh || a->value.fresh};
  plan(&f);
  plan_splits(&f, only);
  write_rows(&f, only);
  if (!f.split) return;
  if (f.wide > 4) f.wide = a->k->e->lanes = 4;
  write_together(&f);
}
