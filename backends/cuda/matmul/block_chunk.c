/* block_chunk.c - eight neighbouring values of a block format, for tiles and staged weights: their codes are
 * read in whole words and put into two words, a byte each in the order of the values; what belongs to all
 * eight (scale, minimum, stored zero) is read once. Rounded step by step as tn_block_value does it. */
#include "backends/cuda/matmul/blocks.h"
#include "backends/llvm/convert.h"

enum { VALUES = TN_CUDA_BLOCK_CHUNK };

static bool plane_fits(const tn_quant_plane *p) {
  if (p->run == 1) return p->bits * p->slots == 8;
  return p->run % VALUES == 0 && p->bits < 8;
}

bool tn_cuda_block_chunk_takes(const tn_quant *q) {
  if (!tn_cuda_codes_takes(q) || !tn_cuda_codes_whole(q) || q->level == TN_QL_GRID || q->values % VALUES ||
      q->sub % VALUES)
    return false;
  for (uint32_t i = 0; i < TN_COUNT(q->plane) && q->plane[i].bits; i++)
    if (!plane_fits(&q->plane[i])) return false;
  return true;
}

static ll_val number(tn_cuda_piece *c, int64_t x) { return tn_cuda_word(c, x); }
static ll_val masked(tn_cuda_piece *c, ll_val v, uint32_t bits) {
  return ll_and(c->s->k->e, v, number(c, (int64_t)((1u << bits) - 1) * 0x01010101));
}
/* v | v << n */
static ll_val doubled(tn_cuda_piece *c, ll_val v, uint32_t n) {
  return ll_or(c->s->k->e, v, ll_shl(c->s->k->e, v, number(c, n)));
}

/* Planes whose bytes hold neighbours: `bits` bytes, from byte `at` of the block on. */
static void read_neighbours(tn_cuda_piece *c, const tn_quant_plane *p, ll_val at, ll_val out[2]) {
  tn_ll *e = c->s->k->e;
  tn_block_reader b = tn_cuda_piece_reader(c, 0);
  if (p->bits == 8) {
    tn_cuda_codes_words(c, at, p->at, 2, out);
    return;
  }
  ll_val w = b.get(b.ctx, p->bits, p->at, at);
  if (p->bits < 4) w = LLVMBuildZExt(e->b, w, e->i32, "");
  if (p->bits == 4) {
    ll_val even = masked(c, w, 4), odd = masked(c, ll_lshr(e, w, number(c, 4)), 4);
    out[0] = tn_cuda_pick_bytes(c, even, odd, number(c, 0x5140));
    out[1] = tn_cuda_pick_bytes(c, even, odd, number(c, 0x7362));
    return;
  }
  for (uint32_t h = 0; h < 2; h++) {
    ll_val v = ll_and(e, ll_lshr(e, w, number(c, 4 * p->bits * h)), number(c, (1 << 4 * p->bits) - 1));
    v = p->bits == 1 ? doubled(c, doubled(c, v, 14), 7) : doubled(c, doubled(c, v, 12), 6);
    out[h] = masked(c, v, p->bits);
  }
}

/* Bits of plane p of the values from i (i32) on. */
static void read_plane(tn_cuda_piece *c, const tn_quant_plane *p, ll_val i, ll_val out[2]) {
  tn_ll *e = c->s->k->e;
  if (p->run == 1) {
    ll_val at = ll_udiv(e, i, number(c, p->slots));
    read_neighbours(c, p, ll_iadd(e, at, number(c, p->at)), out);
    return;
  }
  ll_val run = number(c, p->run), line = ll_udiv(e, i, number(c, p->run * p->slots));
  ll_val at = ll_iadd(e, ll_mul(e, line, run), ll_urem(e, i, run));
  ll_val slot = ll_urem(e, ll_udiv(e, i, run), number(c, p->slots));
  tn_cuda_codes_words(c, ll_iadd(e, at, number(c, p->at)), p->at, 2, out);
  for (uint32_t h = 0; h < 2; h++)
    out[h] = masked(c, ll_lshr(e, out[h], ll_mul(e, slot, number(c, p->bits))), p->bits);
}

static void read_codes(tn_cuda_piece *c, ll_val i, ll_val codes[2]) {
  tn_ll *e = c->s->k->e;
  const tn_quant *q = c->q;
  uint32_t up = 0;
  for (uint32_t n = 0; n < TN_COUNT(q->plane) && q->plane[n].bits; up += q->plane[n++].bits) {
    ll_val bits[2];
    read_plane(c, &q->plane[n], i, bits);
    for (uint32_t h = 0; h < 2; h++)
      codes[h] = n ? ll_or(e, codes[h], ll_shl(e, bits[h], number(c, up))) : bits[h];
  }
  for (uint32_t h = 0; h < 2; h++) {
    if (q->level == TN_QL_SIGNED) codes[h] = ll_xor(e, codes[h], number(c, (int32_t)0x80808080));
    if (q->level == TN_QL_TABLE) codes[h] = tn_cuda_codes_look_up(c, codes[h]);
  }
}

/* f32 numbers of the codes. */
static ll_val levels_of(tn_cuda_piece *c, const ll_val codes[2], ll_val zero) {
  tn_ll *e = c->s->k->e;
  ll_val r = LLVMGetPoison(LLVMVectorType(e->f32, VALUES));
  if (c->q->level == TN_QL_F8E4M3) {
    ll_val pair = LLVMGetPoison(LLVMVectorType(e->i32, 2));
    for (uint32_t h = 0; h < 2; h++) pair = ll_put(e, pair, codes[h], h);
    return tn_ll_to_compute(e, TN_DT_f8e4m3, ll_cast_bits(e, pair, LLVMVectorType(e->i8, VALUES)));
  }
  ll_val off = ll_real(e, e->f32, 0x1p23 + tn_cuda_codes_bias(c->q));
  if (zero) off = ll_fadd(e, LLVMBuildSIToFP(e->b, zero, e->f32, ""), off);
  for (uint32_t i = 0; i < VALUES; i++) r = ll_put(e, r, tn_cuda_byte_float(c, codes[i / 4], i % 4, off), i);
  return r;
}

ll_val tn_cuda_block_chunk(tn_cuda_kernel *k, tn_value v, ll_val line, ll_val column, ll_val ok) {
  tn_ll *e = k->e;
  tn_cuda_stream s = {.k = k, .w = v, .tw = tn_cuda_type(k, v), .rows = 1};
  s.q = tn_quant_of(s.tw.dtype);
  tn_cuda_piece c = {.s = &s, .q = s.q};
  uint32_t before = e->lanes;
  ll_val values = ll_k(e, s.q->values), codes[2], row = tn_ll_dim(&k->body, s.tw.dims[s.tw.rank - 1]);
  ll_val block = ll_iadd(e, ll_imul(e, line, ll_udiv(e, row, values)), ll_udiv(e, column, values));
  ll_val i = LLVMBuildTrunc(e->b, ll_urem(e, column, values), e->i32, ""), j = number(&c, 0);
  if (ok) block = ll_select(e, ok, block, ll_k(e, 0));
  if (s.q->sub) j = ll_udiv(e, i, number(&c, s.q->sub));
  c.block[0] = ll_imul(e, block, ll_k(e, s.q->bytes));
  e->lanes = VALUES;
  read_codes(&c, i, codes);
  tn_block_reader b = tn_cuda_piece_reader(&c, 0);
  ll_val x = levels_of(&c, codes, tn_block_zero(&b, j));
  ll_val scale = tn_block_scale(&b, tn_block_number(&b, s.q->d, s.q->d_at), j), low = NULL;
  if (s.q->m_sign) low = tn_block_minimum(&b, tn_block_number(&b, s.q->m, s.q->m_at), j);
  x = ll_fmul(e, ll_wide(e, scale, true), x);
  if (low) x = (s.q->m_sign < 0 ? ll_fsub : ll_fadd)(e, x, ll_wide(e, low, true));
  e->lanes = before;
  return x;
}
