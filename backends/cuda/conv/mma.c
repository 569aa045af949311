/* mma.c - convolutions by tensor cores, through the main loop of matrix products (../matmul/tile.h): the
 * weights are its first operand, with k as the fast dimension, windows of x its second one, with positions as
 * the fast dimension. Where the window is one element, and nothing but channels is summed up, x is copied as
 * it lies; otherwise a thread gathers the neighbouring positions of a chunk. */
#include "backends/cuda/conv/conv.h"
#include "backends/cuda/matmul/matmul.h"
#include "backends/llvm/convert.h"

enum { MOST_LANES = 8, PLACE_BYTES = 32 };

typedef struct product {
  tn_cuda_conv *v;
  tn_cuda_tile t;
  tn_dtype stage;
  uint32_t lanes;      /* elements of a chunk */
  bool w_lies, x_lies; /* chunks are copied */
  ll_val row, column;  /* of the block */
  ll_val w_row[TN_CUDA_TILE_CHUNKS], w_k[TN_CUDA_TILE_CHUNKS], x_k[TN_CUDA_TILE_CHUNKS];
  ll_val table, x_row;                   /* places of all positions; this thread's first one */
  tn_cuda_conv_place places[MOST_LANES]; /* of this thread's chunks, which are all of the same positions */
} product;

static const tn_dtype stages[] = {
    [TN_CUDA_MMA_F16] = TN_DT_f16, [TN_CUDA_MMA_BF16] = TN_DT_bf16, [TN_CUDA_MMA_TF32] = TN_DT_f32};

/* An element out of memory as those of the tile: 16-bit floats as their bits. */
static ll_val staged(product *p, tn_dtype from, ll_val raw) {
  tn_cuda_kernel *k = p->v->k;
  return tn_cuda_mm_convert(k, from, p->stage, tn_ll_from_memory(k->e, from, raw));
}

static ll_val gathered(product *p, ll_val chunk, ll_val x, uint32_t i) {
  if (!chunk) chunk = LLVMGetPoison(LLVMVectorType(LLVMTypeOf(x), p->lanes));
  return ll_put(p->v->k->e, chunk, x, i);
}

/* ---- weights ------------------------------------------------------------------------------------------- */

static void open_w(void *ctx, uint32_t chunk, uint32_t lines, ll_val row, ll_val k) {
  product *p = ctx;
  (void)lines;
  p->w_row[chunk] = ll_iadd(p->v->k->e, p->row, row);
  p->w_k[chunk] = ll_iadd(p->v->k->e, p->v->begin, k);
}

static ll_val w_address(void *ctx, uint32_t chunk, ll_val k0, ll_val *valid) {
  product *p = ctx;
  tn_cuda_conv *v = p->v;
  tn_ll *e = v->k->e;
  ll_val k = ll_iadd(e, k0, p->w_k[chunk]), o = p->w_row[chunk];
  *valid = ll_and(e, ll_icmp(e, LLVMIntULT, k, v->end), ll_icmp(e, LLVMIntULT, o, v->outputs));
  ll_val line = tn_cuda_i64(v->k, ll_iadd(e, ll_imul(e, v->group, v->outputs), o));
  ll_val at = ll_iadd(e, ll_imul(e, line, tn_cuda_i64(v->k, v->depth)), tn_cuda_i64(v->k, k));
  return ll_at(e, tn_cuda_global(v->k, tn_cuda_buffer(v->k, v->w, NULL)),
               ll_imul(e, at, ll_k(e, tn_ll_dtype_of(p->stage).bytes)));
}

static ll_val w_values(void *ctx, uint32_t chunk, ll_val k0) {
  product *p = ctx;
  ll_val r = NULL, k = ll_iadd(p->v->k->e, k0, p->w_k[chunk]);
  for (uint32_t i = 0; i < p->lanes; i++) {
    tn_cuda_conv_tap t = tn_cuda_conv_tap_of(p->v, tn_conv_add(p->v, k, i));
    r = gathered(p, r, staged(p, p->v->tw.dtype, tn_cuda_conv_weight_raw(p->v, p->w_row[chunk], &t)), i);
  }
  return r;
}

/* ---- windows ------------------------------------------------------------------------------------------- */

/* Are the positions of a chunk neighbours along the last axis? */
static bool beside(const product *p) {
  const tn_cuda_conv *v = p->v;
  return !v->transposed && tn_ll_dim_multiple(&v->k->body, v->axis[TN_CONV_AXES - 1].out_dim, p->lanes);
}

/* Otherwise a position's place is worked out once per block and kept in shared memory. */
static ll_val table_at(product *p, ll_val row, uint32_t bytes) {
  ll_val at = tn_conv_add(p->v, tn_conv_mul(p->v, row, PLACE_BYTES), bytes);
  return LLVMBuildInBoundsGEP2(p->v->k->e->b, p->v->k->e->i8, p->table, &at, 1, "");
}

static void write_table(product *p) {
  tn_cuda_conv *v = p->v;
  tn_ll *e = v->k->e;
  ll_val thread = tn_cuda_thread(v->k), four = LLVMGetPoison(LLVMVectorType(e->i32, 4));
  ll_if mine;
  p->table = tn_cuda_shared(v->k, p->t.shape.n * PLACE_BYTES, 16);
  ll_if_begin(e, &mine, ll_icmp(e, LLVMIntULT, thread, tn_conv_k(v, p->t.shape.n)));
  tn_cuda_conv_place at = tn_cuda_conv_place_of(v, ll_iadd(e, p->column, thread));
  for (uint32_t i = 0; i < TN_CONV_AXES; i++) four = ll_put(e, four, at.at[i], i);
  four = ll_put(e, four, LLVMBuildZExt(e->b, at.ok, e->i32, ""), TN_CONV_AXES);
  ll_store(e, four, table_at(p, thread, 0), 16);
  ll_store(e, at.offset, table_at(p, thread, 16), 8);
  ll_if_end(e, &mine);
  tn_cuda_barrier(v->k);
}

static tn_cuda_conv_place read_table(product *p, uint32_t i) {
  tn_ll *e = p->v->k->e;
  ll_val row = tn_conv_add(p->v, p->x_row, i);
  ll_val four = ll_load(e, LLVMVectorType(e->i32, 4), table_at(p, row, 0), 16);
  tn_cuda_conv_place at = {.offset = ll_load(e, e->i64, table_at(p, row, 16), 8)};
  for (uint32_t a = 0; a < TN_CONV_AXES; a++) at.at[a] = ll_lane(e, four, a);
  at.ok = ll_icmp(e, LLVMIntNE, ll_lane(e, four, TN_CONV_AXES), tn_conv_k(p->v, 0));
  return at;
}

static void open_x(void *ctx, uint32_t chunk, uint32_t lines, ll_val row, ll_val k) {
  product *p = ctx;
  tn_cuda_conv *v = p->v;
  const uint32_t last = TN_CONV_AXES - 1;
  (void)lines;
  p->x_k[chunk] = ll_iadd(v->k->e, v->begin, k);
  if (chunk) return;
  p->x_row = row;
  if (!p->x_lies && !beside(p)) {
    write_table(p);
    return;
  }
  p->places[0] = tn_cuda_conv_place_of(v, ll_iadd(v->k->e, p->column, row));
  for (uint32_t i = 1; i < p->lanes; i++) {
    p->places[i] = p->places[0];
    p->places[i].at[last] = tn_conv_add(v, p->places[0].at[last], i * v->axis[last].stride);
  }
}

static ll_val x_address(void *ctx, uint32_t chunk, ll_val k0, ll_val *valid) {
  product *p = ctx;
  tn_cuda_conv *v = p->v;
  tn_ll *e = v->k->e;
  const tn_cuda_conv_place *at = &p->places[0];
  ll_val k = ll_iadd(e, k0, p->x_k[chunk]), within = tn_conv_k(v, 0);
  *valid = ll_and(e, at->ok, ll_icmp(e, LLVMIntULT, k, v->end));
  for (uint32_t i = 0; i < TN_CONV_AXES; i++)
    within = ll_iadd(e, ll_imul(e, within, v->axis[i].in), at->at[i]);
  ll_val bytes = ll_iadd(e, ll_imul(e, tn_cuda_i64(v->k, k), v->plane), tn_cuda_i64(v->k, within));
  return ll_at(e, tn_cuda_global(v->k, ll_at(e, tn_cuda_buffer(v->k, v->x, NULL), at->offset)),
               ll_imul(e, bytes, ll_k(e, tn_ll_dtype_of(p->stage).bytes)));
}

static ll_val x_values(void *ctx, uint32_t chunk, ll_val k0) {
  product *p = ctx;
  ll_val r = NULL;
  tn_cuda_conv_tap t = tn_cuda_conv_tap_of(p->v, ll_iadd(p->v->k->e, k0, p->x_k[chunk]));
  for (uint32_t i = 0; i < p->lanes; i++) {
    tn_cuda_conv_place at = beside(p) ? p->places[i] : read_table(p, i);
    r = gathered(p, r, staged(p, p->v->tx.dtype, tn_cuda_conv_input_raw(p->v, &at, &t)), i);
  }
  return r;
}

/* ---- what may be copied -------------------------------------------------------------------------------- */

static bool w_lies(const product *p) {
  tn_cuda_conv *v = p->v;
  tn_dim depth = tn_cuda_dim_mul(v->k, v->channels_dim, tn_cuda_dim_k(v->k, v->taps));
  return !v->transposed && v->tw.dtype == p->stage && tn_ll_dim_multiple(&v->k->body, depth, p->lanes);
}

static bool x_lies(const product *p) {
  const tn_cuda_conv *v = p->v;
  int64_t low;
  tn_dim plane = tn_cuda_dim_k(v->k, 1);
  if (v->transposed || v->taps != 1 || v->tx.dtype != p->stage || p->stage == TN_DT_f32) return false;
  for (uint32_t i = 0; i < TN_CONV_AXES; i++) {
    const tn_cuda_conv_axis *a = &v->axis[i];
    if (a->stride != 1 || a->in_dim != a->out_dim) return false;
    if (!tn_ll_dim_const(&v->k->body, a->low_dim, &low) || low) return false;
    plane = tn_cuda_dim_mul(v->k, plane, a->in_dim);
  }
  return tn_ll_dim_multiple(&v->k->body, plane, p->lanes);
}

/* ---- a launch ------------------------------------------------------------------------------------------ */

static void put(void *ctx, ll_val row, ll_val column) {
  product *p = ctx;
  tn_ll *e = p->v->k->e;
  p->v->sum = tn_cuda_tile_sums(&p->t, 0);
  tn_cuda_conv_place place = tn_cuda_conv_place_of(p->v, ll_iadd(e, p->column, column));
  tn_cuda_conv_put(p->v, ll_iadd(e, p->row, row), &place, p->t.wide);
}

/* Products are exact where both operands fit the type that is multiplied; only precision "fast" rounds. */
bool tn_cuda_conv_mma_takes(const tn_cuda_conv *v, tn_cuda_mma *kind) {
  tn_dtype x = v->tx.dtype, w = v->tw.dtype;
  bool halves = tn_ll_dtype_of(x).bytes == 2 && tn_ll_dtype_of(w).bytes == 2;
  if (v->acc != TN_DT_f32) return false;
  *kind = x != w || !halves ? TN_CUDA_MMA_TF32 : x == TN_DT_f16 ? TN_CUDA_MMA_F16 : TN_CUDA_MMA_BF16;
  return halves || v->k->u->precision == TN_CUDA_FAST;
}

static void read_kind(product *p, tn_cuda_conv *v, tn_cuda_mma kind) {
  *p = (product){.v = v, .stage = stages[kind], .t = {.k = v->k, .kind = kind}};
  p->lanes = TN_CUDA_CHUNK_BYTES / tn_ll_dtype_of(p->stage).bytes;
  p->w_lies = w_lies(p);
  p->x_lies = x_lies(p);
}

/* Gathering takes registers. */
bool tn_cuda_conv_mma_large(tn_cuda_conv *v, tn_cuda_mma kind) {
  product p;
  read_kind(&p, v, kind);
  return p.w_lies && (p.x_lies || beside(&p));
}

void tn_cuda_conv_mma(tn_cuda_conv *v, uint32_t side, tn_dim only, void *ctx) {
  static const tn_cuda_tile_shape small = {64, 64, 32, 32, 64, 4}, large = {128, 128, 64, 32, 64, 3};
  product p;
  read_kind(&p, v, *(const tn_cuda_mma *)ctx);
  p.t.shape = side == small.m ? small : large;
  tn_cuda_shape shape = {.threads = tn_cuda_tile_threads(&p.t.shape),
                         .grid = {tn_cuda_dim_mul(v->k, tn_cuda_conv_blocks(v, side, side), only)}};
  tn_cuda_launch_begin(v->k, &shape);
  tn_cuda_conv_open(v);
  tn_cuda_conv_tile(v, side, side, &p.row, &p.column);
  p.t.a = (tn_cuda_tile_source){true, p.w_lies, &p, open_w, w_address, w_values};
  p.t.b = (tn_cuda_tile_source){false, p.x_lies, &p, open_x, x_address, x_values};
  tn_cuda_tile_run(&p.t, ll_sub(v->k->e, v->end, v->begin));
  tn_cuda_tile_finish(&p.t, tn_cuda_conv_wide(v), false, put, &p);
  tn_cuda_launch_end(v->k);
}
