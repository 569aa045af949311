/* stream.c - see stream.h: the plan, rows of the left operand in shared memory, weights of whole elements by
 * rows and by columns, and the sums. */
#include "backends/cuda/matmul/blocks.h"
#include "backends/cuda/warp.h"
#include "backends/llvm/convert.h"

enum {
  THREADS = TN_CUDA_STREAM_THREADS,
  WARPS = THREADS / 32,
  STAGED = 8192,       /* values of x in shared memory at most */
  MANY_COLUMNS = 8192, /* a warp takes more of them */
  WARPS_WANTED = 2048, /* of all blocks: less leave memory waiting */
  UNROLL = 4,          /* loads of a row under way */
  EARLY = 2            /* of them asked for before x is there */
};

static ll_val i32(tn_cuda_stream *s, int64_t x) { return LLVMConstInt(s->k->e->i32, (uint64_t)x, 1); }

/* ---- the plan ------------------------------------------------------------------------------------------ */

static uint32_t lanes_of(tn_cuda_stream *s) {
  tn_dtype t = s->tw.dtype;
  if (t >= TN_DT_BLOCK) return 4;
  uint32_t bytes = tn_ll_dtype_of(t).bytes;
  if (!s->by_columns) return bytes < 4 ? 16 / bytes : 4;
  return bytes < 4 ? 4 / bytes : 1;
}

static void plan_columns(tn_cuda_stream *s) {
  if (!tn_ll_dim_multiple(&s->k->body, s->n, s->lanes)) s->lanes = 1;
  s->rows = s->pair ? 2 : 1;
  s->split = WARPS;
  s->columns = 32 * s->lanes;
}

static void plan_rows(tn_cuda_stream *s) {
  int64_t n, depth, step = 32 * (int64_t)s->lanes;
  uint32_t buffer = UINT32_MAX;
  const tn_quant *q = tn_quant_of(s->tw.dtype);
  tn_cuda_buffer(s->k, s->w, &buffer);
  s->q = q && !s->whole && buffer != UINT32_MAX && tn_cuda_blocks_takes(q) ? q : NULL;
  if (s->q) step = 32 * (int64_t)tn_cuda_blocks_step(q);
  if (!tn_ll_dim_const(&s->k->body, s->n, &n)) n = MANY_COLUMNS;
  if (!tn_ll_dim_const(&s->k->body, s->depth, &depth)) depth = 0;
  if (s->pair) n *= 2;
  s->rows = n >= MANY_COLUMNS && s->tw.dtype >= TN_DT_BLOCK ? 4 : 2;
  s->split = 1;
  while (s->split < WARPS && n * s->split < (int64_t)WARPS_WANTED * s->rows && depth >= 2 * step * s->split)
    s->split *= 2;
  s->columns = WARPS / s->split * s->rows / (s->pair ? 2 : 1);
}

void tn_cuda_stream_plan(tn_cuda_stream *s) {
  int64_t depth;
  s->lanes = lanes_of(s);
  s->chunk = STAGED / s->tile;
  if (tn_ll_dim_const(&s->k->body, s->depth, &depth)) { /* chunks of nearly one size */
    int64_t chunks = depth / s->chunk + (depth % s->chunk != 0);
    s->chunk = (uint32_t)tn_align_up((uint64_t)(chunks ? (depth + chunks - 1) / chunks : 1), 256);
  }
  if (s->by_columns)
    plan_columns(s);
  else
    plan_rows(s);
}

/* ---- rows of the left operand -------------------------------------------------------------------------- */

/* Four values lie together; within 128 bytes they are shuffled so that lanes which read a constant number of
 * values apart do not meet in a bank: not for any of the formats' distances. */
static ll_val x_place(tn_cuda_stream *s, uint32_t t, ll_val f) {
  tn_ll *e = s->k->e;
  bool far = s->q && s->q->plane->run == 1 && s->q->plane->bits == 2;
  ll_val g = ll_lshr(e, f, i32(s, 3));
  ll_val h = ll_xor(e, ll_xor(e, g, ll_lshr(e, g, i32(s, 1))), ll_lshr(e, g, i32(s, far ? 4 : 3)));
  ll_val at = ll_shl(e, ll_xor(e, f, ll_and(e, h, i32(s, 7))), i32(s, 4));
  return ll_at(e, s->xs, ll_iadd(e, at, i32(s, (int64_t)t * s->chunk * 4)));
}
static ll_type sum_type(tn_cuda_stream *s) { return s->whole ? s->k->e->i32 : s->k->e->f32; }
static ll_type four(tn_cuda_stream *s) { return LLVMVectorType(sum_type(s), 4); }

ll_val tn_cuda_stream_x(tn_cuda_stream *s, uint32_t t, ll_val f) {
  return ll_load(s->k->e, four(s), x_place(s, t, f), 16);
}

/* The chunk of all rows; up to a whole number of what a lane reads at once. */
static void stage(tn_cuda_stream *s) {
  tn_ll *e = s->k->e;
  ll_loop l;
  uint32_t step = s->lanes > 4 ? s->lanes : 4;
  bool whole = tn_ll_dim_multiple(&s->k->body, s->depth, step);
  ll_val units = ll_mul(e, ll_ceildiv(e, s->kc, i32(s, step)), i32(s, step / 4));
  e->lanes = 4;
  ll_loop_begin(e, &l, tn_cuda_thread(s->k), units, i32(s, THREADS), NULL, 0);
  for (uint32_t t = 0; t < s->tile; t++) {
    tn_ll_body_forget(&s->k->body);
    ll_val j = ll_iadd(e, s->k0, tn_cuda_i64(s->k, ll_mul(e, l.iv, i32(s, 4))));
    ll_val mask = whole ? NULL : ll_mask_below(e, ll_sub(e, s->k_end, j));
    ll_val v = s->x(s->ctx, t, tn_ll_ix_lanes(j, true), mask);
    if (mask) v = ll_select(e, mask, v, ll_zero(LLVMTypeOf(v)));
    ll_store(e, v, x_place(s, t, l.iv), 16);
  }
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&s->k->body);
}

/* ---- weights ------------------------------------------------------------------------------------------- */

static ll_val weight(tn_cuda_stream *s, const tn_ll_index *ix) {
  tn_ll *e = s->k->e;
  ll_val v = tn_ll_eval(&s->k->body, s->w, ix);
  v = tn_ll_convert(e, s->tw.dtype >= TN_DT_BLOCK ? TN_DT_f32 : s->tw.dtype, s->whole ? TN_DT_i32 : TN_DT_f32,
                    v);
  return s->lanes > 1 ? ll_wide(e, v, true) : v;
}
static ll_val times_plus(tn_cuda_stream *s, ll_val x, ll_val y, ll_val z) {
  tn_ll *e = s->k->e;
  return s->whole ? ll_add(e, ll_mul(e, x, y), z) : ll_fma(e, x, y, z);
}

/* Vectors of the warp's rows. */
static void add_masked(tn_cuda_stream *s, ll_val v, uint32_t count, ll_val mask, ll_val *acc) {
  tn_ll *e = s->k->e;
  ll_val w[UNROLL][8];
  tn_ll_body_forget(&s->k->body);
  tn_ll_index ix = s->at;
  ix.rank = s->tw.rank;
  ix.mask = mask;
  for (uint32_t u = 0; u < count; u++) {
    ll_val at = ll_iadd(e, v, i32(s, (int64_t)u * 32 * s->split));
    ll_val j = ll_iadd(e, s->k0, tn_cuda_i64(s->k, ll_mul(e, at, i32(s, s->lanes))));
    for (uint32_t r = 0; r < s->rows; r++) {
      ix.at[ix.rank - 2] = tn_ll_ix_scalar(s->w_rows[r]);
      ix.at[ix.rank - 1] = tn_ll_ix_lanes(j, true);
      w[u][r] = weight(s, &ix);
    }
  }
  for (uint32_t u = 0; u < count; u++) {
    ll_val at = ll_iadd(e, v, i32(s, (int64_t)u * 32 * s->split));
    ll_val f = ll_mul(e, at, i32(s, s->lanes / 4));
    for (uint32_t t = 0; t < s->tile; t++)
      for (uint32_t i = 0; i < s->lanes; i += 4) {
        ll_val x = tn_cuda_stream_x(s, t, ll_iadd(e, f, i32(s, i / 4)));
        for (uint32_t r = 0; r < s->rows; r++) {
          ll_val *a = &acc[t * s->rows + r];
          for (uint32_t n = 0; n < 4; n++)
            *a = times_plus(s, ll_lane(e, w[u][r], i + n), ll_lane(e, x, n), *a);
        }
      }
  }
}

static void add_vectors(tn_cuda_stream *s, ll_val v, uint32_t count, ll_val *acc) {
  add_masked(s, v, count, NULL, acc);
}

void tn_cuda_stream_loop(tn_cuda_stream *s, ll_val *v, ll_val end, uint32_t count, tn_cuda_stream_fn fn,
                         ll_val *acc) {
  tn_ll *e = s->k->e;
  ll_loop l;
  uint32_t n = s->tile * s->rows;
  int64_t step = 32 * (int64_t)s->split;
  ll_val carried[TN_CUDA_STREAM_SUMS + 1];
  memcpy(carried, acc, n * sizeof *acc);
  carried[n] = *v;
  ll_val last = ll_sub(e, end, i32(s, step * (count - 1)));
  ll_loop_begin(e, &l, *v, last, i32(s, step * count), carried, n + 1);
  memcpy(carried, l.phi, n * sizeof *carried);
  tn_ll_body_forget(&s->k->body);
  fn(s, l.iv, count, carried);
  carried[n] = ll_iadd(e, l.iv, i32(s, step * count));
  ll_loop_end(e, &l, carried);
  memcpy(acc, l.out, n * sizeof *acc);
  *v = l.out[n];
  tn_ll_body_forget(&s->k->body);
}

/* The vector that only begins inside, by a loop of at most one trip. */
static void tail_vector(tn_cuda_stream *s, ll_val v, ll_val full, ll_val *acc) {
  tn_ll *e = s->k->e;
  ll_loop l;
  ll_val left = ll_sub(e, s->kc, ll_mul(e, full, i32(s, s->lanes)));
  ll_val some = ll_and(e, ll_icmp(e, LLVMIntEQ, v, full), ll_icmp(e, LLVMIntSGT, left, i32(s, 0)));
  ll_val once = LLVMBuildZExt(e->b, some, e->i32, "");
  ll_loop_begin(e, &l, i32(s, 0), once, i32(s, 1), acc, s->tile * s->rows);
  ll_val next[TN_CUDA_STREAM_SUMS];
  memcpy(next, l.phi, s->tile * s->rows * sizeof *next);
  add_masked(s, v, 1, ll_mask_below(e, LLVMBuildSExt(e->b, left, e->i64, "")), next);
  ll_loop_end(e, &l, next);
  memcpy(acc, l.out, s->tile * s->rows * sizeof *acc);
  tn_ll_body_forget(&s->k->body);
}

static void by_rows(tn_cuda_stream *s, ll_val *acc) {
  tn_ll *e = s->k->e;
  if (s->q) {
    tn_cuda_blocks_add(s, acc);
    return;
  }
  ll_val v = s->k_lane, full = ll_udiv(e, s->kc, i32(s, s->lanes));
  bool codes = s->tw.dtype >= TN_DT_BLOCK; /* a lot of code per value */
  e->lanes = s->lanes;
  if (!codes) tn_cuda_stream_loop(s, &v, full, s->rows * s->tile > 8 ? 2 : UNROLL, add_vectors, acc);
  tn_cuda_stream_loop(s, &v, full, 1, add_vectors, acc);
  if (!tn_ll_dim_multiple(&s->k->body, s->depth, s->lanes)) tail_vector(s, v, full, acc);
}

/* ---- by columns ---------------------------------------------------------------------------------------- */

/* This lane's columns; those behind the last one are read as the last ones. */
static ll_val lane_column(tn_cuda_stream *s, uint32_t half) {
  tn_ll *e = s->k->e;
  ll_val n = tn_ll_dim(&s->k->body, s->n), most = ll_sub(e, n, ll_k(e, s->lanes));
  ll_val lane = tn_cuda_i64(s->k, ll_mul(e, tn_cuda_lane(s->k), i32(s, s->lanes)));
  ll_val c = ll_imin(e, ll_iadd(e, s->n0, lane), most);
  return half ? ll_iadd(e, c, n) : c;
}

static void add_column(tn_cuda_stream *s, ll_val j, ll_val xs[], uint32_t i, ll_val *acc) {
  tn_ll *e = s->k->e;
  bool even = tn_ll_dim_multiple(&s->k->body, s->depth, 4);
  ll_val at = ll_iadd(e, j, ll_k(e, i)), in = ll_icmp(e, LLVMIntSLT, at, s->k_end);
  tn_ll_index ix = s->at;
  ix.rank = s->tw.rank;
  if (!even) ix.pred = in;
  ix.at[ix.rank - 2] = tn_ll_ix_scalar(at);
  for (uint32_t h = 0; h < s->rows; h++) {
    ix.at[ix.rank - 1] = s->lanes > 1 ? tn_ll_ix_lanes(s->w_rows[h], true) : tn_ll_ix_scalar(s->w_rows[h]);
    ll_val w = weight(s, &ix);
    if (!even) w = ll_select(e, in, w, ll_zero(LLVMTypeOf(w)));
    for (uint32_t t = 0; t < s->tile; t++)
      for (uint32_t c = 0; c < s->lanes; c++) {
        ll_val *a = &acc[(t * s->rows + h) * s->lanes + c];
        *a = times_plus(s, s->lanes > 1 ? ll_lane(e, w, c) : w, ll_lane(e, xs[t], i), *a);
      }
  }
}

static void by_columns(tn_cuda_stream *s, ll_val *acc) {
  tn_ll *e = s->k->e;
  ll_loop l;
  uint32_t n = s->tile * s->rows * s->lanes;
  ll_val xs[TN_CUDA_STREAM_SUMS], next[TN_CUDA_STREAM_SUMS];
  e->lanes = s->lanes;
  for (uint32_t h = 0; h < s->rows; h++) s->w_rows[h] = lane_column(s, h);
  ll_loop_begin(e, &l, s->k_lane, ll_ceildiv(e, s->kc, i32(s, 4)), i32(s, WARPS), acc, n);
  tn_ll_body_forget(&s->k->body);
  memcpy(next, l.phi, n * sizeof *next);
  ll_val j = ll_iadd(e, s->k0, tn_cuda_i64(s->k, ll_mul(e, l.iv, i32(s, 4))));
  for (uint32_t t = 0; t < s->tile; t++) xs[t] = tn_cuda_stream_x(s, t, l.iv);
  for (uint32_t i = 0; i < 4; i++) add_column(s, j, xs, i, next);
  ll_loop_end(e, &l, next);
  memcpy(acc, l.out, n * sizeof *acc);
  tn_ll_body_forget(&s->k->body);
}

/* ---- sums ---------------------------------------------------------------------------------------------- */

static uint32_t sums_of_warp(tn_cuda_stream *s) { return s->tile * s->rows * (s->by_columns ? s->lanes : 1); }
static uint32_t product_columns(tn_cuda_stream *s) { return s->columns * (s->pair ? 2 : 1); }

/* Sums lie as [split][tile][columns of the product]. */
static ll_val sum_place(tn_cuda_stream *s, ll_val part, ll_val t, ll_val column) {
  tn_ll *e = s->k->e;
  ll_val line = ll_iadd(e, ll_mul(e, part, i32(s, s->tile)), t);
  ll_val at = ll_iadd(e, ll_mul(e, line, i32(s, product_columns(s))), column);
  return ll_at(e, s->sums, ll_shl(e, at, i32(s, 2)));
}
static ll_val add(tn_ll *e, ll_val a, ll_val b) { return ll_add(e, a, b); }

/* Column of the product, in this block, of the warp's row r. */
static ll_val column_of_row(tn_cuda_stream *s, uint32_t r) {
  tn_ll *e = s->k->e;
  uint32_t per = s->rows / (s->pair ? 2 : 1);
  return ll_iadd(e, ll_mul(e, s->row_warp, i32(s, per)), i32(s, r % per + r / per * s->columns));
}

static void keep_rows(tn_cuda_stream *s, ll_val *acc) {
  tn_ll *e = s->k->e;
  ll_if first;
  uint32_t n = s->tile * s->rows;
  ll_val part = ll_lshr(e, s->k_lane, i32(s, 5));
  for (uint32_t i = 0; i < n; i++)
    acc[i] = tn_cuda_warp_reduce(s->k, acc[i], 32, s->whole ? add : tn_cuda_fadd);
  ll_if_begin(e, &first, ll_icmp(e, LLVMIntEQ, tn_cuda_lane(s->k), i32(s, 0)));
  for (uint32_t i = 0; i < n; i++)
    ll_store(e, acc[i], sum_place(s, part, i32(s, i / s->rows), column_of_row(s, i % s->rows)), 4);
  ll_if_end(e, &first);
}
static void keep_columns(tn_cuda_stream *s, const ll_val *acc) {
  tn_ll *e = s->k->e;
  ll_val lane = ll_mul(e, tn_cuda_lane(s->k), i32(s, s->lanes));
  for (uint32_t t = 0; t < s->tile; t++)
    for (uint32_t h = 0; h < s->rows; h++)
      for (uint32_t c = 0; c < s->lanes; c++)
        ll_store(e, acc[(t * s->rows + h) * s->lanes + c],
                 sum_place(s, s->k_lane, i32(s, t), ll_iadd(e, lane, i32(s, h * s->columns + c))), 4);
}

ll_val tn_cuda_stream_sum(tn_cuda_stream *s, ll_val t, ll_val c, uint32_t half) {
  tn_ll *e = s->k->e;
  ll_val sum = NULL, column = half ? ll_iadd(e, c, i32(s, s->columns)) : c;
  for (uint32_t i = 0; i < s->split; i++) {
    ll_val v = ll_load(e, sum_type(s), sum_place(s, i32(s, i), t, column), 4);
    sum = !sum ? v : s->whole ? ll_add(e, sum, v) : ll_fadd(e, sum, v);
  }
  return sum;
}

/* ---- all of it ----------------------------------------------------------------------------------------- */

/* Rows of w behind the last one are read as the last one. */
static void find_rows(tn_cuda_stream *s) {
  tn_ll *e = s->k->e;
  ll_val n = tn_ll_dim(&s->k->body, s->n), most = ll_sub(e, n, ll_k(e, 1));
  uint32_t per = s->rows / (s->pair ? 2 : 1);
  for (uint32_t r = 0; r < s->rows; r++) {
    ll_val c = ll_iadd(e, ll_mul(e, s->row_warp, i32(s, per)), i32(s, r % per));
    ll_val row = ll_imin(e, ll_iadd(e, s->n0, tn_cuda_i64(s->k, c)), most);
    s->w_rows[r] = r / per ? ll_iadd(e, row, n) : row;
  }
}

ll_val tn_cuda_stream_row(tn_cuda_stream *s, ll_val row) {
  tn_ll *e = s->k->e;
  ll_val lead = ll_k(e, 0);
  for (uint32_t i = 0; i + 2 < s->tw.rank; i++)
    lead = ll_iadd(e, ll_imul(e, lead, tn_ll_dim(&s->k->body, s->tw.dims[i])), s->at.at[i].v);
  return ll_iadd(e, ll_imul(e, lead, tn_ll_dim(&s->k->body, s->tw.dims[s->tw.rank - 2])), row);
}

/* Has what the warp reads first brought into the second-level cache, while x is still on its way. */
static void ask_early(tn_cuda_stream *s) {
  tn_ll *e = s->k->e;
  ll_val buffer = tn_cuda_buffer(s->k, s->w, NULL), size = tn_ll_dim(&s->k->body, s->depth);
  if (!buffer || s->by_columns) return;
  uint32_t bytes = s->q ? s->q->bytes / tn_cuda_pieces(s->q) : s->lanes * tn_ll_dtype_of(s->tw.dtype).bytes;
  const tn_quant *q = tn_quant_of(s->tw.dtype);
  if (q && !s->q) return;
  size = q ? ll_imul(e, ll_udiv(e, size, ll_k(e, q->values)), ll_k(e, q->bytes))
           : ll_imul(e, size, ll_k(e, tn_ll_dtype_of(s->tw.dtype).bytes));
  ll_val last = ll_imax(e, ll_sub(e, size, ll_k(e, 1)), ll_k(e, 0));
  for (uint32_t u = 0; u < EARLY; u++) {
    ll_val lane = tn_cuda_i64(s->k, ll_iadd(e, s->k_lane, i32(s, (int64_t)u * 32 * s->split)));
    ll_val at = ll_imin(e, ll_imul(e, lane, ll_k(e, bytes)), last);
    for (uint32_t r = 0; r < s->rows; r++) {
      ll_val row = ll_imul(e, tn_cuda_stream_row(s, s->w_rows[r]), size);
      ll_val p = tn_cuda_global(s->k, ll_at(e, buffer, ll_iadd(e, row, at)));
      tn_cuda_asm(s->k, e->tvoid, "prefetch.global.L2 [$0];", "l", &p, 1);
    }
  }
}

static void find_place(tn_cuda_stream *s) {
  tn_ll *e = s->k->e;
  ll_val warp = tn_cuda_warp(s->k), lane = tn_cuda_lane(s->k);
  if (s->by_columns) {
    s->k_lane = warp;
    return;
  }
  s->row_warp = ll_udiv(e, warp, i32(s, s->split));
  s->k_lane = ll_iadd(e, ll_mul(e, ll_urem(e, warp, i32(s, s->split)), i32(s, 32)), lane);
  find_rows(s);
}

static void chunk(tn_cuda_stream *s, ll_val k0, ll_val *acc) {
  tn_ll *e = s->k->e;
  s->k0 = k0;
  ll_val left = ll_imin(e, ll_sub(e, s->k_end, k0), ll_k(e, s->chunk));
  s->kc = LLVMBuildTrunc(e->b, left, e->i32, "");
  stage(s);
  tn_cuda_barrier(s->k);
  if (s->by_columns)
    by_columns(s, acc);
  else
    by_rows(s, acc);
}

void tn_cuda_stream_run(tn_cuda_stream *s) {
  tn_ll *e = s->k->e;
  ll_loop l;
  ll_val acc[TN_CUDA_STREAM_SUMS];
  int64_t depth;
  uint32_t n = sums_of_warp(s);
  s->xs = tn_cuda_shared(s->k, s->tile * s->chunk * 4, 128);
  s->sums = tn_cuda_shared(s->k, s->split * s->tile * product_columns(s) * 4, 16);
  for (uint32_t i = 0; i < n; i++) acc[i] = ll_zero(sum_type(s));
  find_place(s);
  ask_early(s);
  s->table = NULL;
  if (s->q) tn_cuda_codes_begin(s);
  if (tn_ll_dim_const(&s->k->body, s->depth, &depth) && depth <= s->chunk) {
    chunk(s, ll_k(e, 0), acc);
  } else {
    ll_loop_begin(e, &l, ll_k(e, 0), s->k_end, ll_k(e, s->chunk), acc, n);
    tn_ll_body_forget(&s->k->body);
    memcpy(acc, l.phi, n * sizeof *acc);
    chunk(s, l.iv, acc);
    tn_cuda_barrier(s->k);
    ll_loop_end(e, &l, acc);
    memcpy(acc, l.out, n * sizeof *acc);
  }
  e->lanes = 4;
  tn_ll_body_forget(&s->k->body);
  if (s->by_columns)
    keep_columns(s, acc);
  else
    keep_rows(s, acc);
  tn_cuda_barrier(s->k);
}
