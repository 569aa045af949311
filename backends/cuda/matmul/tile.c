/* tile.c - see tile.h. Rows of a step lie in shared memory with their chunks of 16 bytes exchanged, so that
 * the 8 rows that ldmatrix reads at once, and the chunks that threads write at once, lie in different banks.
 *
 * The loop is software-pipelined twice: copies run stages - 1 steps ahead, fragments one product ahead. The
 * last product of a step comes behind the barrier that opens the next step, whose first fragments are fetched
 * under it.
 */
#include "backends/cuda/matmul/tile.h"

enum { STEP_BYTES = 32 /* of k in one mma */, PAD = 8 /* floats between rows of results in shared memory */ };

static ll_val i32(tn_cuda_tile *t, int64_t x) { return ll_int(t->k->e, t->k->e->i32, x); }
static ll_val plus(tn_cuda_tile *t, ll_val x, int64_t y) { return ll_iadd(t->k->e, x, i32(t, y)); }
static ll_val times(tn_cuda_tile *t, ll_val x, int64_t y) { return ll_imul(t->k->e, x, i32(t, y)); }
static ll_val over(tn_cuda_tile *t, ll_val x, int64_t y) { return ll_idiv(t->k->e, x, i32(t, y)); }
static ll_val rest(tn_cuda_tile *t, ll_val x, int64_t y) { return ll_imod(t->k->e, x, i32(t, y)); }

static ll_val shared_at(tn_cuda_tile *t, ll_val bytes) {
  tn_ll *e = t->k->e;
  return LLVMBuildInBoundsGEP2(e->b, e->i8, t->ring, &bytes, 1, "");
}

/* A variable, which the optimiser turns into a register. */
static ll_val variable(tn_ll *e, ll_type type) {
  LLVMBasicBlockRef here = LLVMGetInsertBlock(e->b), entry = LLVMGetEntryBasicBlock(e->fn);
  ll_val first = LLVMGetFirstInstruction(entry);
  if (first)
    LLVMPositionBuilderBefore(e->b, first);
  else
    LLVMPositionBuilderAtEnd(e->b, entry);
  ll_val v = LLVMBuildAlloca(e->b, type, "");
  LLVMPositionBuilderAtEnd(e->b, here);
  return v;
}
static ll_val get(tn_ll *e, ll_type type, ll_val v) { return LLVMBuildLoad2(e->b, type, v, ""); }
static void set(tn_ll *e, ll_val v, ll_val x) { LLVMBuildStore(e->b, x, v); }

static uint32_t element_bytes(const tn_cuda_tile *t) { return t->kind == TN_CUDA_MMA_TF32 ? 4 : 2; }

/* ---- where chunks lie in a slot -------------------------------------------------------------------------
 */

/* Chunks are exchanged within a row by these bits of its number. */
static ll_val exchange(tn_cuda_tile *t, ll_val row) {
  tn_ll *e = t->k->e;
  if (t->shape.bytes == 128) return ll_and(e, row, i32(t, 7));
  return ll_and(e, ll_lshr(e, row, i32(t, 1)), i32(t, 3));
}
/* Of values of f32 that come along the rows: they are turned when they are stored. */
static bool turned(const tn_cuda_tile *t, const tn_cuda_tile_side *s) {
  return !s->source.along_k && element_bytes(t) == 4;
}
static bool rows_of_k(const tn_cuda_tile *t, const tn_cuda_tile_side *s) {
  return s->source.along_k || turned(t, s);
}

/* A chunk of rows of k: bytes from the slot's begin. */
static ll_val place_of_k(tn_cuda_tile *t, const tn_cuda_tile_side *s, ll_val row, ll_val chunk) {
  tn_ll *e = t->k->e;
  ll_val c = ll_shl(e, ll_xor(e, chunk, exchange(t, row)), i32(t, 4));
  return plus(t, ll_iadd(e, times(t, row, t->shape.bytes), c), s->at);
}
/* A chunk of rows of m or n at k. */
static ll_val place_of_rows(tn_cuda_tile *t, const tn_cuda_tile_side *s, ll_val k, ll_val chunk) {
  tn_ll *e = t->k->e;
  ll_val c = ll_shl(e, ll_xor(e, chunk, ll_and(e, k, i32(t, 7))), i32(t, 4));
  return plus(t, ll_iadd(e, times(t, k, (int64_t)s->rows * 2), c), s->at);
}

/* ---- global to shared memory ----------------------------------------------------------------------------
 */

static uint32_t chunks_across(const tn_cuda_tile *t, const tn_cuda_tile_side *s) {
  uint32_t line = s->source.along_k ? t->shape.bytes : s->rows * element_bytes(t);
  return line / TN_CUDA_CHUNK_BYTES;
}
/* Lines between this thread's chunks. */
static uint32_t lines_on(const tn_cuda_tile *t, const tn_cuda_tile_side *s) {
  return tn_cuda_tile_threads(&t->shape) / chunks_across(t, s);
}

static void open_side(tn_cuda_tile *t, tn_cuda_tile_side *s) {
  tn_ll *e = t->k->e;
  uint32_t across = chunks_across(t, s), each = TN_CUDA_CHUNK_BYTES / element_bytes(t);
  uint32_t lines = s->source.along_k ? s->rows : tn_cuda_tile_depth(t);
  ll_val thread = tn_cuda_thread(t->k), line = over(t, thread, across), chunk = rest(t, thread, across);
  s->count = lines / lines_on(t, s);
  if (s->count * lines_on(t, s) != lines || s->count > TN_CUDA_TILE_CHUNKS) {
    tn_ll_fail(e, "a tile of %u x %u is not shared out by %u threads", lines, across * each,
               tn_cuda_tile_threads(&t->shape));
    s->count = 1;
  }
  s->row = s->source.along_k ? line : times(t, chunk, each);
  s->k = s->source.along_k ? times(t, chunk, each) : line;
  for (uint32_t i = 0; i < s->count; i++) {
    uint32_t on = i * lines_on(t, s);
    s->source.open(s->source.ctx, i, on, s->source.along_k ? plus(t, s->row, on) : s->row,
                   s->source.along_k ? s->k : plus(t, s->k, on));
    if (!s->source.async) s->held[i] = variable(e, LLVMVectorType(e->i32, 4));
  }
}

/* Where chunk i of this thread goes. */
static ll_val goes_to(tn_cuda_tile *t, const tn_cuda_tile_side *s, uint32_t i) {
  uint32_t each = TN_CUDA_CHUNK_BYTES / element_bytes(t), on = i * lines_on(t, s);
  if (s->source.along_k) return place_of_k(t, s, plus(t, s->row, on), over(t, s->k, each));
  return place_of_rows(t, s, plus(t, s->k, on), over(t, s->row, each));
}

static void store_turned(tn_cuda_tile *t, const tn_cuda_tile_side *s, uint32_t i, ll_val slot, ll_val v) {
  tn_ll *e = t->k->e;
  ll_val k = plus(t, s->k, (int64_t)i * lines_on(t, s));
  for (uint32_t j = 0; j < 4; j++) {
    ll_val at = place_of_k(t, s, plus(t, s->row, j), over(t, k, 4));
    at = ll_iadd(e, at, times(t, rest(t, k, 4), 4));
    ll_store(e, ll_lane(e, v, j), shared_at(t, ll_iadd(e, slot, at)), 4);
  }
}

static void store_held(tn_cuda_tile *t, tn_cuda_tile_side *s, ll_val slot) {
  tn_ll *e = t->k->e;
  for (uint32_t i = 0; i < s->count && !s->source.async; i++) {
    ll_val v = get(e, LLVMVectorType(e->i32, 4), s->held[i]);
    if (turned(t, s))
      store_turned(t, s, i, slot, v);
    else
      ll_store(e, v, shared_at(t, ll_iadd(e, slot, goes_to(t, s, i))), TN_CUDA_CHUNK_BYTES);
  }
}

static void begin_chunk(tn_cuda_tile *t, tn_cuda_tile_side *s, uint32_t i, ll_val k0, ll_val slot) {
  tn_ll *e = t->k->e;
  if (!s->source.async) {
    ll_val v = s->source.values(s->source.ctx, i, k0);
    set(e, s->held[i], ll_cast_bits(e, v, LLVMVectorType(e->i32, 4)));
    return;
  }
  ll_val valid = NULL, from = s->source.address(s->source.ctx, i, k0, &valid);
  ll_val to = shared_at(t, ll_iadd(e, slot, goes_to(t, s, i)));
  tn_cuda_copy_async(t->k, to, from, TN_CUDA_CHUNK_BYTES, valid);
}
/* Part `part` of `parts` of the copies of the step at k0; values are all asked for in the first one. */
static void begin_step(tn_cuda_tile *t, ll_val k0, ll_val slot, uint32_t part, uint32_t parts) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < 2; i++)
    for (uint32_t j = 0; j < t->side[i].count; j++, n++)
      if (part == (t->side[i].source.async ? n % parts : 0)) begin_chunk(t, &t->side[i], j, k0, slot);
}

/* ---- shared memory to registers -------------------------------------------------------------------------
 */

/* This lane's row of the ldmatrix that fetches 16 rows from 16 `group` on, product kk of the step. Of the
 * four matrices of 8 x 8, a wants those of one k one after the other, b those of the same rows. */
static ll_val matrix_row(tn_cuda_tile *t, const tn_cuda_tile_side *s, uint32_t group, uint32_t kk) {
  tn_ll *e = t->k->e;
  ll_val lane = tn_cuda_lane(t->k), r = ll_and(e, lane, i32(t, 7));
  ll_val low = ll_and(e, ll_lshr(e, lane, i32(t, 3)), i32(t, 1)), high = ll_lshr(e, lane, i32(t, 4));
  ll_val row_half = s->first ? low : high, k_half = s->first ? high : low;
  if (rows_of_k(t, s)) {
    ll_val row = ll_iadd(e, s->warp_row, ll_iadd(e, times(t, row_half, 8), r));
    ll_val c = ll_shl(e, ll_xor(e, plus(t, k_half, 2 * kk), exchange(t, r)), i32(t, 4));
    return plus(t, ll_iadd(e, times(t, row, t->shape.bytes), c), s->at + 16 * group * t->shape.bytes);
  }
  ll_val k = ll_iadd(e, times(t, k_half, 8), r);
  ll_val chunk = plus(t, ll_iadd(e, over(t, s->warp_row, 8), row_half), 2 * group);
  return plus(t, place_of_rows(t, s, k, chunk), (int64_t)kk * 16 * s->rows * 2);
}

static void fetch_fragments(tn_cuda_tile *t, tn_cuda_tile_side *s, uint32_t into, ll_val slot, uint32_t kk) {
  tn_ll *e = t->k->e;
  for (uint32_t g = 0; g < s->warp_rows / 16; g++) {
    ll_val out[4];
    tn_cuda_ldmatrix(t->k, shared_at(t, ll_iadd(e, slot, matrix_row(t, s, g, kk))), 4, !rows_of_k(t, s), out);
    for (uint32_t i = 0; i < 4; i++) {
      if (t->kind == TN_CUDA_MMA_TF32) out[i] = tn_cuda_tf32(t->k, ll_cast_bits(e, out[i], e->f32));
      set(e, s->fragments[into][4 * g + i], out[i]);
    }
  }
}
static void fetch(tn_cuda_tile *t, uint32_t into, ll_val slot, uint32_t kk) {
  for (uint32_t i = 0; i < 2; i++) fetch_fragments(t, &t->side[i], into, slot, kk);
}

static void multiply(tn_cuda_tile *t, uint32_t from) {
  tn_ll *e = t->k->e;
  ll_val a[4 * TN_CUDA_TILE_FRAGMENTS], b[4 * TN_CUDA_TILE_FRAGMENTS];
  for (uint32_t i = 0; i < t->shape.warp_m / 4; i++) a[i] = get(e, e->i32, t->side[0].fragments[from][i]);
  for (uint32_t i = 0; i < t->shape.warp_n / 4; i++) b[i] = get(e, e->i32, t->side[1].fragments[from][i]);
  for (uint32_t i = 0; i < t->shape.warp_m / 16; i++)
    for (uint32_t j = 0; j < t->shape.warp_n / 8; j++) {
      ll_val c[4];
      for (uint32_t l = 0; l < 4; l++) c[l] = get(e, e->f32, t->sums[i][j][l]);
      tn_cuda_mma_sync(t->k, t->kind, a + 4 * i, b + 2 * j, c, c);
      for (uint32_t l = 0; l < 4; l++) set(e, t->sums[i][j][l], c[l]);
    }
}

/* ---- the loop -------------------------------------------------------------------------------------------
 */

static void set_up(tn_cuda_tile *t) {
  tn_ll *e = t->k->e;
  ll_val warp = tn_cuda_warp(t->k);
  uint32_t across = t->shape.n / t->shape.warp_n;
  t->side[0] =
      (tn_cuda_tile_side){.source = t->a, .first = true, .rows = t->shape.m, .warp_rows = t->shape.warp_m};
  t->side[1] = (tn_cuda_tile_side){.source = t->b, .rows = t->shape.n, .warp_rows = t->shape.warp_n};
  t->side[0].warp_row = times(t, over(t, warp, across), t->shape.warp_m);
  t->side[1].warp_row = times(t, rest(t, warp, across), t->shape.warp_n);
  t->side[1].at = t->shape.m * t->shape.bytes;
  t->slot_bytes = (t->shape.m + t->shape.n) * t->shape.bytes;
  t->ring = tn_cuda_shared(t->k, t->slot_bytes * t->shape.stages, 128);
  for (uint32_t i = 0; i < 2; i++) {
    tn_cuda_tile_side *s = &t->side[i];
    open_side(t, s);
    for (uint32_t f = 0; f < s->warp_rows / 4; f++)
      for (uint32_t b = 0; b < 2; b++) s->fragments[b][f] = variable(e, e->i32);
  }
  for (uint32_t i = 0; i < t->shape.warp_m / 16; i++)
    for (uint32_t j = 0; j < t->shape.warp_n / 8; j++)
      for (uint32_t l = 0; l < 4; l++) {
        t->sums[i][j][l] = variable(e, e->f32);
        set(e, t->sums[i][j][l], ll_real(e, e->f32, 0));
      }
}

static ll_val next_slot(tn_cuda_tile *t, ll_val slot) {
  ll_val on = plus(t, slot, t->slot_bytes), end = i32(t, (int64_t)t->slot_bytes * t->shape.stages);
  return ll_select(t->k->e, ll_icmp(t->k->e, LLVMIntEQ, on, end), i32(t, 0), on);
}

/* One step: reads `slot`, fills `free`; the next one's slot. */
static ll_val step(tn_cuda_tile *t, ll_val k0, ll_val slot, ll_val free) {
  uint32_t products = t->shape.bytes / STEP_BYTES;
  ll_val next = next_slot(t, slot);
  for (uint32_t kk = 0; kk < products; kk++) {
    bool last = kk + 1 == products;
    if (last) {
      tn_cuda_copy_commit(t->k);
      for (uint32_t i = 0; i < 2; i++) store_held(t, &t->side[i], free);
      tn_cuda_copy_wait(t->k, t->shape.stages - 2);
      tn_cuda_barrier(t->k);
    }
    fetch(t, (kk + 1) % 2, last ? next : slot, last ? 0 : kk + 1);
    if (!last) begin_step(t, k0, free, kk, products - 1);
    multiply(t, kk % 2);
  }
  return next;
}

void tn_cuda_tile_run(tn_cuda_tile *t, ll_val depth) {
  tn_ll *e = t->k->e;
  uint32_t each = tn_cuda_tile_depth(t), ahead = t->shape.stages - 1;
  set_up(t);
  for (uint32_t s = 0; s < ahead; s++) {
    ll_val slot = i32(t, (int64_t)s * t->slot_bytes);
    begin_step(t, i32(t, (int64_t)s * each), slot, 0, 1);
    tn_cuda_copy_commit(t->k);
    for (uint32_t i = 0; i < 2; i++) store_held(t, &t->side[i], slot);
  }
  tn_cuda_copy_wait(t->k, t->shape.stages - 2);
  tn_cuda_barrier(t->k);
  fetch(t, 0, i32(t, 0), 0);
  ll_loop l;
  ll_val slots[] = {i32(t, 0), i32(t, (int64_t)ahead * t->slot_bytes)};
  ll_loop_begin(e, &l, i32(t, 0), depth, i32(t, each), slots, 2);
  ll_val next[] = {NULL, next_slot(t, l.phi[1])};
  next[0] = step(t, plus(t, l.iv, (int64_t)ahead * each), l.phi[0], l.phi[1]);
  ll_loop_end(e, &l, next);
  tn_cuda_copy_wait(t->k, 0);
  tn_cuda_barrier(t->k);
}

/* ---- results --------------------------------------------------------------------------------------------
 */

static uint32_t pitch(const tn_cuda_tile *t) { return (t->shape.warp_n + PAD) * 4; }

/* This warp's sums of 16 rows into its own part of the ring. */
static void leave(tn_cuda_tile *t, uint32_t group, ll_val room) {
  tn_ll *e = t->k->e;
  ll_val lane = tn_cuda_lane(t->k), row = over(t, lane, 4), column = times(t, rest(t, lane, 4), 8);
  ll_val at = ll_iadd(e, room, ll_iadd(e, times(t, row, pitch(t)), column));
  for (uint32_t j = 0; j < t->shape.warp_n / 8; j++)
    for (uint32_t h = 0; h < 2; h++) {
      ll_val pair = LLVMGetPoison(LLVMVectorType(e->f32, 2));
      for (uint32_t l = 0; l < 2; l++)
        pair = ll_put(e, pair, get(e, e->f32, t->sums[group][j][2 * h + l]), l);
      ll_store(e, pair, shared_at(t, plus(t, at, h * 8 * pitch(t) + j * 32)), 8);
    }
}

ll_val tn_cuda_tile_sums(tn_cuda_tile *t, uint32_t half) {
  tn_ll *e = t->k->e;
  ll_val p = shared_at(t, plus(t, t->at, (int64_t)half * t->half_columns * 4));
  ll_type type = t->wide == 1 ? e->f32 : LLVMVectorType(e->f32, t->wide);
  return ll_load(e, type, p, t->wide % 4 ? 4 : 16);
}

void tn_cuda_tile_finish(tn_cuda_tile *t, uint32_t wide, bool halves,
                         void (*put)(void *ctx, ll_val row, ll_val column), void *ctx) {
  tn_ll *e = t->k->e;
  uint32_t columns = t->shape.warp_n / (halves ? 2 : 1), across = columns / wide;
  ll_val room = times(t, tn_cuda_warp(t->k), 16 * pitch(t)), lane = tn_cuda_lane(t->k);
  ll_val first = halves ? over(t, t->side[1].warp_row, 2) : t->side[1].warp_row;
  t->wide = wide;
  t->half_columns = columns;
  for (uint32_t g = 0; g < t->shape.warp_m / 16; g++) {
    ll_loop l;
    leave(t, g, room);
    tn_cuda_warp_sync(t->k);
    ll_loop_begin(e, &l, lane, i32(t, 16 * across), i32(t, 32), NULL, 0);
    ll_val row = over(t, l.iv, across), column = times(t, rest(t, l.iv, across), wide);
    t->at = ll_iadd(e, room, ll_iadd(e, times(t, row, pitch(t)), times(t, column, 4)));
    tn_ll_body_forget(&t->k->body);
    put(ctx, plus(t, ll_iadd(e, t->side[0].warp_row, row), 16 * g), ll_iadd(e, first, column));
    ll_loop_end(e, &l, NULL);
    tn_ll_body_forget(&t->k->body);
    tn_cuda_warp_sync(t->k);
  }
}
