/* block_grid.c - see blocks.h: formats whose codes name rows of a codebook. A row is looked up for every 8
 * values, or two for 4 each; its entries pick the bytes of levels out of two words; signs are bits that go to
 * the top of the floats. */
#include "backends/cuda/matmul/blocks.h"

static ll_val shifted_down(tn_cuda_piece *c, ll_val v, uint32_t n) {
  return n ? ll_lshr(c->s->k->e, v, tn_cuda_word(c, n)) : v;
}

/* The largest level, by which bytes are too large. */
static int32_t middle(const tn_quant_grid *g) {
  int32_t most = 0;
  for (uint32_t i = 0; i < tn_block_grid_levels(g); i++) most = g->levels[i] > most ? g->levels[i] : most;
  for (uint32_t i = 0; i < tn_block_grid_levels(g); i++) most = -g->levels[i] > most ? -g->levels[i] : most;
  return most;
}
static ll_val four_levels(tn_cuda_piece *c, uint32_t from) {
  const tn_quant_grid *g = c->q->grid;
  uint32_t w = 0;
  for (uint32_t i = 0; i < 4; i++)
    w |= (uint32_t)(middle(g) + g->levels[(from + i) % tn_block_grid_levels(g)]) << (8 * i);
  return tn_cuda_word(c, (int64_t)(int32_t)w);
}

/* Levels of entries `from` .. from + 3 of a row, a byte each. */
static ll_val row_levels(tn_cuda_piece *c, ll_val row, uint32_t from) {
  tn_ll *e = c->s->k->e;
  bool small = c->q->grid->width == 8; /* entries of 2 bits, not 4 */
  ll_val x = shifted_down(c, row, from * (small ? 2 : 4));
  if (small) {
    x = ll_and(e, x, tn_cuda_word(c, 0xff));
    x = ll_and(e, ll_or(e, x, ll_shl(e, x, tn_cuda_word(c, 4))), tn_cuda_word(c, 0x0f0f));
    x = ll_and(e, ll_or(e, x, ll_shl(e, x, tn_cuda_word(c, 2))), tn_cuda_word(c, 0x3333));
  }
  return tn_cuda_pick_bytes(c, four_levels(c, 0), four_levels(c, 4), ll_and(e, x, tn_cuda_word(c, 0x7777)));
}

typedef struct eight {
  ll_val bytes[2], signs, delta; /* of 8 values */
} eight;

/* Values 8 n .. 8 n + 7 of the piece, of row r. */
static eight read_eight(tn_cuda_piece *c, uint32_t r, uint32_t n) {
  tn_ll *e = c->s->k->e;
  uint32_t width = c->q->grid->width;
  tn_block_reader b = tn_cuda_piece_reader(c, r);
  ll_val at = ll_iadd(e, c->start, tn_cuda_word(c, 8 * n));
  ll_val row = tn_block_grid_row(&b, ll_udiv(e, at, tn_cuda_word(c, width))), second = row;
  if (width == 4)
    second = tn_block_grid_row(&b, ll_iadd(e, ll_udiv(e, at, tn_cuda_word(c, 4)), tn_cuda_word(c, 1)));
  return (eight){{row_levels(c, row, 0), row_levels(c, second, width == 4 ? 0 : 4)},
                 tn_block_grid_signs(&b, ll_udiv(e, at, tn_cuda_word(c, 8))),
                 tn_block_grid_delta(&b, at)};
}

static ll_val level(tn_cuda_piece *c, const eight *v, uint32_t i) {
  tn_ll *e = c->s->k->e;
  ll_val off = ll_real(e, e->f32, 0x1p23 + middle(c->q->grid));
  ll_val x = tn_cuda_byte_float(c, v->bytes[i / 4], i % 4, off);
  if (v->delta) x = ll_fadd(e, x, v->delta);
  if (!v->signs) return x;
  ll_val sign = ll_and(e, ll_shl(e, v->signs, tn_cuda_word(c, 31 - i)), tn_cuda_word(c, INT32_MIN));
  return ll_cast_bits(e, ll_xor(e, ll_cast_bits(e, x, e->i32), sign), e->f32);
}

void tn_cuda_grid_multiply(tn_cuda_piece *c, ll_val *acc) {
  tn_ll *e = c->s->k->e;
  uint32_t sub = c->q->sub;
  for (uint32_t run = 0; run < TN_CUDA_GRID_PIECE / sub; run++) {
    tn_cuda_run g;
    ll_val first = ll_iadd(e, c->start, tn_cuda_word(c, run * sub));
    tn_cuda_run_begin(c, ll_udiv(e, first, tn_cuda_word(c, sub)), &g);
    for (uint32_t n = run * sub / 8; n < (run + 1) * sub / 8; n++) {
      eight v[TN_CUDA_PIECE_ROWS];
      ll_val levels[TN_CUDA_PIECE_ROWS];
      for (uint32_t r = 0; r < c->s->rows; r++) v[r] = read_eight(c, r, n);
      for (uint32_t i = 0; i < 8; i++) {
        for (uint32_t r = 0; r < c->s->rows; r++) levels[r] = level(c, &v[r], i);
        tn_cuda_run_add(c, &g, levels, 8 * n + i);
      }
    }
    tn_cuda_run_end(c, &g, acc);
  }
}
