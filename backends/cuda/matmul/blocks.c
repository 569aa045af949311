/* blocks.c - see blocks.h: how blocks are cut into pieces, the sums of a piece's runs, and the loop. */
#include "backends/cuda/matmul/blocks.h"
#include "backends/cuda/warp.h"
#include <math.h>

enum { PIECE = 16, MOST_PIECES = 64, AHEAD = 2 };

/* ---- geometry: known while code is written --------------------------------------------------------------
 */

static uint32_t first_bytes(const tn_quant *q) { return q->values * q->plane->bits / 8; }
uint32_t tn_cuda_piece_bytes(const tn_quant *q) {
  uint32_t n = first_bytes(q);
  return n < PIECE ? n : PIECE;
}
uint32_t tn_cuda_pieces(const tn_quant *q) {
  if (q->level == TN_QL_GRID) return q->values / TN_CUDA_GRID_PIECE;
  return first_bytes(q) / tn_cuda_piece_bytes(q);
}
uint32_t tn_cuda_blocks_step(const tn_quant *q) { return q->values / tn_cuda_pieces(q); }

static uint32_t start_of(const tn_quant *q, uint32_t p) {
  const tn_quant_plane *f = q->plane;
  uint32_t at = p * tn_cuda_piece_bytes(q);
  return at / f->run * f->run * f->slots + at % f->run;
}
uint32_t tn_cuda_piece_value(const tn_quant *q, uint32_t j, uint32_t s) {
  const tn_quant_plane *f = q->plane;
  if (f->run == 1) return 4 * j * f->slots;
  return 4 * j / f->run * f->run * f->slots + s * f->run + 4 * j % f->run;
}
static uint32_t run_at(const tn_quant *q, uint32_t p, uint32_t j, uint32_t s) {
  return q->sub ? (start_of(q, p) + tn_cuda_piece_value(q, j, s)) / q->sub : 0;
}

/* Do the values of a word of codes lie in one run, and do all pieces have the same distances? */
static bool regular(const tn_quant *q) {
  const tn_quant_plane *f = q->plane;
  uint32_t n = tn_cuda_piece_bytes(q), width = f->run == 1 ? 4u * f->slots : 4;
  if (q->sub && q->sub % width) return false;
  return f->run == 1 || n % f->run == 0 || (f->run % n == 0 && f->run % 4 == 0);
}

bool tn_cuda_blocks_takes(const tn_quant *q) {
  if (q->level == TN_QL_GRID)
    return q->values % TN_CUDA_GRID_PIECE == 0 && q->sub && TN_CUDA_GRID_PIECE % q->sub == 0 && !q->m_sign;
  if (!tn_cuda_codes_takes(q) || first_bytes(q) % 4) return false;
  uint32_t n = tn_cuda_pieces(q);
  return n && !(n & (n - 1)) && n <= MOST_PIECES && regular(q);
}

/* ---- runs ---------------------------------------------------------------------------------------------- */

static void read_run(tn_cuda_piece *c, uint32_t r, ll_val j, tn_cuda_run *g) {
  tn_ll *e = c->s->k->e;
  tn_block_reader b = tn_cuda_piece_reader(c, r);
  g->scale[r] = tn_block_scale(&b, tn_block_number(&b, c->q->d, c->q->d_at), j);
  if (c->bad[r]) {
    ll_val none = ll_icmp(e, LLVMIntEQ, c->bad[r], tn_cuda_word(c, 0));
    g->scale[r] = ll_select(e, none, g->scale[r], ll_real(e, e->f32, NAN));
  }
  g->low[r] = NULL;
  if (c->q->m_sign) {
    g->low[r] = tn_block_minimum(&b, tn_block_number(&b, c->q->m, c->q->m_at), j);
    if (c->q->m_sign < 0) g->low[r] = ll_neg(e, g->low[r]);
  }
  g->off[r] = ll_real(e, e->f32, 0x1p23 + tn_cuda_codes_bias(c->q));
  ll_val zero = tn_block_zero(&b, j);
  if (zero) g->off[r] = ll_fadd(e, LLVMBuildSIToFP(e->b, zero, e->f32, ""), g->off[r]);
}

void tn_cuda_run_begin(tn_cuda_piece *c, ll_val number, tn_cuda_run *g) {
  ll_val zero = ll_zero(c->s->k->e->f32);
  for (uint32_t r = 0; r < c->s->rows; r++) read_run(c, r, number, g);
  for (uint32_t t = 0; t < c->s->tile; t++) {
    g->sum[t] = zero;
    for (uint32_t r = 0; r < c->s->rows; r++) g->dot[t][r] = zero;
  }
}

void tn_cuda_run_add(tn_cuda_piece *c, tn_cuda_run *g, const ll_val *levels, uint32_t i) {
  tn_ll *e = c->s->k->e;
  for (uint32_t t = 0; t < c->s->tile; t++) {
    ll_val f = ll_iadd(e, c->f, tn_cuda_word(c, i / 4)), x = ll_lane(e, tn_cuda_stream_x(c->s, t, f), i % 4);
    if (c->q->m_sign) g->sum[t] = ll_fadd(e, g->sum[t], x);
    for (uint32_t r = 0; r < c->s->rows; r++) g->dot[t][r] = ll_fma(e, levels[r], x, g->dot[t][r]);
  }
}

void tn_cuda_run_end(tn_cuda_piece *c, const tn_cuda_run *g, ll_val *acc) {
  tn_ll *e = c->s->k->e;
  for (uint32_t t = 0; t < c->s->tile; t++)
    for (uint32_t r = 0; r < c->s->rows; r++) {
      ll_val *a = &acc[t * c->s->rows + r];
      *a = ll_fma(e, g->scale[r], g->dot[t][r], *a);
      if (g->low[r]) *a = ll_fma(e, g->low[r], g->sum[t], *a);
    }
}

/* ---- pieces -------------------------------------------------------------------------------------------- */

/* Are (j, s) and (j1, s1) of the same run in every piece? */
static bool same_run(const tn_quant *q, uint32_t j, uint32_t s, uint32_t j1, uint32_t s1) {
  for (uint32_t p = 0; p < tn_cuda_pieces(q); p++)
    if (run_at(q, p, j, s) != run_at(q, p, j1, s1)) return false;
  return true;
}

static void add_codes(tn_cuda_piece *c, uint32_t j, uint32_t s, tn_cuda_run *g) {
  const tn_quant_plane *f = c->q->plane;
  ll_val levels[TN_CUDA_PIECE_ROWS];
  for (uint32_t b = 0; b < 4; b++) {
    for (uint32_t r = 0; r < c->s->rows; r++) levels[r] = tn_cuda_codes_level(c, r, j, s, b, g);
    tn_cuda_run_add(c, g, levels, tn_cuda_piece_value(c->q, j, s) + (f->run == 1 ? s + f->slots * b : b));
  }
}

/* The words of codes of the run that (j, s) is in, if it is the first one of them. */
static void add_run(tn_cuda_piece *c, uint32_t j, uint32_t s, ll_val *acc) {
  tn_ll *e = c->s->k->e;
  const tn_quant *q = c->q;
  tn_cuda_run g;
  uint32_t slots = q->plane->slots, words = tn_cuda_piece_bytes(q) / 4;
  for (uint32_t i = 0; i < j * slots + s; i++)
    if (same_run(q, i / slots, i % slots, j, s)) return;
  ll_val number = tn_cuda_word(c, 0);
  if (q->sub)
    number = ll_udiv(e, ll_iadd(e, c->start, tn_cuda_word(c, tn_cuda_piece_value(q, j, s))),
                     tn_cuda_word(c, q->sub));
  tn_cuda_run_begin(c, number, &g);
  for (uint32_t i = j * slots + s; i < words * slots; i++)
    if (same_run(q, i / slots, i % slots, j, s)) add_codes(c, i / slots, i % slots, &g);
  tn_cuda_run_end(c, &g, acc);
}

static void multiply(tn_cuda_piece *c, ll_val *acc) {
  uint32_t slots = c->q->plane->slots;
  if (c->q->level == TN_QL_GRID) {
    tn_cuda_grid_multiply(c, acc);
    return;
  }
  for (uint32_t r = 0; r < c->s->rows; r++) tn_cuda_codes_split(c, r);
  for (uint32_t i = 0; i < tn_cuda_piece_bytes(c->q) / 4 * slots; i++) add_run(c, i / slots, i % slots, acc);
}

/* The piece's first value within the block. */
static ll_val start(tn_cuda_piece *c) {
  tn_ll *e = c->s->k->e;
  const tn_quant_plane *f = c->q->plane;
  if (c->q->level == TN_QL_GRID) return ll_mul(e, c->p, tn_cuda_word(c, TN_CUDA_GRID_PIECE));
  ll_val at = ll_mul(e, c->p, tn_cuda_word(c, tn_cuda_piece_bytes(c->q))), run = tn_cuda_word(c, f->run);
  if (f->run == 1) return ll_mul(e, at, tn_cuda_word(c, f->slots));
  ll_val whole = ll_mul(e, ll_udiv(e, at, run), tn_cuda_word(c, f->run * f->slots));
  return ll_iadd(e, whole, ll_urem(e, at, run));
}

/* Finds piece u (i32) of the chunk and asks for its codes. */
static void open_piece(tn_cuda_piece *c, tn_cuda_stream *s, ll_val u) {
  tn_ll *e = s->k->e;
  *c = (tn_cuda_piece){.s = s, .q = s->q};
  ll_val n = tn_cuda_word(c, tn_cuda_pieces(s->q)), number = ll_udiv(e, u, n);
  c->p = ll_urem(e, u, n);
  c->start = start(c);
  ll_val first = ll_iadd(e, ll_mul(e, number, tn_cuda_word(c, s->q->values)), c->start);
  c->f = ll_lshr(e, first, tn_cuda_word(c, 2));
  ll_val bytes = tn_cuda_i64(s->k, ll_mul(e, number, tn_cuda_word(c, s->q->bytes)));
  for (uint32_t r = 0; r < s->rows; r++) {
    c->block[r] = ll_iadd(e, s->w_bytes[r], bytes);
    if (s->q->level != TN_QL_GRID) tn_cuda_codes_read(c, r);
  }
}

static void add_pieces(tn_cuda_stream *s, ll_val u, uint32_t count, ll_val *acc) {
  tn_cuda_piece c[AHEAD];
  ll_val step = LLVMConstInt(s->k->e->i32, 32 * s->split, 0);
  for (uint32_t i = 0; i < count; i++, u = ll_iadd(s->k->e, u, step)) open_piece(&c[i], s, u);
  for (uint32_t i = 0; i < count; i++) multiply(&c[i], acc);
}

/* Where row `row` of w has the chunk's first block: bytes in the buffer. */
static ll_val row_bytes(tn_cuda_stream *s, ll_val row) {
  tn_ll *e = s->k->e;
  ll_val size = ll_k(e, s->q->values);
  ll_val blocks = ll_udiv(e, tn_ll_dim(&s->k->body, s->depth), size);
  ll_val at = ll_iadd(e, ll_imul(e, tn_cuda_stream_row(s, row), blocks), ll_udiv(e, s->k0, size));
  return ll_imul(e, at, ll_k(e, s->q->bytes));
}

void tn_cuda_blocks_add(tn_cuda_stream *s, ll_val *acc) {
  tn_ll *e = s->k->e;
  ll_val u = s->k_lane, end = ll_udiv(e, s->kc, LLVMConstInt(e->i32, tn_cuda_blocks_step(s->q), 0));
  for (uint32_t r = 0; r < s->rows; r++) s->w_bytes[r] = row_bytes(s, s->w_rows[r]);
  if (s->tile == 1 && s->q->level != TN_QL_GRID) tn_cuda_stream_loop(s, &u, end, AHEAD, add_pieces, acc);
  tn_cuda_stream_loop(s, &u, end, 1, add_pieces, acc);
}
