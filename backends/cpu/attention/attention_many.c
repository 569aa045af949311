/* attention_many.c - attention of many rows. A unit is a batch entry, a key/value head and a block of rows;
 * the heads of a group share the keys that are staged for them. Per block of keys: keys are turned into
 * panels and values copied into panels; then each tile of rows makes its scores, their softmax and the
 * weighted sum while they are in the first-level cache. What no row of a tile may see is not computed, and
 * only tiles that see a block in part look at single keys.
 *
 * At precision "fast", where the processor multiplies bf16, queries, keys, values and weights are rounded to
 * it; sums and the softmax stay f32. Where it has tile registers they make the products (attention_amx.c):
 * from the same panels, for tiles of more rows. */
#include "backends/cpu/attention/attention.h"
#include "backends/cpu/ukernel/ukernel_amx.h"
#include "backends/llvm/convert.h"

#define GRANULE 32   /* row buffers are so many elements wide, or a multiple */
#define ROW_TILES 16 /* rows per unit, in tiles; half of it where heads are wide */
#define AMX_TILES 8  /* the same, of TN_CPU_AMX_ROWS rows */
#define WIDE 256     /* features of a wide head */

typedef struct many {
  tn_cpu_att *a;
  bool amx;                       /* products are made in tile registers */
  uint32_t rows;                  /* of a tile, at most */
  uint32_t keys, rows_max, group; /* keys per block; rows per unit; keys the micro-kernel takes at once */
  uint32_t step;                  /* of the micro-kernel's sum: 1, or a pair */
  ll_val kp, vp, scores, alpha;
  ll_val k_panel, v_panel; /* bytes of a panel */
  /* of the tile */
  ll_val first, count, from, to, width; /* rows; keys [from, to) of the block, rounded up to width */
  ll_val open; /* i1: a mask that is of keys alone hides none of the block's; NULL: there is none such */
} many;

static ll_val score_row(many *m, ll_val i) {
  tn_ll *e = m->a->k->e;
  return ll_at(e, m->scores, ll_mul(e, i, ll_k(e, (int64_t)m->keys * 4 + 64)));
}

static ll_val up_to_group(many *m, ll_val keys) {
  tn_ll *e = m->a->k->e;
  return ll_and(e, ll_add(e, keys, ll_k(e, m->group - 1)), ll_k(e, -(int64_t)m->group));
}

/* ---- keys ---- */
typedef struct square {
  many *m;
  ll_val row; /* first of e->lanes keys, in the block */
} square;

static ll_val key_of(many *m, ll_val i) {
  tn_cpu_att *a = m->a;
  tn_ll *e = a->k->e;
  return ll_add(e, a->kb, ll_imin(e, i, ll_sub(e, a->kn, ll_k(e, 1))));
}

/* Row i of a square is a feature: of 16 keys, where they belong in the panel of `row`. */
static void store_square(const square *c, ll_val *rows, ll_val j) {
  many *m = c->m;
  tn_ll *e = m->a->k->e;
  ll_val panel = ll_imul(e, ll_lshr(e, c->row, ll_k(e, 4)), m->k_panel);
  ll_val within = ll_imul(e, ll_and(e, c->row, ll_k(e, TN_CPU_PANEL - 1)), ll_k(e, 4));
  ll_val base = ll_at(e, ll_at(e, ll_at(e, m->kp, panel), within), ll_mul(e, j, ll_k(e, TN_CPU_PANEL * 4)));
  for (uint32_t i = 0; i < e->lanes; i++)
    ll_store(e, rows[i], ll_at(e, base, ll_k(e, (int64_t)i * TN_CPU_PANEL * 4)), 4);
}

static void k_square(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *none) {
  square *c = ctx;
  tn_cpu_att *a = c->m->a;
  tn_ll *e = k->e;
  ll_val rows[64];
  (void)none;
  for (uint32_t i = 0; i < e->lanes; i++)
    rows[i] = tn_cpu_att_load(a, a->key, key_of(c->m, ll_iadd(e, c->row, ll_k(e, i))), j, mask);
  ll_transpose(e, rows);
  store_square(c, rows, j.v);
}

/* 32 features of a key as 16 pairs of bf16. */
static ll_val load_pairs(tn_cpu_att *a, ll_val key, ll_val j, bool tail) {
  tn_ll *e = a->k->e;
  ll_type brain = LLVMBFloatTypeInContext(e->ctx);
  ll_val half[2];
  int all[32];
  for (uint32_t h = 0; h < 2; h++) {
    ll_val at = ll_add(e, j, ll_k(e, h * 16));
    ll_val mask = tail ? ll_mask_below(e, ll_sub(e, a->d, at)) : NULL;
    ll_val x = tn_cpu_att_load(a, a->key, key, tn_ll_ix_lanes(at, true), mask);
    half[h] = LLVMBuildFPTrunc(e->b, x, ll_vec(e, brain), "");
  }
  for (int i = 0; i < 32; i++) all[i] = i;
  return ll_cast_bits(e, ll_shuffle(e, half[0], half[1], all, 32), ll_vec(e, e->i32));
}

/* Panels of pairs: a pair of features takes the place of a feature. */
static void k_pairs(many *m, ll_val row) {
  tn_cpu_att *a = m->a;
  tn_ll *e = a->k->e;
  ll_val rows[64];
  square c = {.m = m, .row = row};
  int64_t d;
  bool tail = !ll_const(a->d, &d) || d % 32;
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), a->d, ll_k(e, 32), NULL, 0);
  tn_ll_body_forget(&a->k->body);
  for (uint32_t i = 0; i < e->lanes; i++)
    rows[i] = load_pairs(a, key_of(m, ll_iadd(e, row, ll_k(e, i))), l.iv, tail);
  ll_transpose(e, rows);
  store_square(&c, rows, ll_lshr(e, l.iv, ll_k(e, 1)));
  ll_loop_end(e, &l, NULL);
}

static void stage_keys(many *m) {
  tn_cpu_att *a = m->a;
  tn_ll *e = a->k->e;
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), a->kn, ll_k(e, e->lanes), NULL, 0);
  tn_ll_body_forget(&a->k->body);
  square c = {.m = m, .row = l.iv};
  if (a->narrow)
    k_pairs(m, l.iv);
  else
    tn_cpu_columns(a->k, ll_k(e, 0), a->d, k_square, &c, NULL, 0);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&a->k->body);
}

/* ---- values ---- */
/* One key's features, or a pair of keys' as pairs; masked lanes are 0, and there is room for them. */
static void v_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *none) {
  square *c = ctx;
  many *m = c->m;
  tn_ll *e = k->e;
  (void)none;
  ll_val x = tn_cpu_att_load(m->a, m->a->v, key_of(m, c->row), j, mask), at = c->row;
  if (m->a->narrow) {
    ll_type bits = ll_vec(e, e->i16), wide = ll_vec(e, e->i32),
            brain = ll_vec(e, LLVMBFloatTypeInContext(e->ctx));
    ll_val y = tn_cpu_att_load(m->a, m->a->v, key_of(m, ll_add(e, c->row, ll_k(e, 1))), j, mask);
    x = LLVMBuildZExt(e->b, ll_cast_bits(e, LLVMBuildFPTrunc(e->b, x, brain, ""), bits), wide, "");
    y = LLVMBuildZExt(e->b, ll_cast_bits(e, LLVMBuildFPTrunc(e->b, y, brain, ""), bits), wide, "");
    x = ll_or(e, x, ll_shl(e, y, ll_i(e, y, 16)));
    at = ll_lshr(e, at, ll_k(e, 1));
  }
  ll_val panel = ll_imul(e, ll_lshr(e, j.v, ll_k(e, 4)), m->v_panel);
  ll_val within = ll_add(e, ll_imul(e, at, ll_k(e, TN_CPU_PANEL)), ll_and(e, j.v, ll_k(e, TN_CPU_PANEL - 1)));
  ll_store(e, x, ll_at(e, ll_at(e, m->vp, panel), ll_imul(e, within, ll_k(e, 4))), 4);
}
/* In tile registers a group of keys is one step of the sum: its places are all written. */
static void stage_values(many *m) {
  tn_cpu_att *a = m->a;
  tn_ll *e = a->k->e;
  ll_loop l;
  ll_val end = m->amx ? up_to_group(m, a->kn) : a->kn;
  ll_loop_begin(e, &l, ll_k(e, 0), end, ll_k(e, m->step), NULL, 0);
  tn_ll_body_forget(&a->k->body);
  square c = {.m = m, .row = l.iv};
  tn_cpu_columns(a->k, ll_k(e, 0), a->dv, v_column, &c, NULL, 0);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&a->k->body);
}

/* ---- a mask of keys alone, as padding makes it ---- */
static bool masks_keys(many *m) {
  tn_cpu_att *a = m->a;
  int64_t one;
  if (!a->mask || a->bias || a->softcap > 0) return false;
  tn_type_info t = tn_cpu_type(a->k, a->mask);
  for (uint32_t i = 2; i <= 3 && i <= t.rank; i++)
    if (!tn_ll_dim_const(&a->k->body, t.dims[t.rank - i], &one) || one != 1) return false;
  return true;
}

/* Is the block without a hidden key? */
static ll_val none_hidden(many *m) {
  tn_cpu_att *a = m->a;
  tn_ll *e = a->k->e;
  ll_type t = ll_vec(e, e->f32);
  ll_val all = ll_real(e, t, 0), zero = ll_k(e, 0);
  ll_loop l;
  ll_loop_begin(e, &l, zero, a->kn, ll_k(e, e->lanes), &all, 1);
  tn_ll_body_forget(&a->k->body);
  ll_val in = ll_mask_below(e, ll_sub(e, a->kn, l.iv));
  ll_val hidden = ll_and(e, in, ll_not(e, tn_cpu_att_mask_at(a, zero, zero, l.iv)));
  all = ll_select(e, hidden, ll_real(e, t, 1), l.phi[0]);
  ll_loop_end(e, &l, &all);
  tn_ll_body_forget(&a->k->body);
  return ll_fcmp(e, LLVMRealOEQ, ll_reduce_with(e, l.out[0], ll_fmax), ll_real(e, e->f32, 0));
}

/* ---- products ---- */
/* Columns a call of the micro-kernel makes; in tile registers all of them. */
static ll_val at_once(many *m, ll_val columns) { return m->amx ? columns : ll_k(m->a->k->e, m->group); }
static void multiply(many *m, ll_val columns, const tn_cpu_att_tile *t) {
  if (m->amx)
    tn_cpu_att_amx_call(m->a->k, m->count, columns, t);
  else
    tn_cpu_att_tile_call(m->a->k, m->rows, m->count, t);
}

static void score_tile(many *m) {
  tn_cpu_att *a = m->a;
  tn_ll *e = a->k->e;
  ll_loop l;
  ll_val columns = ll_sub(e, m->to, m->from);
  ll_loop_begin(e, &l, m->from, m->to, at_once(m, columns), NULL, 0);
  tn_cpu_att_tile t = {.narrow = a->narrow,
                       .panels = m->group / TN_CPU_PANEL,
                       .steps = ll_idiv(e, ll_add(e, a->d, ll_k(e, m->step - 1)), ll_k(e, m->step)),
                       .a = ll_at(e, a->qs, ll_mul(e, m->first, a->q_stride)),
                       .a_stride = a->q_stride,
                       .b = ll_at(e, m->kp, ll_mul(e, ll_lshr(e, l.iv, ll_k(e, 4)), m->k_panel)),
                       .panel_stride = m->k_panel,
                       .c = tn_cpu_att_elem(a, m->scores, l.iv),
                       .c_stride = ll_k(e, (int64_t)m->keys * 4 + 64)};
  multiply(m, columns, &t);
  ll_loop_end(e, &l, NULL);
}

static void weigh_tile(many *m) {
  tn_cpu_att *a = m->a;
  tn_ll *e = a->k->e;
  ll_loop l;
  ll_val from = ll_idiv(e, m->from, ll_k(e, m->step)), bytes = ll_k(e, 4);
  ll_val to = ll_idiv(e, ll_add(e, m->to, ll_k(e, m->step - 1)), ll_k(e, m->step));
  ll_loop_begin(e, &l, ll_k(e, 0), a->dv, at_once(m, a->dv), NULL, 0);
  ll_val panel = ll_mul(e, ll_lshr(e, l.iv, ll_k(e, 4)), m->v_panel);
  ll_val row = ll_at(e, a->acc, ll_mul(e, m->first, a->acc_stride));
  tn_cpu_att_tile t = {.narrow = a->narrow,
                       .panels = m->group / TN_CPU_PANEL,
                       .steps = ll_sub(e, to, from),
                       .a = ll_at(e, m->scores, ll_mul(e, from, bytes)),
                       .a_stride = ll_k(e, (int64_t)m->keys * 4 + 64),
                       .b = ll_at(e, ll_at(e, m->vp, panel), ll_mul(e, from, ll_k(e, TN_CPU_PANEL * 4))),
                       .panel_stride = m->v_panel,
                       .c = tn_cpu_att_elem(a, row, l.iv),
                       .c_stride = a->acc_stride,
                       .alpha = m->alpha};
  multiply(m, a->dv, &t);
  ll_loop_end(e, &l, NULL);
}

/* ---- softmax ---- */
static void mask_rows(many *m) {
  tn_cpu_att *a = m->a;
  tn_ll *e = a->k->e;
  ll_loop rows, l;
  ll_loop_begin(e, &rows, ll_k(e, 0), m->count, ll_k(e, 1), NULL, 0);
  tn_ll_body_forget(&a->k->body);
  ll_val query, head, row = score_row(m, rows.iv);
  tn_cpu_att_row(a, ll_add(e, m->first, rows.iv), &query, &head);
  ll_loop_begin(e, &l, m->from, m->width, ll_k(e, e->lanes), NULL, 0);
  tn_ll_body_forget(&a->k->body);
  ll_val p = tn_cpu_att_elem(a, row, l.iv);
  ll_store(e, tn_cpu_att_mask(a, ll_load(e, ll_vec(e, e->f32), p, 4), query, head, l.iv), p, 4);
  ll_loop_end(e, &l, NULL);
  ll_loop_end(e, &rows, NULL);
  tn_ll_body_forget(&a->k->body);
}

/* Vectors per step of the loops along a row: they divide a group. */
#define AT_ONCE 2

static ll_val row_top(many *m, ll_val row) {
  tn_ll *e = m->a->k->e;
  ll_type t = ll_vec(e, e->f32);
  ll_val top[AT_ONCE];
  ll_loop l;
  for (uint32_t v = 0; v < AT_ONCE; v++) top[v] = ll_real(e, t, -__builtin_inf());
  ll_loop_begin(e, &l, m->from, m->width, ll_k(e, AT_ONCE * (int64_t)e->lanes), top, AT_ONCE);
  for (uint32_t v = 0; v < AT_ONCE; v++) {
    ll_val p = tn_cpu_att_elem(m->a, row, ll_add(e, l.iv, ll_k(e, (int64_t)v * e->lanes)));
    top[v] = ll_fmax(e, ll_load(e, t, p, 4), l.phi[v]);
  }
  ll_loop_end(e, &l, top);
  return ll_reduce_with(e, ll_fmax(e, l.out[0], l.out[1]), ll_fmax);
}

/* Scores become weights, in place (bf16 ones at half the distance); their sum. */
static ll_val row_weights(many *m, ll_val row, ll_val base) {
  tn_cpu_att *a = m->a;
  tn_ll *e = a->k->e;
  ll_type t = ll_vec(e, e->f32);
  ll_val sum[AT_ONCE] = {ll_zero(t), ll_zero(t)}, x[AT_ONCE];
  ll_loop l;
  ll_loop_begin(e, &l, m->from, m->width, ll_k(e, AT_ONCE * (int64_t)e->lanes), sum, AT_ONCE);
  for (uint32_t v = 0; v < AT_ONCE; v++) {
    ll_val p = tn_cpu_att_elem(a, row, ll_add(e, l.iv, ll_k(e, (int64_t)v * e->lanes)));
    x[v] = tn_cpu_att_exp(a, ll_load(e, t, p, 4), base);
    sum[v] = ll_fadd(e, l.phi[v], x[v]);
  }
  for (uint32_t v = 0; v < AT_ONCE; v++) {
    ll_val to = ll_mul(e, ll_add(e, l.iv, ll_k(e, (int64_t)v * e->lanes)), ll_k(e, a->narrow ? 2 : 4));
    if (a->narrow) x[v] = LLVMBuildFPTrunc(e->b, x[v], ll_vec(e, LLVMBFloatTypeInContext(e->ctx)), "");
    ll_store(e, x[v], ll_at(e, row, to), 2);
  }
  ll_loop_end(e, &l, sum);
  return ll_reduce_fadd(e, ll_fadd(e, l.out[0], l.out[1]));
}

static void softmax_rows(many *m) {
  tn_cpu_att *a = m->a;
  tn_ll *e = a->k->e;
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), m->count, ll_k(e, 1), NULL, 0);
  ll_val row = score_row(m, l.iv), i = ll_add(e, m->first, l.iv);
  ll_val top = tn_cpu_att_elem(a, a->top, i), total = tn_cpu_att_elem(a, a->sum, i);
  ll_val old = ll_load(e, e->f32, top, 4), now = ll_fmax(e, row_top(m, row), old);
  ll_val base = tn_cpu_att_base(a, now), alpha = tn_cpu_att_exp(a, old, base),
         sum = row_weights(m, row, ll_splat(e, base));
  ll_store(e, now, top, 4);
  ll_store(e, ll_fma(e, ll_load(e, e->f32, total, 4), alpha, sum), total, 4);
  ll_store(e, alpha, tn_cpu_att_elem(a, m->alpha, l.iv), 4);
  ll_loop_end(e, &l, NULL);
}

/* ---- tiles ---- */
/* The first and last query of the tile's rows, as positions. */
static void tile_queries(many *m, ll_val *first, ll_val *last) {
  tn_cpu_att *a = m->a;
  tn_ll *e = a->k->e;
  ll_val r = ll_add(e, a->r0, m->first), end = ll_sub(e, ll_add(e, r, m->count), ll_k(e, 1));
  *first = ll_add(e, ll_idiv(e, r, a->g), a->last);
  *last = ll_add(e, ll_idiv(e, end, a->g), a->last);
}

/* Keys of the block that some row of the tile sees; gives whether all of its rows see all of them. */
static ll_val tile_range(many *m) {
  tn_cpu_att *a = m->a;
  tn_ll *e = a->k->e;
  ll_val first, last, one = ll_k(e, 1), all;
  tile_queries(m, &first, &last);
  m->from = ll_k(e, 0);
  m->to = a->kn;
  int64_t behind = a->causal ? 1 : a->window; /* keys up to so many after a query's own position, less one */
  if (behind) {
    ll_val end = ll_sub(e, ll_add(e, last, ll_k(e, behind)), a->kb);
    m->to = ll_imax(e, ll_imin(e, end, m->to), ll_k(e, 0));
  }
  if (a->window) {
    ll_val begin = ll_sub(e, ll_sub(e, first, ll_k(e, a->window - 1)), a->kb);
    m->from = ll_and(e, ll_imax(e, begin, ll_k(e, 0)), ll_k(e, -(int64_t)m->group));
  }
  m->width = up_to_group(m, m->to);
  all = ll_icmp(e, LLVMIntEQ, m->width, m->to);
  ll_val end = ll_add(e, a->kb, m->to), begin = ll_add(e, a->kb, m->from);
  if (behind) all = ll_and(e, all, ll_icmp(e, LLVMIntSGE, ll_add(e, first, ll_k(e, behind)), end));
  if (a->window)
    all = ll_and(e, all, ll_icmp(e, LLVMIntSLE, ll_sub(e, ll_add(e, last, one), ll_k(e, a->window)), begin));
  if (a->least) all = ll_and(e, all, ll_icmp(e, LLVMIntSLE, a->least, begin));
  if (m->open) return ll_and(e, all, m->open);
  return tn_cpu_att_touches(a) ? LLVMConstInt(e->i1, 0, 0) : all;
}

static void tile(many *m) {
  tn_ll *e = m->a->k->e;
  ll_if some, plain;
  ll_val all = tile_range(m);
  ll_if_begin(e, &some, ll_icmp(e, LLVMIntSLT, m->from, m->to));
  tn_ll_body_forget(&m->a->k->body);
  score_tile(m);
  ll_if_begin(e, &plain, ll_not(e, all));
  mask_rows(m);
  ll_if_end(e, &plain);
  softmax_rows(m);
  weigh_tile(m);
  ll_if_end(e, &some);
  tn_ll_body_forget(&m->a->k->body);
}

/* The unit's rows by tiles, nearly equal; in tile registers by whole ones, for sums are loaded and stored in
 * whole tiles: what is behind a unit's last row is room, not another tile's. */
static void tiles(many *m) {
  tn_cpu_att *a = m->a;
  tn_ll *e = a->k->e;
  ll_val most = ll_k(e, m->rows), n = ll_ceildiv(e, a->nrows, most);
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), n, ll_k(e, 1), NULL, 0);
  tn_ll_body_forget(&a->k->body);
  if (m->amx) {
    m->first = ll_mul(e, l.iv, most);
    m->count = ll_imin(e, ll_sub(e, a->nrows, m->first), most);
  } else {
    m->first = ll_udiv(e, ll_mul(e, a->nrows, l.iv), n);
    ll_val next = ll_udiv(e, ll_mul(e, a->nrows, ll_add(e, l.iv, ll_k(e, 1))), n);
    m->count = ll_sub(e, next, m->first);
  }
  tile(m);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&a->k->body);
}

/* ---- units ---- */
static void unit(many *m) {
  tn_cpu_att *a = m->a;
  tn_ll *e = a->k->e;
  ll_val lo, hi, step = ll_k(e, m->keys);
  ll_loop l;
  tn_cpu_att_least(a);
  if (m->amx) tn_cpu_att_amx_clear(a);
  tn_cpu_att_stage_queries(a);
  tn_cpu_att_clear(a);
  tn_cpu_att_range(a, &lo, &hi);
  lo = ll_and(e, lo, ll_k(e, -(int64_t)TN_CPU_PANEL));
  ll_loop_begin(e, &l, lo, hi, step, NULL, 0);
  tn_ll_body_forget(&a->k->body);
  a->kb = l.iv;
  a->kn = ll_imin(e, ll_sub(e, hi, a->kb), step);
  ll_val next = ll_add(e, a->kb, step), ahead = ll_imin(e, ll_sub(e, hi, next), step);
  tn_cpu_att_fetch(a, a->key, tn_cpu_arg_buffer(a->k, a->key), next, ahead);
  tn_cpu_att_fetch(a, a->v, tn_cpu_arg_buffer(a->k, a->v), next, ahead);
  stage_keys(m);
  stage_values(m);
  m->open = masks_keys(m) ? none_hidden(m) : NULL;
  tiles(m);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&a->k->body);
  tn_cpu_att_finish(a);
}

static int64_t widest(tn_cpu_att *a) {
  int64_t d = WIDE, dv = WIDE;
  (void)ll_const(a->d, &d);
  (void)ll_const(a->dv, &dv);
  return d > dv ? d : dv;
}

static void prepare(many *m) {
  tn_cpu_att *a = m->a;
  tn_cpu_kernel *k = a->k;
  const tn_cpu_isa *isa = k->u->isa;
  int64_t width = widest(a);
  a->narrow = k->u->precision == TN_CPU_FAST && isa->bf16;
  a->even = true;
  m->amx = a->narrow && isa->amx;
  m->rows = m->amx ? TN_CPU_AMX_ROWS : isa->mr;
  uint32_t tiles = m->amx ? AMX_TILES : ROW_TILES;
  m->step = a->narrow ? 2 : 1;
  m->group = isa->panels * TN_CPU_PANEL;
  m->keys = width <= WIDE / 2 ? 256 : width <= WIDE ? 128 : 64;
  m->rows_max = m->rows * (width <= WIDE ? tiles : tiles / 2);
  tn_cpu_att_take_rows(a, tn_cpu_dim_k(k, m->rows_max), GRANULE);
  tn_dim keys = tn_cpu_dim_k(k, m->keys), d = tn_cpu_att_width(a, a->tk.dims[3], GRANULE);
  tn_dim dv = tn_cpu_att_width(a, a->tv.dims[3], GRANULE);
  uint32_t bytes = a->narrow ? 2 : 4;
  m->k_panel = ll_imul(k->e, tn_ll_dim(&k->body, d), ll_k(k->e, (int64_t)TN_CPU_PANEL * bytes));
  m->v_panel = ll_k(k->e, (int64_t)m->keys * TN_CPU_PANEL * bytes);
  m->kp = tn_cpu_scratch(k, tn_cpu_dim_mul(k, keys, d), bytes);
  m->vp = tn_cpu_scratch(k, tn_cpu_dim_mul(k, keys, dv), bytes);
  m->scores = tn_cpu_scratch(k, tn_cpu_dim_k(k, m->rows), m->keys * 4 + 64);
  m->alpha = tn_cpu_scratch(k, tn_cpu_dim_k(k, m->rows), 4);
}

/* Blocks of rows in an order in which neighbours together see equally many keys: first, last, second, ... */
static ll_val block_at(tn_cpu_att *a, ll_val i, ll_val blocks) {
  tn_ll *e = a->k->e;
  if (!a->causal) return i;
  ll_val half = ll_lshr(e, i, ll_k(e, 1)), from_end = ll_sub(e, ll_sub(e, blocks, ll_k(e, 1)), half);
  return ll_select(e, LLVMBuildTrunc(e->b, i, e->i1, ""), from_end, half);
}

void tn_cpu_att_many(tn_cpu_att *a) {
  tn_cpu_kernel *k = a->k;
  tn_ll *e = k->e;
  many m = {.a = a};
  prepare(&m);
  if (m.amx) tn_cpu_amx_begin(k);
  ll_val rows = ll_mul(e, a->s, a->g), one = ll_k(e, 1);
  ll_val blocks = ll_imax(e, ll_ceildiv(e, rows, ll_k(e, m.rows_max)), one);
  ll_val heads = ll_imax(e, a->hkv, one), batches = tn_ll_dim(&k->body, a->tq.dims[0]);
  ll_val some = ll_icmp(e, LLVMIntSGT, rows, ll_k(e, 0));
  ll_val units = ll_select(e, some, ll_mul(e, ll_mul(e, batches, a->hkv), blocks), ll_k(e, 0));
  tn_cpu_taking t;
  tn_cpu_take_begin(k, &t, units, one, one);
  ll_val rest = ll_udiv(e, t.first, blocks), block = block_at(a, ll_urem(e, t.first, blocks), blocks);
  a->hk = ll_urem(e, rest, heads);
  a->b = ll_udiv(e, rest, heads);
  a->r0 = ll_udiv(e, ll_mul(e, rows, block), blocks);
  a->nrows = ll_sub(e, ll_udiv(e, ll_mul(e, rows, ll_add(e, block, one)), blocks), a->r0);
  unit(&m);
  tn_cpu_take_end(k, &t);
  if (m.amx) tn_cpu_amx_end(k);
}
