/* simt.c - products by fma: exact ones of f32, f64 and whole numbers. A step of both operands lies in shared
 * memory with k outermost, so that a thread fetches 4 rows or 4 columns at once; each thread sums up a square
 * of 8 x 8 or 4 x 4. The next step's values are on their way while this one is multiplied. */
#include "backends/cuda/matmul/matmul.h"
#include "backends/llvm/convert.h"

enum { THREADS = 256, SIDE = 16 /* threads along either side of a tile */, CHUNK = 4, PAD = 4 };

typedef struct simt {
  tn_cuda_mm *x;
  uint32_t size, step, per; /* of a tile: rows and columns; k at a time; results of a thread either way */
  ll_type type;
  uint32_t bytes; /* of an element */
  tn_cuda_mm_load load[2];
  ll_val room, put_at[2], sums[8][8];
  ll_val across, down; /* this thread among SIDE x SIDE */
  ll_val at;           /* of the element being finished */
  uint32_t wide, columns;
} simt;

static ll_val i32(simt *s, int64_t x) { return ll_int(s->x->k->e, s->x->k->e->i32, x); }
static ll_val plus(simt *s, ll_val x, int64_t y) { return ll_iadd(s->x->k->e, x, i32(s, y)); }
static ll_val times(simt *s, ll_val x, int64_t y) { return ll_imul(s->x->k->e, x, i32(s, y)); }
static ll_val over(simt *s, ll_val x, int64_t y) { return ll_idiv(s->x->k->e, x, i32(s, y)); }
static ll_val rest(simt *s, ll_val x, int64_t y) { return ll_imod(s->x->k->e, x, i32(s, y)); }

static uint32_t line_bytes(const simt *s) { return (s->size + PAD) * s->bytes; }
static uint32_t side_bytes(const simt *s) { return s->step * line_bytes(s); }
static ll_val shared_at(simt *s, ll_val bytes) {
  return LLVMBuildInBoundsGEP2(s->x->k->e->b, s->x->k->e->i8, s->room, &bytes, 1, "");
}

/* ---- operands -------------------------------------------------------------------------------------------
 */

static void open_load(simt *s, uint32_t which) {
  tn_cuda_mm_load *l = &s->load[which];
  ll_val thread = tn_cuda_thread(s->x->k);
  tn_cuda_mm_load_init(l, s->x, which, s->x->acc, CHUNK, s->step, s->size);
  uint32_t chunks = (l->along_k ? s->step : s->size) / CHUNK;
  ll_val chunk = times(s, rest(s, thread, chunks), CHUNK), line = over(s, thread, chunks);
  ll_val row = l->along_k ? line : chunk, k = l->along_k ? chunk : line;
  tn_cuda_mm_load_open(l, 0, 0, row, k);
  s->put_at[which] = ll_iadd(s->x->k->e, times(s, k, line_bytes(s)), times(s, row, s->bytes));
}

static void put_chunk(simt *s, uint32_t which, ll_val v, ll_val slot) {
  tn_ll *e = s->x->k->e;
  ll_val at = ll_iadd(e, plus(s, slot, which * side_bytes(s)), s->put_at[which]);
  if (!s->load[which].along_k) {
    ll_store(e, v, shared_at(s, at), 16);
    return;
  }
  for (uint32_t i = 0; i < CHUNK; i++)
    ll_store(e, ll_lane(e, v, i), shared_at(s, plus(s, at, (int64_t)i * line_bytes(s))), s->bytes);
}

static void begin_step(simt *s, ll_val k0, ll_val *held) {
  for (uint32_t i = 0; i < 2; i++) held[i] = tn_cuda_mm_load_values(&s->load[i], 0, k0);
}
static void end_step(simt *s, ll_val *held, ll_val slot) {
  for (uint32_t i = 0; i < 2; i++) put_chunk(s, i, held[i], slot);
}

/* ---- the loop -------------------------------------------------------------------------------------------
 */

/* The thread's rows or columns of line kk: out[per]. */
static void fetch(simt *s, uint32_t which, ll_val slot, uint32_t kk, ll_val *out) {
  tn_ll *e = s->x->k->e;
  ll_val from = times(s, which ? s->across : s->down, (int64_t)CHUNK * s->bytes);
  from = plus(s, ll_iadd(e, slot, from), which * side_bytes(s) + kk * line_bytes(s));
  for (uint32_t i = 0; i < s->per; i += CHUNK) {
    ll_val p = shared_at(s, plus(s, from, (int64_t)i / CHUNK * SIDE * CHUNK * s->bytes));
    ll_val v = ll_load(e, LLVMVectorType(s->type, CHUNK), p, 16);
    for (uint32_t j = 0; j < CHUNK; j++) out[i + j] = ll_lane(e, v, j);
  }
}

static void multiply(simt *s, ll_val slot, ll_val *sums) {
  tn_ll *e = s->x->k->e;
  for (uint32_t kk = 0; kk < s->step; kk++) {
    ll_val a[8], b[8];
    fetch(s, 0, slot, kk, a);
    fetch(s, 1, slot, kk, b);
    for (uint32_t i = 0; i < s->per; i++)
      for (uint32_t j = 0; j < s->per; j++) {
        ll_val *c = &sums[i * s->per + j];
        *c = s->x->acc == TN_DT_i32 ? ll_add(e, *c, ll_mul(e, a[i], b[j])) : ll_fma(e, a[i], b[j], *c);
      }
  }
}

/* Two slots, at 0 and at `both`. */
static void run(simt *s) {
  tn_ll *e = s->x->k->e;
  uint32_t n = s->per * s->per, both = 2 * side_bytes(s);
  ll_val init[LL_LOOP_PHIS], held[2];
  for (uint32_t i = 0; i < n; i++) init[i] = ll_zero(s->type);
  begin_step(s, i32(s, 0), held);
  end_step(s, held, i32(s, 0));
  tn_cuda_barrier(s->x->k);
  ll_loop l;
  ll_loop_begin(e, &l, i32(s, 0), s->x->depth, i32(s, s->step), init, n);
  ll_val odd = ll_icmp(e, LLVMIntNE, rest(s, over(s, l.iv, s->step), 2), i32(s, 0));
  ll_val now = ll_select(e, odd, i32(s, both), i32(s, 0)), next = ll_select(e, odd, i32(s, 0), i32(s, both));
  begin_step(s, plus(s, l.iv, s->step), held);
  ll_val sums[LL_LOOP_PHIS];
  memcpy(sums, l.phi, sizeof sums);
  multiply(s, now, sums);
  end_step(s, held, next);
  tn_cuda_barrier(s->x->k);
  ll_loop_end(e, &l, sums);
  for (uint32_t i = 0; i < n; i++) s->sums[i / s->per][i % s->per] = l.out[i];
}

/* ---- results --------------------------------------------------------------------------------------------
 */

static ll_val give_sums(void *ctx, uint32_t half) {
  simt *s = ctx;
  tn_ll *e = s->x->k->e;
  ll_val p = shared_at(s, plus(s, s->at, (int64_t)half * s->columns * s->bytes));
  return ll_load(e, s->wide == 1 ? s->type : LLVMVectorType(s->type, s->wide), p,
                 s->wide == 1 ? s->bytes : 16);
}

/* A quarter or all of the rows through shared memory, so that threads write neighbouring columns. */
static void finish_part(simt *s, uint32_t part) {
  tn_ll *e = s->x->k->e;
  ll_val row = times(s, s->down, CHUNK), column = times(s, s->across, (int64_t)CHUNK * s->bytes);
  ll_val at = ll_iadd(e, times(s, row, line_bytes(s)), column);
  for (uint32_t i = 0; i < CHUNK; i++)
    for (uint32_t j = 0; j < s->per; j += CHUNK) {
      ll_val v = LLVMGetPoison(LLVMVectorType(s->type, CHUNK));
      for (uint32_t l = 0; l < CHUNK; l++) v = ll_put(e, v, s->sums[part * CHUNK + i][j + l], l);
      ll_store(e, v, shared_at(s, plus(s, at, i * line_bytes(s) + j * SIDE * s->bytes)), 16);
    }
  tn_cuda_barrier(s->x->k);
  uint32_t across = s->columns / s->wide, rows = SIDE * CHUNK;
  ll_loop l;
  ll_loop_begin(e, &l, tn_cuda_thread(s->x->k), i32(s, rows * across), i32(s, THREADS), NULL, 0);
  ll_val r = over(s, l.iv, across), c = times(s, rest(s, l.iv, across), s->wide);
  s->at = ll_iadd(e, times(s, r, line_bytes(s)), times(s, c, s->bytes));
  tn_cuda_mm_put(s->x, s->wide, plus(s, r, part * rows), c);
  ll_loop_end(e, &l, NULL);
  tn_cuda_barrier(s->x->k);
}

/* A warp is 8 threads across and 4 down, so that what it fetches at once are few lines of shared memory. */
static void find_place(simt *s) {
  tn_ll *e = s->x->k->e;
  ll_val t = tn_cuda_thread(s->x->k), warp = over(s, t, 32), lane = rest(s, t, 32);
  s->across = ll_iadd(e, times(s, rest(s, warp, 2), 8), rest(s, lane, 8));
  s->down = ll_iadd(e, times(s, over(s, warp, 2), 4), over(s, lane, 8));
}

static void write_tiles(tn_cuda_mm *x, const tn_cuda_mm_form *f, tn_dim when, void *ctx) {
  tn_ll *e = x->k->e;
  simt *s = ctx;
  tn_cuda_shape shape = {.threads = THREADS,
                         .grid = {tn_cuda_dim_mul(x->k, tn_cuda_mm_blocks(x, f->m, f->n), when)}};
  *s = (simt){.x = x, .size = f->m, .step = f->m == 128 ? 8 : 16, .per = f->m / SIDE};
  s->wide = tn_cuda_mm_wide(x);
  s->columns = s->size / (x->pair ? 2 : 1);
  e->lanes = s->wide == 1 ? CHUNK : s->wide;
  tn_cuda_launch_begin(x->k, &shape);
  s->type = tn_ll_register_type(e, x->acc);
  s->bytes = tn_ll_dtype_of(x->acc).bytes;
  uint32_t ring = 4 * side_bytes(s), results = SIDE * CHUNK * line_bytes(s);
  s->room = tn_cuda_shared(x->k, ring > results ? ring : results, 16);
  find_place(s);
  tn_cuda_mm_open(x, f->m, f->n);
  open_load(s, 0);
  open_load(s, 1);
  run(s);
  x->sums = give_sums;
  x->ctx = s;
  for (uint32_t p = 0; p < s->per / CHUNK; p++) finish_part(s, p);
  tn_cuda_launch_end(x->k);
}

void tn_cuda_mm_simt(tn_cuda_mm *x, tn_dim only) {
  simt s;
  bool large = x->acc != TN_DT_f64;
  uint32_t part = x->pair ? 2 : 1;
  tn_cuda_mm_form small_form = {64, 64 / part, write_tiles}, large_form = {128, 128 / part, write_tiles};
  tn_cuda_mm_forms(x, &small_form, large ? &large_form : NULL, 0, only, &s);
}
