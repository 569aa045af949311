/* attention_few.c - attention of few rows, that is, decoding: nothing is transposed, scores are products of
 * queries with the rows of keys where they lie, in whatever type. Threads share the rows of all groups
 * evenly; the rows of one group that a thread has go over the keys together, block by block and a few at
 * once, so that a key is loaded once for several heads. What a row computes does not depend on who goes with
 * it. */
#include "backends/cpu/attention/attention.h"
#include "backends/llvm/convert.h"

#define GRANULE 16   /* row buffers are a multiple of so many elements wide */
#define KEYS 64      /* keys per block */
#define MOST_ROWS 16 /* of a group, where there are several queries */
#define MOST 16384   /* values of the rows of a group, otherwise */
#define COLUMNS 4    /* vectors of the weighted sum at once */
#define CHAINS 4     /* rows times keys at once in the weighted sum: sums that do not wait for each other */

typedef struct side {
  tn_value v;
  tn_dtype type;     /* of rows */
  ll_val cache;      /* NULL: comes through the evaluator */
  ll_val staged;     /* f32 rows of a block, where there is no cache */
  ll_val step, rows; /* bytes from row to row; the block's first row */
  ll_val width;      /* features */
} side;

typedef struct few {
  tn_cpu_att *a;
  side k, v;
  uint32_t at_once;  /* rows that go over the keys together; scratch has room for whole such chunks */
  ll_val scores;     /* of a chunk of rows and a block, [row][KEYS] */
  ll_val factors;    /* of the rows of a chunk: what their sums are worth now */
  ll_val offset;     /* a key's row less its position */
  ll_val last;       /* behind the last key of the run */
  ll_val next, left; /* first key and keys of what comes next, for key head next_head */
  ll_val next_head;
  int64_t group, room;      /* rows of a group; the same, rounded up to chunks */
  ll_val first, end;        /* rows of the batch entry that this thread has */
  ll_val heads, past;       /* their key heads */
  ll_val qs, acc, top, sum; /* of `room` rows for each of them */
} few;

static ll_val score_at(few *f, uint32_t row, ll_val key) {
  tn_ll *e = f->a->k->e;
  return tn_cpu_att_elem(f->a, f->scores, ll_iadd(e, key, ll_k(e, (int64_t)row * KEYS)));
}

/* ---- rows of a block ---- */
typedef struct staged_row {
  few *f;
  side *s;
  ll_val key, to;
} staged_row;

static void stage_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *none) {
  staged_row *r = ctx;
  (void)none;
  ll_val x = tn_cpu_att_load(r->f->a, r->s->v, r->key, j, mask);
  ll_store(k->e, x, tn_cpu_att_elem(r->f->a, r->to, j.v), 4);
}

static void block_rows(few *f, side *s) {
  tn_cpu_att *a = f->a;
  tn_ll *e = a->k->e;
  if (s->cache) {
    s->rows = ll_at(e, s->cache, tn_cpu_att_row_bytes(a, s->v, ll_add(e, a->kb, f->offset)));
    return;
  }
  ll_loop l;
  s->rows = s->staged;
  ll_loop_begin(e, &l, ll_k(e, 0), a->kn, ll_k(e, 1), NULL, 0);
  tn_ll_body_forget(&a->k->body);
  staged_row r = {f, s, ll_add(e, a->kb, l.iv), ll_at(e, s->staged, ll_mul(e, l.iv, s->step))};
  tn_cpu_columns(a->k, ll_k(e, 0), s->width, stage_column, &r, NULL, 0);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&a->k->body);
}

/* ---- scores ---- */
typedef struct dots {
  few *f;
  ll_val q, keys[64];
  uint32_t count; /* keys */
} dots;

/* acc[row][key] */
static void dots_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *acc) {
  dots *d = ctx;
  few *f = d->f;
  tn_ll *e = k->e;
  ll_val q[64];
  for (uint32_t r = 0; r < f->at_once; r++) {
    ll_val row = ll_at(e, d->q, ll_imul(e, f->a->q_stride, ll_k(e, r)));
    q[r] = ll_load(e, ll_vec(e, e->f32), tn_cpu_att_elem(f->a, row, j.v), 4);
  }
  for (uint32_t i = 0; i < d->count; i++) {
    ll_val key = tn_cpu_att_load_at(f->a, f->k.type, d->keys[i], j.v, mask);
    for (uint32_t r = 0; r < f->at_once; r++)
      acc[r * d->count + i] = ll_fma(e, q[r], key, acc[r * d->count + i]);
  }
}

/* Lane i becomes the sum of the lanes of acc[i]: two vectors with as many lanes left become one, again and
 * again. */
static ll_val sum_lanes(tn_ll *e, ll_val *acc) {
  for (uint32_t s = 1; s < e->lanes; s *= 2) {
    int low[64], high[64];
    for (uint32_t i = 0; i < e->lanes; i++) {
      low[i] = (int)(i & s ? i - s + e->lanes : i);
      high[i] = (int)(i & s ? i + e->lanes : i + s);
    }
    for (uint32_t r = 0; r < e->lanes; r += 2 * s)
      acc[r] = ll_fadd(e, ll_shuffle(e, acc[r], acc[r + s], low, e->lanes),
                       ll_shuffle(e, acc[r], acc[r + s], high, e->lanes));
  }
  return acc[0];
}

/* Scores of a vector's worth of rows and keys from j on; of the last keys some are there more than once. */
static void score_vector(few *f, ll_val q, ll_val j, bool tail) {
  tn_cpu_att *a = f->a;
  tn_ll *e = a->k->e;
  dots d = {.f = f, .q = q, .count = e->lanes / f->at_once};
  ll_val acc[64], end = ll_sub(e, ll_sub(e, a->kn, j), ll_k(e, 1));
  ll_val first = ll_at(e, f->k.rows, ll_mul(e, j, f->k.step));
  for (uint32_t i = 0; i < d.count; i++) {
    ll_val at = tail ? ll_imin(e, ll_k(e, i), end) : ll_k(e, i);
    d.keys[i] = ll_at(e, first, ll_imul(e, at, f->k.step));
  }
  for (uint32_t i = 0; i < e->lanes; i++) acc[i] = ll_zero(ll_vec(e, e->f32));
  tn_cpu_columns(a->k, ll_k(e, 0), a->d, dots_column, &d, acc, e->lanes);
  ll_val sums = sum_lanes(e, acc);
  for (uint32_t r = 0; r < f->at_once; r++) {
    int part[64];
    for (uint32_t i = 0; i < d.count; i++) part[i] = (int)(r * d.count + i);
    ll_store(e, d.count < e->lanes ? ll_shuffle(e, sums, sums, part, d.count) : sums, score_at(f, r, j), 4);
  }
}

/* The first chunk of rows fetches what comes next meanwhile. */
static void fetch(few *f, ll_val chunk, ll_val j, uint32_t count) {
  tn_cpu_att *a = f->a;
  tn_ll *e = a->k->e;
  ll_val n = ll_imin(e, ll_sub(e, f->left, j), ll_k(e, count)), key = ll_add(e, f->next, j);
  n = ll_select(e, ll_icmp(e, LLVMIntEQ, chunk, ll_k(e, 0)), n, ll_k(e, 0));
  ll_val head = a->hk;
  a->hk = f->next_head;
  tn_cpu_att_fetch(a, a->key, f->k.cache, key, n);
  tn_cpu_att_fetch(a, a->v, f->v.cache, key, n);
  a->hk = head;
}

static void scores(few *f, ll_val chunk) {
  tn_cpu_att *a = f->a;
  tn_ll *e = a->k->e;
  uint32_t count = e->lanes / f->at_once;
  ll_val step = ll_k(e, count), full = ll_and(e, a->kn, ll_k(e, -(int64_t)count));
  ll_val q = ll_at(e, a->qs, ll_mul(e, chunk, a->q_stride));
  ll_loop l;
  for (int tail = 0; tail < 2; tail++) {
    ll_loop_begin(e, &l, tail ? full : ll_k(e, 0), tail ? a->kn : full, step, NULL, 0);
    tn_ll_body_forget(&a->k->body);
    fetch(f, chunk, l.iv, count);
    score_vector(f, q, l.iv, tail);
    ll_loop_end(e, &l, NULL);
    tn_ll_body_forget(&a->k->body);
  }
}

/* ---- softmax ---- */
/* Scores of row i of the unit, at `row`, become weights, and the factor of what was summed before goes to
 * `factor`. */
static void softmax(few *f, ll_val i, ll_val row, ll_val factor) {
  tn_cpu_att *a = f->a;
  tn_ll *e = a->k->e;
  ll_val x[KEYS], query, head, best = NULL, sum = NULL;
  uint32_t n = KEYS / e->lanes;
  tn_cpu_att_row(a, i, &query, &head);
  for (uint32_t v = 0; v < n; v++) {
    ll_val j = ll_k(e, (int64_t)v * e->lanes);
    ll_val score = ll_load(e, ll_vec(e, e->f32), tn_cpu_att_elem(a, row, j), 4);
    x[v] = tn_cpu_att_mask(a, score, query, head, j);
    best = best ? ll_fmax(e, x[v], best) : x[v];
  }
  ll_val top = tn_cpu_att_elem(a, a->top, i), total = tn_cpu_att_elem(a, a->sum, i);
  ll_val old = ll_load(e, e->f32, top, 4), now = ll_fmax(e, ll_reduce_with(e, best, ll_fmax), old);
  ll_val base = tn_cpu_att_base(a, now), alpha = tn_cpu_att_exp(a, old, base);
  for (uint32_t v = 0; v < n; v++) {
    x[v] = tn_cpu_att_exp(a, x[v], ll_splat(e, base));
    sum = sum ? ll_fadd(e, sum, x[v]) : x[v];
    ll_store(e, x[v], tn_cpu_att_elem(a, row, ll_k(e, (int64_t)v * e->lanes)), 4);
  }
  ll_store(e, now, top, 4);
  ll_store(e, ll_fma(e, ll_load(e, e->f32, total, 4), alpha, ll_reduce_fadd(e, sum)), total, 4);
  ll_store(e, alpha, factor, 4);
}

static void softmax_rows(few *f, ll_val chunk) {
  tn_cpu_att *a = f->a;
  tn_ll *e = a->k->e;
  ll_loop l;
  ll_val n = ll_imin(e, ll_sub(e, a->nrows, chunk), ll_k(e, f->at_once));
  ll_loop_begin(e, &l, ll_k(e, 0), n, ll_k(e, 1), NULL, 0);
  tn_ll_body_forget(&a->k->body);
  ll_val row = tn_cpu_att_elem(a, f->scores, ll_mul(e, l.iv, ll_k(e, KEYS)));
  softmax(f, ll_add(e, chunk, l.iv), row, tn_cpu_att_elem(a, f->factors, l.iv));
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&a->k->body);
}

/* ---- the weighted sum ---- */
typedef struct weighed {
  few *f;
  ll_val acc; /* of the chunk's first row */
} weighed;

/* Adds `count` keys from the loop's on to `vectors` vectors of columns j .. of each row:
 * acc[key][row][vector]. */
static void add_keys(const weighed *w, const ll_loop *l, ll_val j, ll_val mask, uint32_t count,
                     uint32_t vectors, ll_val *acc) {
  few *f = w->f;
  tn_ll *e = f->a->k->e;
  ll_val first = ll_at(e, f->v.rows, ll_mul(e, l->iv, f->v.step));
  for (uint32_t u = 0; u < count; u++) {
    ll_val x[COLUMNS], row = ll_at(e, first, ll_imul(e, ll_k(e, u), f->v.step));
    for (uint32_t v = 0; v < vectors; v++)
      x[v] = tn_cpu_att_load_at(f->a, f->v.type, row, ll_iadd(e, j, ll_k(e, (int64_t)v * e->lanes)), mask);
    for (uint32_t r = 0; r < f->at_once; r++) {
      ll_val p = ll_splat(e, ll_load(e, e->f32, score_at(f, r, ll_iadd(e, l->iv, ll_k(e, u))), 4));
      for (uint32_t v = 0; v < vectors; v++) {
        uint32_t to = (u * f->at_once + r) * vectors + v;
        acc[to] = ll_fma(e, p, x[v], l->phi[to]);
      }
    }
  }
}

static void weigh_columns(const weighed *w, ll_val j, ll_val mask, uint32_t vectors) {
  few *f = w->f;
  tn_cpu_att *a = f->a;
  tn_ll *e = a->k->e;
  ll_type t = ll_vec(e, e->f32);
  uint32_t keys = f->at_once < CHAINS ? CHAINS / f->at_once : 1, n = f->at_once * vectors;
  ll_val acc[LL_LOOP_PHIS], whole = ll_and(e, a->kn, ll_k(e, -(int64_t)keys));
  ll_loop l;
  for (uint32_t i = 0; i < keys * n; i++) acc[i] = ll_zero(t);
  ll_loop_begin(e, &l, ll_k(e, 0), whole, ll_k(e, keys), acc, keys * n);
  add_keys(w, &l, j, mask, keys, vectors, acc);
  ll_loop_end(e, &l, acc);
  for (uint32_t i = 0; i < n; i++) {
    acc[i] = l.out[i];
    for (uint32_t u = 1; u < keys; u++) acc[i] = ll_fadd(e, acc[i], l.out[u * n + i]);
  }
  if (keys > 1) {
    ll_loop_begin(e, &l, whole, a->kn, ll_k(e, 1), acc, n);
    add_keys(w, &l, j, mask, 1, vectors, acc);
    ll_loop_end(e, &l, acc);
  }
  for (uint32_t i = 0; i < n; i++) {
    ll_val row = ll_at(e, w->acc, ll_imul(e, a->acc_stride, ll_k(e, i / vectors)));
    ll_val p = tn_cpu_att_elem(a, row, ll_iadd(e, j, ll_k(e, (int64_t)(i % vectors) * e->lanes)));
    ll_val factor = ll_load(e, e->f32, tn_cpu_att_elem(a, f->factors, ll_k(e, i / vectors)), 4);
    ll_store(e, ll_fma(e, ll_load(e, t, p, 4), ll_splat(e, factor), l.out[i]), p, 4);
  }
}
static void weigh_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *none) {
  (void)k;
  (void)none;
  weigh_columns(ctx, j.v, mask, 1);
}

static void weigh(few *f, ll_val chunk) {
  tn_cpu_att *a = f->a;
  tn_ll *e = a->k->e;
  uint32_t vectors = e->lanes < 16 ? COLUMNS / 2 : COLUMNS; /* what registers hold */
  ll_val wide = ll_k(e, (int64_t)vectors * e->lanes);
  weighed w = {f, ll_at(e, a->acc, ll_mul(e, chunk, a->acc_stride))};
  ll_loop l;
  ll_val full = ll_and(e, a->dv, ll_sub(e, ll_k(e, 0), wide));
  ll_loop_begin(e, &l, ll_k(e, 0), full, wide, NULL, 0);
  weigh_columns(&w, l.iv, NULL, vectors);
  ll_loop_end(e, &l, NULL);
  tn_cpu_columns(a->k, full, a->dv, weigh_column, &w, NULL, 0);
}

/* ---- blocks ---- */
/* Runs `each` for every key head of the thread's rows, as the unit. */
static void each_head(few *f, void (*each)(few *)) {
  tn_cpu_att *a = f->a;
  tn_ll *e = a->k->e;
  ll_loop l;
  ll_loop_begin(e, &l, f->heads, f->past, ll_k(e, 1), NULL, 0);
  tn_ll_body_forget(&a->k->body);
  ll_val first = ll_mul(e, l.iv, ll_k(e, f->group)), end = ll_add(e, first, ll_k(e, f->group));
  ll_val at = ll_mul(e, ll_sub(e, l.iv, f->heads), ll_k(e, f->room));
  a->hk = l.iv;
  a->r0 = ll_sub(e, ll_imax(e, f->first, first), first);
  a->nrows = ll_sub(e, ll_sub(e, ll_imin(e, f->end, end), first), a->r0);
  a->qs = ll_at(e, f->qs, ll_mul(e, at, a->q_stride));
  a->acc = ll_at(e, f->acc, ll_mul(e, at, a->acc_stride));
  a->top = tn_cpu_att_elem(a, f->top, at);
  a->sum = tn_cpu_att_elem(a, f->sum, at);
  each(f);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&a->k->body);
}

/* Behind a head's part of a block comes the next head's, and behind the last one's the first one's of the
 * next block: that is how they lie in memory. */
static void find_next(few *f, ll_val step) {
  tn_cpu_att *a = f->a;
  tn_ll *e = a->k->e;
  ll_val head = ll_add(e, a->hk, ll_k(e, 1)), more = ll_icmp(e, LLVMIntSLT, head, f->past);
  ll_val next = ll_add(e, a->kb, step), left = ll_imin(e, ll_sub(e, f->last, next), step);
  f->next_head = ll_select(e, more, head, f->heads);
  f->next = ll_select(e, more, a->kb, next);
  f->left = ll_select(e, more, a->kn, left);
}

static void block(few *f) {
  tn_cpu_att *a = f->a;
  tn_ll *e = a->k->e;
  ll_loop l;
  find_next(f, ll_k(e, KEYS));
  block_rows(f, &f->k);
  block_rows(f, &f->v);
  ll_loop_begin(e, &l, ll_k(e, 0), a->nrows, ll_k(e, f->at_once), NULL, 0);
  tn_ll_body_forget(&a->k->body);
  scores(f, l.iv);
  softmax_rows(f, l.iv);
  weigh(f, l.iv);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&a->k->body);
}

/* Keys [lo, hi), which stand one behind the other. */
static void run(few *f, ll_val lo, ll_val hi) {
  tn_cpu_att *a = f->a;
  tn_ll *e = a->k->e;
  ll_val step = ll_k(e, KEYS);
  ll_loop l;
  ll_loop_begin(e, &l, lo, hi, step, NULL, 0);
  tn_ll_body_forget(&a->k->body);
  a->kb = l.iv;
  a->kn = ll_imin(e, ll_sub(e, hi, a->kb), step);
  f->last = hi;
  each_head(f, block);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&a->k->body);
}

/* A ring's keys are two runs: those of the lap before, and those of this one. */
static void runs(few *f, ll_val lo, ll_val hi) {
  tn_cpu_att *a = f->a;
  tn_ll *e = a->k->e;
  ll_val zero = ll_k(e, 0);
  f->offset = zero;
  if (!a->ring) {
    run(f, lo, hi);
    return;
  }
  ll_loop l;
  ll_loop_begin(e, &l, zero, ll_k(e, 2), ll_k(e, 1), NULL, 0);
  tn_ll_body_forget(&a->k->body);
  ll_val before = ll_icmp(e, LLVMIntEQ, l.iv, zero);
  f->offset = ll_sub(e, ll_select(e, before, a->rows, zero), a->lap);
  run(f, ll_select(e, before, lo, ll_imax(e, lo, a->lap)), ll_select(e, before, ll_imin(e, hi, a->lap), hi));
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&a->k->body);
}

static void begin_head(few *f) {
  tn_cpu_att_stage_queries(f->a);
  tn_cpu_att_clear(f->a);
  if (tn_cpu_att_is_step(f->a)) tn_cpu_att_step_begin(f->a);
}
static void finish_head(few *f) { tn_cpu_att_finish(f->a); }

/* The thread's rows of one batch entry. Keys are those that all of its rows may see, whoever has them. */
static void entry(few *f) {
  tn_cpu_att *a = f->a;
  tn_ll *e = a->k->e;
  ll_val lo, hi;
  f->heads = ll_udiv(e, f->first, ll_k(e, f->group));
  f->past = ll_ceildiv(e, f->end, ll_k(e, f->group));
  tn_cpu_att_least(a);
  a->r0 = ll_k(e, 0);
  a->nrows = ll_k(e, f->group);
  tn_cpu_att_range(a, &lo, &hi);
  if (tn_cpu_att_is_step(a)) hi = ll_imin(e, hi, a->last);
  each_head(f, begin_head);
  runs(f, lo, hi);
  each_head(f, finish_head);
}

/* ---- the kernel ---- */
bool tn_cpu_att_few_fit(int64_t s, int64_t h, int64_t hkv, int64_t d, int64_t dv) {
  if (s < 1 || hkv < 1 || h < hkv || d > MOST || dv > MOST) return false;
  if (s == 1) return h / hkv <= MOST / (d + dv + 1);
  return s <= MOST_ROWS && s * (h / hkv) <= MOST_ROWS;
}
bool tn_cpu_att_is_few(tn_cpu_att *a) {
  int64_t s, h, hkv, d, dv;
  return ll_const(a->s, &s) && ll_const(a->h, &h) && ll_const(a->hkv, &hkv) && ll_const(a->d, &d) &&
         ll_const(a->dv, &dv) && tn_cpu_att_few_fit(s, h, hkv, d, dv);
}

static side read_side(tn_cpu_att *a, tn_value v, ll_val step_cache, ll_val width) {
  tn_cpu_kernel *k = a->k;
  tn_ll *e = k->e;
  tn_type_info t = tn_cpu_type(k, v);
  tn_dim pad = tn_cpu_att_width(a, t.dims[3], GRANULE);
  side s = {.v = v, .width = width, .cache = step_cache ? step_cache : tn_cpu_arg_buffer(k, v)};
  s.type = s.cache ? t.dtype : TN_DT_f32;
  if (s.cache) {
    s.step = tn_cpu_att_row_step(a, v);
  } else {
    s.staged = tn_cpu_scratch(k, tn_cpu_dim_mul(k, tn_cpu_dim_k(k, KEYS), pad), 4);
    s.step = ll_imul(e, tn_ll_dim(&k->body, pad), ll_k(e, 4));
  }
  return s;
}

/* Rows at once: as many as the group has, but no more than keep their sums in registers. */
static uint32_t rows_at_once(const tn_ll *e, int64_t rows) {
  uint32_t most = e->lanes < 16 ? 2 : 4;
  for (uint32_t n = 1; n < most; n *= 2)
    if (rows <= n) return n;
  return most;
}

static void prepare(few *f) {
  tn_cpu_att *a = f->a;
  tn_cpu_kernel *k = a->k;
  int64_t s = 1, kv = 1;
  (void)ll_const(a->s, &s);
  (void)ll_const(a->hkv, &kv);
  (void)ll_const(ll_imul(k->e, a->s, a->g), &f->group);
  a->single = s == 1;
  f->at_once = rows_at_once(k->e, f->group);
  f->room = (f->group + f->at_once - 1) / f->at_once * f->at_once;
  tn_cpu_att_take_rows(a, tn_cpu_dim_k(k, f->room * kv), GRANULE);
  f->qs = a->qs, f->acc = a->acc, f->top = a->top, f->sum = a->sum;
  tn_cpu_att_step_scratch(a, GRANULE);
  f->scores = tn_cpu_scratch(k, tn_cpu_dim_k(k, f->at_once), KEYS * 4);
  f->factors = tn_cpu_scratch(k, tn_cpu_dim_k(k, f->at_once), 4);
  f->k = read_side(a, a->key, a->step[0].cache, a->d);
  f->v = read_side(a, a->v, a->step[1].cache, a->dv);
}

void tn_cpu_att_few(tn_cpu_att *a) {
  tn_cpu_kernel *k = a->k;
  tn_ll *e = k->e;
  few f = {.a = a, .group = 1};
  ll_val one = ll_k(e, 1), lo, hi;
  ll_loop l;
  prepare(&f);
  ll_val rows = ll_mul(e, a->hkv, ll_k(e, f.group)); /* of a batch entry: a constant */
  tn_cpu_share(k, ll_mul(e, tn_ll_dim(&k->body, a->tq.dims[0]), rows), &lo, &hi);
  ll_loop_begin(e, &l, ll_udiv(e, lo, rows), ll_ceildiv(e, hi, rows), one, NULL, 0);
  tn_ll_body_forget(&k->body);
  ll_val first = ll_mul(e, l.iv, rows);
  a->b = l.iv;
  f.first = ll_sub(e, ll_imax(e, lo, first), first);
  f.end = ll_sub(e, ll_imin(e, hi, ll_add(e, first, rows)), first);
  entry(&f);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&k->body);
}
