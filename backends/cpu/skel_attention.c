/* skel_attention.c - attention by blocks of keys with an online softmax (Milakov and Gimelshein 2018, Dao
 * 2023), f32.
 *
 * A unit is a batch entry, a key/value head and a block of query rows; the rows are the pairs (query, head of
 * the group), so grouped heads share the keys that are staged for them. Per block of keys: keys are turned
 * into panels, values copied into panels (both through the evaluator, so operands may be views or narrow
 * types; q8_0 caches are taken apart on the way), scores and the weighted sum come from the matmul
 * micro-kernel. Keys go by their position; where they stand in a ring only the staging knows. Blocks that no
 * row of the unit may see are skipped. Blocks depend on shapes only, so results do not depend on the number
 * of threads. */
#include "backends/cpu/ukernel.h"
#include "backends/llvm/convert.h"
#include "backends/llvm/math.h"

#define KEYS 64     /* keys per block */
#define LINE 64     /* bytes of a cache line */
#define ROW_TILES 8 /* query rows per unit, in micro-kernel tiles */

typedef struct att {
  tn_cpu_kernel *k;
  tn_value q, key, v, mask, bias, first, out;
  tn_type_info tq, tk, tv, to;
  double scale, softcap;
  int64_t window;
  bool causal, ring;
  uint32_t rows_max, group_width; /* rows of a unit; columns the micro-kernel takes at once */
  ll_val s, h, hkv, d, dv, t, g;  /* g: query heads per key head */
  ll_val dv_width, last;          /* dv, rounded up to group_width; t - s */
  ll_val rows, lap, oldest; /* ring: its rows; the position in row 0 of this lap; the first that is there */
  ll_val qs, kp, vp, scores, acc, top, sum, alpha, tile;
  /* of the unit */
  ll_val b, hk, r0, nrows;
  ll_val least;            /* the first key that may be seen; NULL: 0 */
  ll_val kb, kn;           /* first key of the block, keys in it */
  ll_val inverse, acc_row; /* of the row being finished */
} att;

/* ---- addresses ---- */
static ll_val elem(att *a, ll_val base, ll_val i) {
  return ll_at(a->k->e, base, ll_imul(a->k->e, i, ll_k(a->k->e, 4)));
}
static ll_val row_of(att *a, ll_val base, ll_val i, ll_val width) {
  return elem(a, base, ll_imul(a->k->e, i, width));
}
/* Query and head of unit row i. */
static void row_coordinates(att *a, ll_val i, ll_val *query, ll_val *head) {
  tn_ll *e = a->k->e;
  ll_val r = ll_iadd(e, a->r0, i);
  *query = ll_idiv(e, r, a->g);
  *head = ll_iadd(e, ll_imul(e, a->hk, a->g), ll_imod(e, r, a->g));
}
static void loop_rows(att *a, ll_loop *l) {
  tn_ll *e = a->k->e;
  ll_loop_begin(e, l, ll_k(e, 0), a->nrows, ll_k(e, 1), NULL, 0);
  tn_ll_body_forget(&a->k->body);
}
static void loop_done(att *a, ll_loop *l) {
  ll_loop_end(a->k->e, l, NULL);
  tn_ll_body_forget(&a->k->body);
}

/* ---- staging ---- */
typedef struct staged {
  att *a;
  ll_val row, query, head;
} staged;

static void stage_q_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *acc) {
  staged *c = ctx;
  att *a = c->a;
  (void)acc;
  tn_ll_index ix = {.rank = 4,
                    .mask = mask,
                    .at = {tn_ll_ix_scalar(a->b), tn_ll_ix_scalar(c->query), tn_ll_ix_scalar(c->head), j}};
  ll_val x = ll_wide(k->e, tn_ll_eval_f32(&k->body, a->q, &ix), true);
  ll_store_masked(k->e, ll_fmul(k->e, x, ll_f(k->e, x, a->scale)), elem(a, c->row, j.v), mask, 4);
}
static void stage_queries(att *a) {
  ll_loop l;
  loop_rows(a, &l);
  staged c = {.a = a, .row = row_of(a, a->qs, l.iv, a->d)};
  row_coordinates(a, l.iv, &c.query, &c.head);
  tn_cpu_columns(a->k, ll_k(a->k->e, 0), a->d, stage_q_column, &c, NULL, 0);
  loop_done(a, &l);
}

/* The row of a key. A ring has its last keys only: others, which the mask hides, get any row. */
static ll_val key_row(att *a, ll_val key) {
  tn_ll *e = a->k->e;
  if (!a->ring) return key;
  ll_val row = ll_sub(e, ll_imax(e, key, a->oldest), a->lap);
  return ll_select(e, ll_icmp(e, LLVMIntSLT, row, ll_k(e, 0)), ll_add(e, row, a->rows), row);
}

/* Features of a q8_0 cache: lanes from j on, which lie in one block of 32. */
static ll_val load_q8(att *a, tn_value v, ll_val row, ll_val j) {
  tn_ll *e = a->k->e;
  tn_type_info t = tn_cpu_type(a->k, v);
  ll_val at = ll_iadd(e, ll_imul(e, a->b, tn_ll_dim(&a->k->body, t.dims[1])), row);
  at = ll_iadd(e, ll_imul(e, at, a->hkv), a->hk);
  ll_val blocks = ll_lshr(e, tn_ll_dim(&a->k->body, t.dims[3]), ll_k(e, 5));
  ll_val block = ll_iadd(e, ll_imul(e, at, blocks), ll_lshr(e, j, ll_k(e, 5)));
  ll_val p = ll_at(e, tn_cpu_arg_buffer(a->k, v), ll_imul(e, block, ll_k(e, TN_CPU_Q8_BYTES)));
  ll_val codes = ll_at(e, p, ll_add(e, ll_and(e, j, ll_k(e, 31)), ll_k(e, 2)));
  ll_val x = LLVMBuildSExt(e->b, ll_load(e, ll_vec(e, e->i8), codes, 1), ll_vec(e, e->i32), "");
  ll_val scale = tn_ll_to_compute(e, TN_DT_f16, ll_load(e, e->f16, p, 2));
  return ll_fmul(e, LLVMBuildSIToFP(e->b, x, ll_vec(e, e->f32), ""), ll_splat(e, scale));
}

/* Features j of a key of k or v, as f32. */
static ll_val load_key(att *a, tn_value v, ll_val key, tn_ll_ix j, ll_val mask) {
  ll_val row = key_row(a, key);
  if (tn_cpu_type(a->k, v).dtype >= TN_DT_BLOCK) return load_q8(a, v, row, j.v);
  tn_ll_index ix = {.rank = 4,
                    .mask = mask,
                    .at = {tn_ll_ix_scalar(a->b), tn_ll_ix_scalar(row), tn_ll_ix_scalar(a->hk), j}};
  return ll_wide(a->k->e, tn_ll_eval_f32(&a->k->body, v, &ix), true);
}

/* Squares of keys x features become panels [keys / 16][d][16]. row: first key of the square, in the block. */
static void stage_k_square(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *acc) {
  staged *c = ctx;
  att *a = c->a;
  tn_ll *e = k->e;
  ll_val rows[64], last = ll_sub(e, a->t, ll_k(e, 1));
  (void)acc;
  for (uint32_t i = 0; i < e->lanes; i++) {
    ll_val key = ll_imin(e, ll_add(e, a->kb, ll_iadd(e, c->row, ll_k(e, i))), last);
    rows[i] = load_key(a, a->key, key, j, mask);
  }
  ll_transpose(e, rows);
  ll_val panel = ll_imul(e, ll_and(e, c->row, ll_k(e, -(int64_t)TN_CPU_PANEL)), a->d);
  ll_val within = ll_and(e, c->row, ll_k(e, TN_CPU_PANEL - 1));
  for (uint32_t i = 0; i < e->lanes; i++) {
    ll_val f = ll_iadd(e, j.v, ll_k(e, i));
    ll_val p = elem(a, a->kp, ll_add(e, ll_add(e, panel, within), ll_imul(e, f, ll_k(e, TN_CPU_PANEL))));
    if (mask)
      p = ll_select(e, ll_icmp(e, LLVMIntSLT, f, a->d), p,
                    a->tile); /* no such feature: nowhere that counts */
    ll_store(e, rows[i], p, 4);
  }
}
static void stage_keys(att *a) {
  tn_ll *e = a->k->e;
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), a->kn, ll_k(e, e->lanes), NULL, 0);
  tn_ll_body_forget(&a->k->body);
  staged c = {.a = a, .row = l.iv};
  tn_cpu_columns(a->k, ll_k(e, 0), a->d, stage_k_square, &c, NULL, 0);
  loop_done(a, &l);
}

static void stage_v_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *acc) {
  staged *c = ctx;
  att *a = c->a;
  tn_ll *e = k->e;
  (void)acc;
  ll_val x = load_key(a, a->v, ll_add(e, a->kb, c->row), j, mask);
  ll_val panel = ll_imul(e, ll_and(e, j.v, ll_k(e, -(int64_t)TN_CPU_PANEL)), ll_k(e, KEYS));
  ll_val within =
      ll_add(e, ll_imul(e, c->row, ll_k(e, TN_CPU_PANEL)), ll_and(e, j.v, ll_k(e, TN_CPU_PANEL - 1)));
  ll_store(e, x, elem(a, a->vp, ll_add(e, panel, within)), 4); /* masked lanes are zeros, and there is room */
}
static void stage_values(att *a) {
  tn_ll *e = a->k->e;
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), a->kn, ll_k(e, 1), NULL, 0);
  tn_ll_body_forget(&a->k->body);
  staged c = {.a = a, .row = l.iv};
  tn_cpu_columns(a->k, ll_k(e, 0), a->dv, stage_v_column, &c, NULL, 0);
  loop_done(a, &l);
}

/* Fetches the next block of keys of k or v while this one is worked on: rows of one head lie far apart in a
 * cache, which the hardware does not foresee. What lies behind the end is fetched in vain. */
static void fetch_next(att *a, tn_value v) {
  tn_ll *e = a->k->e;
  ll_val buffer = tn_cpu_arg_buffer(a->k, v);
  tn_type_info t = tn_cpu_type(a->k, v);
  const tn_dtype_info *info = a->k->u->ir->dtype_info(t.dtype);
  if (!buffer) return;
  ll_val width = tn_ll_dim(&a->k->body, t.dims[3]);
  width = ll_udiv(e, ll_imul(e, width, ll_k(e, info->block_bytes)), ll_k(e, info->block_values));
  ll_val base = ll_imul(e, a->b, tn_ll_dim(&a->k->body, t.dims[1]));
  ll_loop keys, line;
  ll_loop_begin(e, &keys, ll_k(e, 0), a->kn, ll_k(e, 1), NULL, 0);
  ll_val row = key_row(a, ll_add(e, ll_add(e, a->kb, ll_k(e, KEYS)), keys.iv));
  row = ll_iadd(e, ll_imul(e, ll_iadd(e, base, row), a->hkv), a->hk);
  ll_val at = ll_at(e, buffer, ll_imul(e, row, width));
  ll_loop_begin(e, &line, ll_k(e, 0), width, ll_k(e, LINE), NULL, 0);
  ll_prefetch(e, ll_at(e, at, line.iv), 2);
  ll_loop_end(e, &line, NULL);
  ll_loop_end(e, &keys, NULL);
  tn_ll_body_forget(&a->k->body);
}

/* ---- products ---- */
/* Runs `each` for blocks of at most mr rows, nearly equal. */
static void row_blocks(att *a, void (*each)(att *, ll_val first, ll_val count)) {
  tn_ll *e = a->k->e;
  ll_val blocks = ll_ceildiv(e, a->nrows, ll_k(e, a->k->u->isa->mr));
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), blocks, ll_k(e, 1), NULL, 0);
  ll_val first = ll_udiv(e, ll_mul(e, a->nrows, l.iv), blocks);
  ll_val next = ll_udiv(e, ll_mul(e, a->nrows, ll_add(e, l.iv, ll_k(e, 1))), blocks);
  each(a, first, ll_sub(e, next, first));
  loop_done(a, &l);
}

static void score_block(att *a, ll_val first, ll_val count) {
  tn_ll *e = a->k->e;
  const tn_cpu_isa *isa = a->k->u->isa;
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), a->kn, ll_k(e, a->group_width), NULL, 0);
  tn_cpu_tile t = {
      .depth = a->d, .a = row_of(a, a->qs, first, a->d), .a_stride = ll_imul(e, a->d, ll_k(e, 4))};
  t.b = elem(a, a->kp, ll_imul(e, l.iv, a->d));
  t.panel_stride = ll_imul(e, a->d, ll_k(e, TN_CPU_PANEL * 4));
  t.np = ll_k(e, isa->panels);
  t.c = elem(a, row_of(a, a->scores, first, ll_k(e, KEYS)), l.iv);
  t.c_stride = ll_k(e, KEYS * 4);
  tn_cpu_tile_call(a->k, TN_DT_f32, isa->panels, isa->mr, count, &t);
  loop_done(a, &l);
}

/* acc = acc * alpha + tile */
static void add_tile(att *a, ll_val first, ll_val count, ll_val j0) {
  tn_ll *e = a->k->e;
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), count, ll_k(e, 1), NULL, 0);
  ll_val row = ll_add(e, first, l.iv), alpha = ll_splat(e, ll_load(e, e->f32, elem(a, a->alpha, row), 4));
  for (uint32_t v = 0; v < a->group_width; v += e->lanes) {
    ll_val p = elem(a, row_of(a, a->acc, row, a->dv_width), ll_add(e, j0, ll_k(e, v)));
    ll_val from = elem(a, row_of(a, a->tile, l.iv, ll_k(e, a->group_width)), ll_k(e, v));
    ll_type t = ll_vec(e, e->f32);
    ll_store(e, ll_fma(e, ll_load(e, t, p, 4), alpha, ll_load(e, t, from, 4)), p, 4);
  }
  loop_done(a, &l);
}
static void weigh_block(att *a, ll_val first, ll_val count) {
  tn_ll *e = a->k->e;
  const tn_cpu_isa *isa = a->k->u->isa;
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), a->dv, ll_k(e, a->group_width), NULL, 0);
  tn_cpu_tile t = {
      .depth = a->kn, .a = row_of(a, a->scores, first, ll_k(e, KEYS)), .a_stride = ll_k(e, KEYS * 4)};
  t.b = elem(a, a->vp, ll_imul(e, l.iv, ll_k(e, KEYS)));
  t.panel_stride = ll_k(e, KEYS * TN_CPU_PANEL * 4);
  t.np = ll_k(e, isa->panels);
  t.c = a->tile;
  t.c_stride = ll_k(e, (int64_t)a->group_width * 4);
  tn_cpu_tile_call(a->k, TN_DT_f32, isa->panels, isa->mr, count, &t);
  add_tile(a, first, count, l.iv);
  loop_done(a, &l);
}

/* ---- softmax ---- */
/* A mask or bias operand, which broadcasts to [b, h, s, t], at keys j. */
static ll_val at_keys(att *a, tn_value v, ll_val query, ll_val head, tn_ll_ix j, ll_val in) {
  tn_type_info t = tn_cpu_type(a->k, v);
  tn_ll_ix full[] = {tn_ll_ix_scalar(a->b), tn_ll_ix_scalar(head), tn_ll_ix_scalar(query), j};
  tn_ll_index ix = {.rank = t.rank, .mask = in};
  for (uint32_t i = 0; i < t.rank; i++) {
    int64_t one;
    bool fixed = tn_ll_dim_const(&a->k->body, t.dims[i], &one) && one == 1;
    ix.at[i] = fixed ? tn_ll_ix_scalar(ll_k(a->k->e, 0)) : full[i + 4 - t.rank];
  }
  if (!tn_ll_index_vec(&ix)) ix.mask = NULL;
  return ll_wide(a->k->e, tn_ll_eval(&a->k->body, v, &ix), true);
}

/* A number to compare lanes with. */
static ll_val lane_limit(att *a, ll_val n) {
  tn_ll *e = a->k->e;
  n = ll_imax(e, ll_imin(e, n, ll_k(e, 1 << 20)), ll_k(e, -1));
  return ll_splat(e, LLVMBuildTrunc(e->b, n, e->i32, ""));
}

/* Scores of one vector of keys; -inf where a key is not seen. */
static ll_val masked_score(att *a, ll_val x, ll_val query, ll_val head, ll_val j) {
  tn_ll *e = a->k->e;
  if (a->softcap > 0) {
    x = tn_ll_tanh(e, ll_fmul(e, x, ll_f(e, x, 1 / a->softcap)));
    x = ll_fmul(e, x, ll_f(e, x, a->softcap));
  }
  tn_ll_ix key = tn_ll_ix_lanes(ll_add(e, a->kb, j), true);
  ll_val in = ll_mask_below(e, ll_sub(e, a->kn, j)), lanes = ll_steps(e, e->i32);
  ll_val inside = in;
  if (a->bias) {
    ll_val add = at_keys(a, a->bias, query, head, key, inside);
    x = ll_fadd(e, x, tn_ll_to_f32(e, tn_cpu_type(a->k, a->bias).dtype, add));
  }
  if (a->mask) {
    ll_val m = at_keys(a, a->mask, query, head, key, inside);
    in = ll_and(e, in, tn_ll_convert(e, tn_cpu_type(a->k, a->mask).dtype, TN_DT_bool, m));
  }
  /* how many keys before and including the query's own position are left at lane 0 */
  ll_val back = ll_sub(e, ll_add(e, query, a->last), key.v);
  if (a->causal) in = ll_and(e, in, ll_icmp(e, LLVMIntSLE, lanes, lane_limit(a, back)));
  if (a->window) {
    ll_val first = lane_limit(a, ll_sub(e, back, ll_k(e, a->window))); /* lane > first is inside the window */
    in = ll_and(e, in, ll_icmp(e, LLVMIntSGT, lanes, first));
  }
  if (a->window && !a->causal) {
    ll_val end = lane_limit(a, ll_add(e, back, ll_k(e, a->window)));
    in = ll_and(e, in, ll_icmp(e, LLVMIntSLT, lanes, end));
  }
  if (a->least) in = ll_and(e, in, ll_icmp(e, LLVMIntSGE, lanes, lane_limit(a, ll_sub(e, a->least, key.v))));
  return ll_select(e, in, x, ll_f(e, x, -__builtin_inf()));
}

static void softmax_row(att *a, ll_val i) {
  tn_ll *e = a->k->e;
  ll_val x[KEYS], query, head, row = row_of(a, a->scores, i, ll_k(e, KEYS)), top = NULL;
  uint32_t n = KEYS / e->lanes;
  row_coordinates(a, i, &query, &head);
  for (uint32_t v = 0; v < n; v++) {
    ll_val j = ll_k(e, (int64_t)v * e->lanes);
    x[v] = masked_score(a, ll_load(e, ll_vec(e, e->f32), elem(a, row, j), 4), query, head, j);
    top = top ? ll_fmax(e, x[v], top) : x[v];
  }
  ll_val old = ll_load(e, e->f32, elem(a, a->top, i), 4),
         now = ll_fmax(e, ll_reduce_with(e, top, ll_fmax), old);
  ll_val none = ll_fcmp(e, LLVMRealOEQ, now, ll_f(e, now, -__builtin_inf()));
  ll_val base = ll_select(e, none, ll_f(e, now, 0), now), alpha = tn_ll_exp_neg(e, ll_fsub(e, old, base)),
         sum = NULL;
  for (uint32_t v = 0; v < n; v++) {
    x[v] = tn_ll_exp_neg(e, ll_fsub(e, x[v], ll_splat(e, base)));
    sum = sum ? ll_fadd(e, sum, x[v]) : x[v];
    ll_store(e, x[v], elem(a, row, ll_k(e, (int64_t)v * e->lanes)), 4);
  }
  ll_val total = ll_fma(e, ll_load(e, e->f32, elem(a, a->sum, i), 4), alpha, ll_reduce_fadd(e, sum));
  ll_store(e, now, elem(a, a->top, i), 4);
  ll_store(e, total, elem(a, a->sum, i), 4);
  ll_store(e, alpha, elem(a, a->alpha, i), 4);
}

/* ---- a unit ---- */
static void clear(att *a) {
  tn_ll *e = a->k->e;
  ll_loop rows, cols;
  loop_rows(a, &rows);
  ll_store(e, ll_real(e, e->f32, -__builtin_inf()), elem(a, a->top, rows.iv), 4);
  ll_store(e, ll_real(e, e->f32, 0), elem(a, a->sum, rows.iv), 4);
  ll_loop_begin(e, &cols, ll_k(e, 0), a->dv_width, ll_k(e, e->lanes), NULL, 0);
  ll_store(e, ll_zero(ll_vec(e, e->f32)), elem(a, row_of(a, a->acc, rows.iv, a->dv_width), cols.iv), 4);
  ll_loop_end(e, &cols, NULL);
  loop_done(a, &rows);
}

/* Keys [lo, hi) that some row of the unit may see; lo on a block boundary. */
static void key_range(att *a, ll_val *lo, ll_val *hi) {
  tn_ll *e = a->k->e;
  *lo = ll_k(e, 0);
  *hi = a->t;
  if (a->causal || a->window) {
    ll_val query = ll_idiv(e, ll_sub(e, ll_add(e, a->r0, a->nrows), ll_k(e, 1)), a->g);
    *hi = ll_imin(e, *hi, ll_add(e, ll_add(e, query, a->last), ll_k(e, a->causal ? 1 : a->window)));
  }
  if (a->window) {
    ll_val first = ll_sub(e, ll_add(e, ll_idiv(e, a->r0, a->g), a->last), ll_k(e, a->window - 1));
    *lo = ll_imax(e, first, *lo);
  }
  if (a->least) *lo = ll_imax(e, a->least, *lo);
  *lo = ll_and(e, *lo, ll_k(e, -KEYS));
}

static ll_val give_attention(void *ctx, const tn_ll_index *ix) {
  att *a = ctx;
  tn_ll *e = a->k->e;
  ll_val x = ll_load_masked(e, ll_vec(e, e->f32), elem(a, a->acc_row, ix->at[3].v), ix->mask, 4);
  return tn_ll_convert(e, TN_DT_f32, a->to.dtype, ll_fmul(e, x, ll_splat(e, a->inverse)));
}
static void out_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *acc) {
  staged *c = ctx;
  att *a = c->a;
  (void)acc;
  tn_ll_index ix = {.rank = 4, .mask = mask, .shape = a->to.dims, .flat = c->row};
  ix.at[0] = tn_ll_ix_scalar(a->b);
  ix.at[1] = tn_ll_ix_scalar(c->query);
  ix.at[2] = tn_ll_ix_scalar(c->head);
  ix.at[3] = j;
  tn_cpu_store_yields(k, &ix);
}
static void finish(att *a) {
  tn_ll *e = a->k->e;
  ll_loop l;
  loop_rows(a, &l);
  ll_val sum = ll_load(e, e->f32, elem(a, a->sum, l.iv), 4), zero = ll_f(e, sum, 0);
  a->inverse = ll_select(e, ll_fcmp(e, LLVMRealOEQ, sum, zero), zero, ll_fdiv(e, ll_f(e, sum, 1), sum));
  a->acc_row = row_of(a, a->acc, l.iv, a->dv_width);
  staged c = {.a = a};
  row_coordinates(a, l.iv, &c.query, &c.head);
  c.row = ll_iadd(e, ll_imul(e, ll_iadd(e, ll_imul(e, a->b, a->s), c.query), a->h), c.head);
  tn_cpu_columns(a->k, ll_k(e, 0), a->dv, out_column, &c, NULL, 0);
  loop_done(a, &l);
}

/* a->least, for this batch entry. */
static void least_key(att *a) {
  tn_ll *e = a->k->e;
  a->least = a->ring ? a->oldest : NULL;
  if (!a->first) return;
  tn_ll_index ix = {.rank = 1, .at = {tn_ll_ix_scalar(a->b)}};
  ll_val first =
      tn_ll_convert(e, tn_cpu_type(a->k, a->first).dtype, TN_DT_i64, tn_ll_eval(&a->k->body, a->first, &ix));
  a->least = a->least ? ll_imax(e, first, a->least) : first;
}

static void unit(att *a) {
  tn_ll *e = a->k->e;
  ll_val lo, hi;
  ll_loop l, rows;
  least_key(a);
  stage_queries(a);
  clear(a);
  key_range(a, &lo, &hi);
  ll_loop_begin(e, &l, lo, hi, ll_k(e, KEYS), NULL, 0);
  a->kb = l.iv;
  a->kn = ll_imin(e, ll_sub(e, a->t, a->kb), ll_k(e, KEYS));
  fetch_next(a, a->key);
  fetch_next(a, a->v);
  stage_keys(a);
  stage_values(a);
  row_blocks(a, score_block);
  loop_rows(a, &rows);
  softmax_row(a, rows.iv);
  loop_done(a, &rows);
  row_blocks(a, weigh_block);
  loop_done(a, &l);
  finish(a);
}

/* ---- the kernel ---- */
static void read_ring(att *a) {
  tn_ll *e = a->k->e;
  ll_val one = ll_k(e, 1), zero = ll_k(e, 0);
  a->rows = tn_ll_dim(&a->k->body, a->tk.dims[1]);
  ll_val newest = ll_imax(e, ll_sub(e, a->t, one), zero), rows = ll_imax(e, a->rows, one);
  a->lap = ll_sub(e, newest, ll_urem(e, newest, rows));
  a->oldest = ll_imax(e, ll_sub(e, a->t, a->rows), zero);
}

static void read_operands(att *a) {
  tn_cpu_kernel *k = a->k;
  tn_ll_body *b = &k->body;
  a->q = tn_cpu_operand(k, 0);
  a->key = tn_cpu_operand(k, 1);
  a->v = tn_cpu_operand(k, 2);
  a->mask = tn_cpu_operand(k, 3);
  a->bias = tn_cpu_operand(k, 4);
  a->first = tn_cpu_operand(k, 5);
  a->out = tn_cpu_result(k, 0);
  a->tq = tn_cpu_type(k, a->q);
  a->tk = tn_cpu_type(k, a->key);
  a->tv = tn_cpu_type(k, a->v);
  a->to = tn_cpu_type(k, a->out);
  a->scale = tn_ll_attr_float(b, k->root, "scale");
  a->softcap = tn_ll_attr_float(b, k->root, "softcap");
  a->window = tn_ll_attr_int(b, k->root, "window");
  a->causal = tn_ll_attr_int(b, k->root, "causal");
  a->s = tn_ll_dim(b, a->tq.dims[1]);
  a->h = tn_ll_dim(b, a->tq.dims[2]);
  a->d = tn_ll_dim(b, a->tq.dims[3]);
  a->hkv = tn_ll_dim(b, a->tk.dims[2]);
  a->dv = tn_ll_dim(b, a->tv.dims[3]);
  tn_dim keys = tn_ll_attr(b, k->root, "keys").u.dim;
  int64_t zero;
  bool all = !keys || (tn_ll_dim_const(b, keys, &zero) && !zero);
  a->t = tn_ll_dim(b, all ? a->tk.dims[1] : keys);
  a->g = ll_idiv(k->e, a->h, ll_imax(k->e, a->hkv, ll_k(k->e, 1)));
  a->last = ll_sub(k->e, a->t, a->s);
  a->ring = tn_ll_attr_int(b, k->root, "ring");
  if (a->ring) read_ring(a);
}

static void take_scratch(att *a) {
  tn_cpu_kernel *k = a->k;
  tn_dim rows = tn_cpu_dim_k(k, a->rows_max), keys = tn_cpu_dim_k(k, KEYS);
  tn_dim width = tn_cpu_dim_mul(k, tn_cpu_dim_ceildiv(k, a->tv.dims[3], a->group_width),
                                tn_cpu_dim_k(k, a->group_width));
  a->dv_width = tn_ll_dim(&k->body, width);
  a->qs = tn_cpu_scratch(k, tn_cpu_dim_mul(k, rows, a->tq.dims[3]), 4);
  a->kp = tn_cpu_scratch(k, tn_cpu_dim_mul(k, keys, a->tq.dims[3]), 4);
  a->vp = tn_cpu_scratch(k, tn_cpu_dim_mul(k, keys, width), 4);
  a->acc = tn_cpu_scratch(k, tn_cpu_dim_mul(k, rows, width), 4);
  a->scores = tn_cpu_scratch(k, tn_cpu_dim_mul(k, rows, keys), 4);
  a->top = tn_cpu_scratch(k, rows, 4);
  a->sum = tn_cpu_scratch(k, rows, 4);
  a->alpha = tn_cpu_scratch(k, rows, 4);
  a->tile = ll_alloca(k->e, (uint64_t)k->u->isa->mr * a->group_width * 4);
}

void tn_cpu_emit_attention(tn_cpu_kernel *k) {
  tn_ll *e = k->e;
  att a = {.k = k, .rows_max = k->u->isa->mr * ROW_TILES, .group_width = k->u->isa->panels * TN_CPU_PANEL};
  read_operands(&a);
  take_scratch(&a);
  tn_ll_body_give(&k->body, a.out, give_attention, &a);
  ll_val rows = ll_mul(e, a.s, a.g),
         blocks = ll_imax(e, ll_ceildiv(e, rows, ll_k(e, a.rows_max)), ll_k(e, 1)), lo, hi;
  ll_val heads = ll_imax(e, a.hkv, ll_k(e, 1)), batches = tn_ll_dim(&k->body, a.tq.dims[0]);
  ll_val some = ll_icmp(e, LLVMIntSGT, rows, ll_k(e, 0));
  ll_val units = ll_select(e, some, ll_mul(e, ll_mul(e, batches, a.hkv), blocks), ll_k(e, 0));
  tn_cpu_share(k, units, &lo, &hi);
  ll_loop l;
  ll_loop_begin(e, &l, lo, hi, ll_k(e, 1), NULL, 0);
  tn_ll_body_forget(&k->body);
  ll_val block = ll_urem(e, l.iv, blocks), rest = ll_udiv(e, l.iv, blocks);
  a.hk = ll_urem(e, rest, heads);
  a.b = ll_udiv(e, rest, heads);
  a.r0 = ll_udiv(e, ll_mul(e, rows, block), blocks);
  a.nrows = ll_sub(e, ll_udiv(e, ll_mul(e, rows, ll_add(e, block, ll_k(e, 1))), blocks), a.r0);
  unit(&a);
  loop_done(&a, &l);
}
