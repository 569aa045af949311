/* simt.c - convolutions by fma: a block's tile of outputs x positions lies in its threads' registers, 4 x 4
 * or 8 x 8 each. A step of both sides lies in shared memory with k outermost. A thread brings in windows of
 * one position for several k, which are the same for its warp: neighbours read neighbouring elements of x,
 * and what a k means is worked out once per warp. */
#include "backends/cuda/conv/conv.h"
#include "backends/llvm/convert.h"

enum { THREADS = 256, SIDE = 16 /* threads along either side of a tile */, CHUNK = 4, PAD = 4, LOADS = 4 };

typedef struct simt {
  tn_cuda_conv *v;
  uint32_t size, step, per; /* of a tile; k at a time; results of a thread either way */
  ll_type type;
  uint32_t bytes; /* of an element */
  ll_val room, row, column;
  ll_val w_row, w_k, x_column, x_k; /* of this thread's first element of either side, in the tile and step */
  tn_cuda_conv_place place;         /* of its column */
  ll_val down, across, sums[8][8];
  uint32_t wide;
} simt;

static uint32_t line_bytes(const simt *s) { return (s->size + PAD) * s->bytes; }
static uint32_t side_bytes(const simt *s) { return s->step * line_bytes(s); }
static ll_val shared_at(simt *s, ll_val bytes) {
  return LLVMBuildInBoundsGEP2(s->v->k->e->b, s->v->k->e->i8, s->room, &bytes, 1, "");
}

/* ---- operands ------------------------------------------------------------------------------------------ */

static void open_sides(simt *s) {
  tn_cuda_conv *v = s->v;
  ll_val thread = tn_cuda_thread(v->k);
  s->w_k = tn_conv_mod(v, thread, s->step);
  s->w_row = tn_conv_div(v, thread, s->step);
  s->x_column = tn_conv_mod(v, thread, s->size);
  s->x_k = tn_conv_div(v, thread, s->size);
  s->place = tn_cuda_conv_place_of(v, ll_iadd(v->k->e, s->column, s->x_column));
}

/* held: LOADS elements of w, of one k; then as many of x, of one position. */
static void begin_step(simt *s, ll_val k0, ll_val *held) {
  tn_cuda_conv *v = s->v;
  tn_ll *e = v->k->e;
  tn_cuda_conv_tap t = tn_cuda_conv_tap_of(v, ll_iadd(e, k0, s->w_k));
  ll_val first = ll_iadd(e, s->row, s->w_row);
  for (uint32_t i = 0; i < LOADS; i++)
    held[i] = tn_cuda_conv_weight(v, tn_conv_add(v, first, i * (THREADS / s->step)), &t);
  for (uint32_t i = 0; i < LOADS; i++) {
    t = tn_cuda_conv_tap_of(v, tn_conv_add(v, ll_iadd(e, k0, s->x_k), i * (THREADS / s->size)));
    held[LOADS + i] = tn_cuda_conv_input(v, &s->place, &t);
  }
}

static void end_step(simt *s, ll_val *held, ll_val slot) {
  tn_cuda_conv *v = s->v;
  tn_ll *e = v->k->e;
  ll_val w = ll_iadd(e, tn_conv_mul(v, s->w_k, line_bytes(s)), tn_conv_mul(v, s->w_row, s->bytes));
  ll_val x = ll_iadd(e, tn_conv_mul(v, s->x_k, line_bytes(s)), tn_conv_mul(v, s->x_column, s->bytes));
  for (uint32_t i = 0; i < LOADS; i++) {
    uint32_t rows = i * (THREADS / s->step), lines = i * (THREADS / s->size);
    ll_store(e, held[i], shared_at(s, tn_conv_add(v, ll_iadd(e, slot, w), rows * s->bytes)), s->bytes);
    ll_store(e, held[LOADS + i],
             shared_at(s, tn_conv_add(v, ll_iadd(e, slot, x), side_bytes(s) + lines * line_bytes(s))),
             s->bytes);
  }
}

/* ---- the loop ------------------------------------------------------------------------------------------ */

static void fetch(simt *s, uint32_t which, ll_val slot, uint32_t kk, ll_val *out) {
  tn_cuda_conv *v = s->v;
  tn_ll *e = v->k->e;
  ll_val from = tn_conv_mul(v, which ? s->across : s->down, CHUNK * s->bytes);
  from = tn_conv_add(v, ll_iadd(e, slot, from), which * side_bytes(s) + kk * line_bytes(s));
  for (uint32_t i = 0; i < s->per; i += CHUNK) {
    ll_val p = shared_at(s, tn_conv_add(v, from, i * SIDE * s->bytes));
    ll_val four = ll_load(e, LLVMVectorType(s->type, CHUNK), p, 16);
    for (uint32_t j = 0; j < CHUNK; j++) out[i + j] = ll_lane(e, four, j);
  }
}

static void multiply(simt *s, ll_val slot, ll_val *sums) {
  for (uint32_t kk = 0; kk < s->step; kk++) {
    ll_val w[8], x[8];
    fetch(s, 0, slot, kk, w);
    fetch(s, 1, slot, kk, x);
    for (uint32_t i = 0; i < s->per; i++)
      for (uint32_t j = 0; j < s->per; j++)
        sums[i * s->per + j] = ll_fma(s->v->k->e, w[i], x[j], sums[i * s->per + j]);
  }
}

/* Two slots, at 0 and at `both`: the next step's elements are on their way while one is multiplied. */
static void run(simt *s) {
  tn_cuda_conv *v = s->v;
  tn_ll *e = v->k->e;
  uint32_t n = s->per * s->per, both = 2 * side_bytes(s);
  ll_val sums[LL_LOOP_PHIS], held[2 * LOADS];
  for (uint32_t i = 0; i < n; i++) sums[i] = ll_zero(s->type);
  begin_step(s, v->begin, held);
  end_step(s, held, tn_conv_k(v, 0));
  tn_cuda_barrier(v->k);
  ll_loop l;
  ll_loop_begin(e, &l, v->begin, v->end, tn_conv_k(v, s->step), sums, n);
  ll_val odd = ll_icmp(e, LLVMIntNE, tn_conv_mod(v, tn_conv_div(v, l.iv, s->step), 2), tn_conv_k(v, 0));
  ll_val now = ll_select(e, odd, tn_conv_k(v, both), tn_conv_k(v, 0));
  ll_val next = ll_select(e, odd, tn_conv_k(v, 0), tn_conv_k(v, both));
  begin_step(s, tn_conv_add(v, l.iv, s->step), held);
  memcpy(sums, l.phi, sizeof sums);
  multiply(s, now, sums);
  end_step(s, held, next);
  tn_cuda_barrier(v->k);
  ll_loop_end(e, &l, sums);
  for (uint32_t i = 0; i < n; i++) s->sums[i / s->per][i % s->per] = l.out[i];
}

/* ---- results ------------------------------------------------------------------------------------------- */

/* 64 rows through shared memory, so that threads write neighbours. */
static void finish_part(simt *s, uint32_t part) {
  tn_cuda_conv *v = s->v;
  tn_ll *e = v->k->e;
  ll_val at =
      ll_iadd(e, tn_conv_mul(v, s->down, CHUNK * line_bytes(s)), tn_conv_mul(v, s->across, CHUNK * s->bytes));
  for (uint32_t i = 0; i < CHUNK; i++)
    for (uint32_t j = 0; j < s->per; j += CHUNK) {
      ll_val four = LLVMGetPoison(LLVMVectorType(s->type, CHUNK));
      for (uint32_t l = 0; l < CHUNK; l++) four = ll_put(e, four, s->sums[part * CHUNK + i][j + l], l);
      ll_store(e, four, shared_at(s, tn_conv_add(v, at, i * line_bytes(s) + j * SIDE * s->bytes)), 16);
    }
  tn_cuda_barrier(v->k);
  uint32_t across = s->size / s->wide, rows = SIDE * CHUNK;
  ll_loop l;
  ll_loop_begin(e, &l, tn_cuda_thread(v->k), tn_conv_k(v, rows * across), tn_conv_k(v, THREADS), NULL, 0);
  ll_val r = tn_conv_div(v, l.iv, across), c = tn_conv_mul(v, tn_conv_mod(v, l.iv, across), s->wide);
  ll_val p = shared_at(s, ll_iadd(e, tn_conv_mul(v, r, line_bytes(s)), tn_conv_mul(v, c, s->bytes)));
  v->sum =
      ll_load(e, s->wide == 1 ? s->type : LLVMVectorType(s->type, s->wide), p, s->wide == 1 ? s->bytes : 16);
  tn_cuda_conv_place place = tn_cuda_conv_place_of(v, ll_iadd(e, s->column, c));
  tn_cuda_conv_put(v, ll_iadd(e, tn_conv_add(v, s->row, part * rows), r), &place, s->wide);
  ll_loop_end(e, &l, NULL);
  tn_cuda_barrier(v->k);
}

void tn_cuda_conv_simt(tn_cuda_conv *v, uint32_t side, tn_dim only, void *ctx) {
  (void)ctx;
  tn_ll *e = v->k->e;
  simt s = {.v = v, .size = side, .per = side / SIDE, .step = THREADS * LOADS / side};
  tn_dim grid = tn_cuda_dim_mul(v->k, tn_cuda_conv_blocks(v, side, side), only);
  tn_cuda_shape shape = {.threads = THREADS, .grid = {grid}};
  s.wide = tn_cuda_conv_wide(v);
  tn_cuda_launch_begin(v->k, &shape);
  s.type = tn_ll_register_type(e, v->acc);
  s.bytes = tn_ll_dtype_of(v->acc).bytes;
  uint32_t ring = 4 * side_bytes(&s), results = SIDE * CHUNK * line_bytes(&s);
  s.room = tn_cuda_shared(v->k, ring > results ? ring : results, 16);
  s.across = tn_conv_mod(v, tn_cuda_thread(v->k), SIDE);
  s.down = tn_conv_div(v, tn_cuda_thread(v->k), SIDE);
  tn_cuda_conv_open(v);
  tn_cuda_conv_tile(v, side, side, &s.row, &s.column);
  open_sides(&s);
  run(&s);
  for (uint32_t part = 0; part < s.per / CHUNK; part++) finish_part(&s, part);
  tn_cuda_launch_end(v->k);
}
