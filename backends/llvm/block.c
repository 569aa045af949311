/* block.c - see block.h. Every formula is that of ir/quant/quant.c, rounding by rounding. */
#include "backends/llvm/block.h"
#include "backends/llvm/convert.h"
#include <stdio.h>

/* ---- fields ---- */
static uint32_t number_bytes(uint32_t kind) {
  switch (kind) {
  case TN_QN_F16:
  case TN_QN_BF16: return 2;
  case TN_QN_F32: return 4;
  default: return 1;
  }
}
/* Is `at` in [from, from + n * size)? Then its field of that size. */
static bool within(uint32_t at, uint32_t from, uint32_t n, uint32_t size, uint32_t *start) {
  if (at < from || at >= from + n * size) return false;
  *start = at - (at - from) % size;
  return true;
}
/* Codes of fewer than 8 bits; and bytes without scales, four of which integer products read where they lie.
 */
static bool whole_words(const tn_quant *q, const tn_quant_plane *p) {
  bool plain = q->level == TN_QL_SIGNED && q->d == TN_QN_ONE && !q->sub;
  return p->bits && (p->bits < 8 || plain) && q->level != TN_QL_TRITS && q->values * p->bits % 32 == 0;
}

uint32_t tn_block_field(const tn_quant *q, uint32_t at, uint32_t *start) {
  uint32_t size = number_bytes(q->d);
  if (size > 1 && within(at, q->d_at, 1, size, start)) return size;
  size = number_bytes(q->m);
  if (size > 1 && within(at, q->m_at, 1, size, start)) return size;
  bool halves = q->inner == TN_QI_F16 || q->inner == TN_QI_BF16;
  if (halves && within(at, q->inner_at, q->values / tn_block_run(q), 2, start)) return 2;
  for (const tn_quant_plane *p = q->plane; p < q->plane + TN_COUNT(q->plane); p++)
    if (whole_words(q, p) && within(at, p->at, q->values * p->bits / 32, 4, start)) return 4;
  *start = at;
  return 1;
}

/* ---- small parts ---- */
static ll_val wide(tn_block_reader *r, ll_val v) { return ll_wide(r->e, v, r->vec); }
static ll_val i32_like(tn_ll *e, ll_val like, int64_t x) { return ll_int(e, ll_like(e, like, e->i32), x); }
static ll_val plus(tn_ll *e, ll_val v, int64_t x) { return x ? ll_add(e, v, i32_like(e, v, x)) : v; }
static ll_val times(tn_ll *e, ll_val v, int64_t x) { return x == 1 ? v : ll_mul(e, v, i32_like(e, v, x)); }
static ll_val over(tn_ll *e, ll_val v, int64_t x) { return x == 1 ? v : ll_udiv(e, v, i32_like(e, v, x)); }
static ll_val modulo(tn_ll *e, ll_val v, int64_t x) { return ll_urem(e, v, i32_like(e, v, x)); }
static ll_val bits_of(tn_ll *e, ll_val v, uint32_t n) {
  return ll_and(e, v, i32_like(e, v, ((int64_t)1 << n) - 1));
}
static ll_val down(tn_ll *e, ll_val v, int64_t n) { return n ? ll_lshr(e, v, i32_like(e, v, n)) : v; }
static ll_val up(tn_ll *e, ll_val v, int64_t n) { return n ? ll_shl(e, v, i32_like(e, v, n)) : v; }
/* v >> n, n a position of any shape. */
static ll_val down_by(tn_block_reader *r, ll_val v, ll_val n) { return ll_lshr(r->e, v, wide(r, n)); }
static ll_val signed_float(tn_ll *e, ll_val v) { return LLVMBuildSIToFP(e->b, v, ll_like(e, v, e->f32), ""); }
/* cond ? x : y, where cond may be known now. */
static ll_val choose(tn_block_reader *r, ll_val cond, ll_val x, ll_val y) {
  if (LLVMIsAConstantInt(cond)) return LLVMConstIntGetZExtValue(cond) ? x : y;
  return ll_select(r->e, ll_is_vec(x) ? ll_wide(r->e, cond, true) : cond, x, y);
}

static ll_val byte_at(tn_block_reader *r, uint32_t near, ll_val at) {
  ll_val v = r->get(r->ctx, 1, near, at);
  return LLVMBuildZExt(r->e->b, v, ll_like(r->e, v, r->e->i32), "");
}
static ll_val byte_k(tn_block_reader *r, uint32_t at) {
  return byte_at(r, at, LLVMConstInt(r->e->i32, at, 0));
}
static ll_val half_of(tn_block_reader *r, ll_val v, bool brain) {
  if (brain) return tn_ll_to_compute(r->e, TN_DT_bf16, v);
  return tn_ll_to_compute(r->e, TN_DT_f16, ll_cast_bits(r->e, v, ll_like(r->e, v, r->e->f16)));
}

/* ---- stored numbers ---- */
static ll_val split_half(tn_block_reader *r, uint32_t at) {
  tn_ll *e = r->e;
  ll_val bits = NULL;
  for (uint32_t i = 0; i < 4; i++) {
    ll_val part = up(e, down(e, byte_k(r, at + 2 * i + 1), 4), 4 * i);
    bits = bits ? ll_or(e, bits, part) : part;
  }
  return half_of(r, LLVMBuildTrunc(e->b, bits, ll_like(e, bits, e->i16), ""), false);
}
static ll_val e8m0_half(tn_block_reader *r, uint32_t at) {
  tn_ll *e = r->e;
  ll_val v = byte_k(r, at), small = ll_shl(e, i32_like(e, v, 0x200000), v);
  ll_val bits = ll_select(e, ll_icmp(e, LLVMIntULT, v, i32_like(e, v, 2)), small, up(e, plus(e, v, -1), 23));
  return ll_cast_bits(e, bits, ll_like(e, v, e->f32));
}

ll_val tn_block_number(tn_block_reader *r, uint32_t kind, uint32_t at) {
  tn_ll *e = r->e;
  ll_val k = LLVMConstInt(e->i32, at, 0);
  switch (kind) {
  case TN_QN_F16:
  case TN_QN_BF16: return half_of(r, r->get(r->ctx, 2, at, k), kind == TN_QN_BF16);
  case TN_QN_F32: {
    ll_val v = r->get(r->ctx, 4, at, k);
    return ll_cast_bits(e, v, ll_like(e, v, e->f32));
  }
  case TN_QN_E8M0_HALF: return e8m0_half(r, at);
  case TN_QN_F16_SPLIT: return split_half(r, at);
  default: return ll_real(e, r->vec ? ll_vec(e, e->f32) : e->f32, 1);
  }
}

/* `bits` bits of the block from bit position `bit` (any shape) on; near: a byte of the same kind. */
static ll_val bits_at(tn_block_reader *r, uint32_t near, ll_val bit, uint32_t bits) {
  tn_ll *e = r->e;
  int64_t k;
  ll_val byte = down(e, bit, 3), shift = bits_of(e, bit, 3), word = byte_at(r, near, byte);
  bool known = ll_const(shift, &k);
  if (known ? k + bits > 8 : bits > 1) { /* never behind the block */
    ll_val last = i32_like(e, byte, r->q->bytes - 1), next = ll_imin(e, plus(e, byte, 1), last);
    word = ll_or(e, word, up(e, byte_at(r, near, next), 8));
  }
  return bits_of(e, down_by(r, word, shift), bits);
}
static ll_val field_at(tn_block_reader *r, const tn_quant_field *f, ll_val j) {
  tn_ll *e = r->e;
  ll_val group = times(e, over(e, j, f->per), f->stride);
  ll_val bit = plus(e, ll_add(e, group, times(e, modulo(e, j, f->per), f->step)), f->at);
  return bits_at(r, f->at / 8, bit, f->bits);
}

/* ---- runs ---- */
/* Six-bit numbers of q4_k, the scales (skip 0) or the minima (skip 4). */
static ll_val six_bits_k4(tn_block_reader *r, uint32_t skip, ll_val j) {
  tn_ll *e = r->e;
  uint32_t at = r->q->inner_at;
  ll_val low = ll_icmp(e, LLVMIntULT, j, i32_like(e, j, 4));
  ll_val back = choose(r, low, j, plus(e, j, -4)), fore = plus(e, j, 4);
  ll_val first = byte_at(r, at, plus(e, back, at + skip)), tail = byte_at(r, at, plus(e, fore, at));
  ll_val nibble = skip ? down(e, tail, 4) : bits_of(e, tail, 4);
  return choose(r, low, bits_of(e, first, 6), ll_or(e, nibble, up(e, down(e, first, 6), 4)));
}
static ll_val six_bits_k3(tn_block_reader *r, ll_val j) {
  tn_ll *e = r->e;
  uint32_t at = r->q->inner_at;
  ll_val low = down_by(r, byte_at(r, at, plus(e, modulo(e, j, 8), at)), times(e, over(e, j, 8), 4));
  ll_val high = down_by(r, byte_at(r, at, plus(e, modulo(e, j, 4), at + 8)), times(e, over(e, j, 4), 2));
  return plus(e, ll_or(e, bits_of(e, low, 4), up(e, bits_of(e, high, 2), 4)), -32);
}
static ll_val six_bits_iq4(tn_block_reader *r, ll_val j) {
  tn_ll *e = r->e;
  uint32_t at = r->q->inner_at;
  ll_val low = down_by(r, byte_at(r, at, plus(e, over(e, j, 2), at + 2)), times(e, modulo(e, j, 2), 4));
  ll_val high = down_by(r, byte_at(r, at, plus(e, over(e, j, 4), at)), times(e, modulo(e, j, 4), 2));
  return plus(e, ll_or(e, bits_of(e, low, 4), up(e, bits_of(e, high, 2), 4)), -32);
}
static ll_val ue4m3_half(tn_ll *e, ll_val v) {
  ll_val x = ll_cast_bits(e, up(e, bits_of(e, v, 7), 20), ll_like(e, v, e->f32));
  x = ll_fmul(e, x, ll_f(e, x, 0x1p119));
  return ll_select(e, ll_icmp(e, LLVMIntEQ, v, i32_like(e, v, 0x7f)), ll_f(e, x, 0), x);
}
static ll_val signed_byte(tn_block_reader *r, ll_val at) {
  ll_val v = r->get(r->ctx, 1, r->q->inner_at, at);
  return LLVMBuildSExt(r->e->b, v, ll_like(r->e, v, r->e->i32), "");
}

static ll_val inner_scale(tn_block_reader *r, ll_val j) {
  tn_ll *e = r->e;
  uint32_t at = r->q->inner_at;
  switch (r->q->inner) {
  case TN_QI_K4: return signed_float(e, six_bits_k4(r, 0, j));
  case TN_QI_NIBBLES: return signed_float(e, bits_of(e, byte_at(r, at, plus(e, j, at)), 4));
  case TN_QI_K3: return signed_float(e, six_bits_k3(r, j));
  case TN_QI_I8: return signed_float(e, signed_byte(r, plus(e, j, at)));
  case TN_QI_IQ4XS: return signed_float(e, six_bits_iq4(r, j));
  case TN_QI_UE4M3_HALF: return ue4m3_half(e, byte_at(r, at, plus(e, j, at)));
  case TN_QI_F16:
  case TN_QI_BF16:
    return half_of(r, r->get(r->ctx, 2, at, plus(e, times(e, j, 2), at)), r->q->inner == TN_QI_BF16);
  case TN_QI_GRID: {
    ll_val s = plus(e, times(e, field_at(r, &r->q->grid->scale, j), 2), 1);
    ll_val f = signed_float(e, s);
    return ll_fmul(e, f, ll_f(e, f, r->q->grid->unit));
  }
  default: return NULL;
  }
}

ll_val tn_block_scale(tn_block_reader *r, ll_val d, ll_val j) {
  ll_val s = inner_scale(r, j);
  if (!s) return d;
  return r->q->d == TN_QN_ONE ? s : ll_fmul(r->e, d, s);
}
ll_val tn_block_minimum(tn_block_reader *r, ll_val m, ll_val j) {
  tn_ll *e = r->e;
  uint32_t at = r->q->inner_at;
  if (!r->q->m_sign) return NULL;
  ll_val n;
  if (r->q->inner == TN_QI_K4)
    n = six_bits_k4(r, 4, j);
  else if (r->q->inner == TN_QI_NIBBLES)
    n = down(e, byte_at(r, at, plus(e, j, at)), 4);
  else
    return m;
  return ll_fmul(e, m, signed_float(e, n));
}
ll_val tn_block_zero(tn_block_reader *r, ll_val j) {
  const tn_quant *q = r->q;
  if (!q->zero_bits) return NULL;
  return bits_at(r, q->zero_at, plus(r->e, times(r->e, j, q->zero_bits), q->zero_at * 8), q->zero_bits);
}

/* ---- codebooks ---- */
ll_val tn_block_lookup(tn_ll *e, const char *name, const void *table, uint64_t bytes, ll_type t,
                       ll_val index) {
  ll_val g = LLVMGetNamedGlobal(e->mod, name);
  if (!g) g = ll_global(e, name, table, bytes);
  ll_val p = LLVMBuildGEP2(e->b, t, g, &index, 1, "");
  if (!ll_is_vec(index)) return ll_load(e, t, p, 4);
  ll_type types[] = {ll_vec(e, t), LLVMTypeOf(p)};
  ll_val args[] = {p, LLVMConstAllOnes(ll_vec(e, e->i1)), LLVMConstNull(ll_vec(e, t))};
  ll_val v = ll_call(e, "llvm.masked.gather", types, 2, args, 3);
  LLVMSetInstrParamAlignment(v, 1, 4);
  return v;
}

#define GRID_ROWS 2048
ll_val tn_block_grid_row(tn_block_reader *r, ll_val n) {
  tn_ll *e = r->e;
  const tn_quant_grid *g = r->q->grid;
  uint32_t rows[GRID_ROWS], count = 1u << (g->low.bits + g->high.bits);
  char name[48];
  ll_val row = field_at(r, &g->low, n);
  if (g->high.bits) row = ll_or(e, row, up(e, field_at(r, &g->high, n), g->low.bits));
  if (count > GRID_ROWS) {
    tn_ll_fail(e, "the codebook of '%s' has %u rows, at most %d are handled", r->q->name, count, GRID_ROWS);
    return row;
  }
  for (uint32_t i = 0; i < count; i++) rows[i] = g->rows[i];
  snprintf(name, sizeof name, "rows.%s", r->q->name);
  return tn_block_lookup(e, name, rows, count * sizeof *rows, e->i32, row);
}
ll_val tn_block_grid_signs(tn_block_reader *r, ll_val n) {
  tn_ll *e = r->e;
  const tn_quant_grid *g = r->q->grid;
  if (!g->sign.bits) return NULL;
  ll_val s = field_at(r, &g->sign, n);
  if (g->sign.bits == 8) return s;
  ll_val odd = s; /* parity of 7 bits */
  for (uint32_t k = 4; k; k /= 2) odd = ll_xor(e, odd, down(e, odd, k));
  return ll_or(e, s, up(e, bits_of(e, odd, 1), 7));
}
ll_val tn_block_grid_delta(tn_block_reader *r, ll_val i) {
  tn_ll *e = r->e;
  const tn_quant_grid *g = r->q->grid;
  if (!g->delta.bits) return NULL;
  ll_val bit = field_at(r, &g->delta, over(e, i, g->delta_run));
  ll_val f = ll_real(e, ll_like(e, bit, e->f32), 0.125);
  return ll_select(e, ll_icmp(e, LLVMIntNE, bit, i32_like(e, bit, 0)), ll_neg(e, f), f);
}

static ll_val grid_level(tn_block_reader *r, ll_val i) {
  tn_ll *e = r->e;
  const tn_quant_grid *g = r->q->grid;
  uint32_t bits = 16u / g->width;
  float levels[16];
  char name[48];
  for (uint32_t k = 0; k < 1u << bits; k++) levels[k] = g->levels[k % tn_block_grid_levels(g)];
  ll_val row = tn_block_grid_row(r, over(e, i, g->width));
  ll_val entry = bits_of(e, down_by(r, row, times(e, modulo(e, i, g->width), bits)), bits);
  snprintf(name, sizeof name, "levels.%s", r->q->name);
  ll_val x = tn_block_lookup(e, name, levels, sizeof *levels << bits, e->f32, entry);
  ll_val delta = tn_block_grid_delta(r, i), signs = tn_block_grid_signs(r, over(e, i, 8));
  if (delta) x = ll_fadd(e, x, delta);
  if (!signs) return x;
  ll_val bit = bits_of(e, down_by(r, signs, modulo(e, i, 8)), 1);
  return ll_select(e, ll_icmp(e, LLVMIntNE, bit, i32_like(e, bit, 0)), ll_neg(e, x), x);
}

/* ---- any value ---- */
static ll_val trit(tn_block_reader *r, ll_val i) {
  tn_ll *e = r->e;
  ll_val at = NULL, power = NULL;
  uint32_t from = 0;
  for (const tn_quant_plane *p = r->q->plane; p < r->q->plane + TN_COUNT(r->q->plane) && p->bits; p++) {
    static const uint32_t powers[] = {1, 3, 9, 27, 81};
    ll_val k = plus(e, i, -(int64_t)from), digit = over(e, k, p->run);
    ll_val here = plus(e, modulo(e, k, p->run), p->at), pow = i32_like(e, i, 1);
    for (uint32_t d = 1; d < p->slots; d++)
      pow = choose(r, ll_icmp(e, LLVMIntEQ, digit, i32_like(e, i, d)), i32_like(e, i, powers[d]), pow);
    ll_val in = ll_icmp(e, LLVMIntUGE, i, i32_like(e, i, from));
    at = at ? choose(r, in, here, at) : here;
    power = power ? choose(r, in, pow, power) : pow;
    from += (uint32_t)p->run * p->slots;
  }
  ll_val byte = bits_of(e, ll_mul(e, byte_at(r, r->q->plane[0].at, at), wide(r, power)), 8);
  return down(e, times(e, byte, 3), 8);
}

static ll_val code_of(tn_block_reader *r, ll_val i) {
  tn_ll *e = r->e;
  ll_val code = NULL;
  uint32_t shift = 0;
  if (r->q->level == TN_QL_TRITS) return trit(r, i);
  for (const tn_quant_plane *p = r->q->plane; p < r->q->plane + TN_COUNT(r->q->plane) && p->bits; p++) {
    ll_val slot = over(e, i, p->run), group = times(e, over(e, slot, p->slots), p->run);
    ll_val at = plus(e, p->run == 1 ? group : ll_add(e, group, modulo(e, i, p->run)), p->at);
    ll_val v = byte_at(r, p->at, at);
    if (p->bits < 8) v = bits_of(e, down_by(r, v, times(e, modulo(e, slot, p->slots), p->bits)), p->bits);
    v = up(e, v, shift);
    code = code ? ll_or(e, code, v) : v;
    shift += p->bits;
  }
  return code;
}

static ll_val level(tn_block_reader *r, ll_val i, ll_val j) {
  tn_ll *e = r->e;
  char name[48];
  if (r->q->level == TN_QL_GRID) return grid_level(r, i);
  ll_val code = code_of(r, i), zero, byte;
  switch (r->q->level) {
  case TN_QL_TABLE:
    snprintf(name, sizeof name, "levels.%s", r->q->name);
    return tn_block_lookup(e, name, r->q->table, 16 * sizeof(float), e->f32, code);
  case TN_QL_SIGNED:
  case TN_QL_F8E4M3:
    byte = LLVMBuildTrunc(e->b, code, ll_like(e, code, e->i8), "");
    if (r->q->level == TN_QL_F8E4M3) return tn_ll_to_compute(e, TN_DT_f8e4m3, byte);
    return LLVMBuildSIToFP(e->b, byte, ll_like(e, code, e->f32), "");
  default:
    code = plus(e, code, -(int64_t)r->q->bias);
    if ((zero = tn_block_zero(r, j))) code = ll_sub(e, code, zero);
    return signed_float(e, code);
  }
}

ll_val tn_block_value(tn_block_reader *r, ll_val i, ll_val j) {
  tn_ll *e = r->e;
  ll_val d = tn_block_number(r, r->q->d, r->q->d_at);
  ll_val x = ll_fmul(e, tn_block_scale(r, d, j), level(r, i, j));
  ll_val m = r->q->m_sign ? tn_block_minimum(r, tn_block_number(r, r->q->m, r->q->m_at), j) : NULL;
  if (!m) return x;
  return r->q->m_sign < 0 ? ll_fsub(e, x, m) : ll_fadd(e, x, m);
}
