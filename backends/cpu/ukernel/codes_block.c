/* codes_block.c - see codes_block.h. Planes whose values lie in successive bytes are masked where they stand;
 * single bits that lie side by side are spread by testing copies of their byte. Levels from tables and
 * codebooks are looked up as bytes, moved up by `bias` so that none is negative. */
#include "backends/cpu/ukernel/codes_block.h"
#include <math.h>
#include <stdlib.h>

#define QUADS (TN_CPU_STEP / 4) /* vectors of a step */
#define WIDE 128                /* bias of levels that need all 256 codes */

/* ---- which formats, and in what order ---- */
/* Byte and slot of value t of the first step. */
static void place_of(const tn_quant_plane *p, uint32_t t, uint32_t *byte, uint32_t *slot) {
  uint32_t n = t / p->run;
  *byte = n / p->slots * p->run + t % p->run;
  *slot = n % p->slots;
}
/* Are the four values one shift and one mask away? */
static bool in_line(const tn_quant_plane *p, const uint8_t *four) {
  uint32_t byte[4], slot[4];
  for (uint32_t j = 0; j < 4; j++) place_of(p, four[j], &byte[j], &slot[j]);
  for (uint32_t j = 0; j < 4; j++)
    if (byte[j] / 4 != byte[0] / 4 || byte[j] % 4 != j || slot[j] != slot[0]) return false;
  return true;
}
static bool same_word(const tn_quant_plane *p, const uint8_t *four) {
  uint32_t byte[4], slot[4];
  for (uint32_t j = 0; j < 4; j++) place_of(p, four[j], &byte[j], &slot[j]);
  return byte[0] / 4 == byte[1] / 4 && byte[0] / 4 == byte[2] / 4 && byte[0] / 4 == byte[3] / 4;
}

static bool order_of(const tn_quant *q, uint8_t *order) {
  const tn_quant_plane *p = q->plane;
  uint32_t run = tn_block_run(q), chunk = run < TN_CPU_STEP ? run : TN_CPU_STEP;
  bool spread = q->level != TN_QL_GRID && p->run == 1 && p->slots > 1;
  for (uint32_t i = 0; i < TN_CPU_STEP; i++) {
    uint32_t slots = spread ? p->slots : 1, vector = i / 4;
    uint32_t t = spread ? vector / slots * 4 * slots + vector % slots + slots * (i % 4) : i;
    if (t >= TN_CPU_STEP || t / chunk != i / chunk) return false;
    order[i] = (uint8_t)t;
  }
  for (p = q->plane; p < tn_cpu_planes_end(q) && q->level != TN_QL_TRITS; p++)
    for (uint32_t i = 0; i < QUADS && p->bits < 8; i++)
      if (!in_line(p, order + 4 * i) && !(p->bits == 1 && same_word(p, order + 4 * i))) return false;
  return true;
}

/* Levels that are whole numbers from a small range. */
static bool codes_of_levels(const float *levels, uint32_t n, tn_cpu_codes *c) {
  float low = levels[0], high = levels[0];
  for (uint32_t i = 0; i < n; i++) {
    if (levels[i] != rintf(levels[i]) || fabsf(levels[i]) > INT8_MAX) return false;
    low = fminf(low, levels[i]);
    high = fmaxf(high, levels[i]);
  }
  c->bias = high - low > INT8_MAX ? WIDE : -(int32_t)low;
  c->max = high - low > INT8_MAX ? UINT8_MAX : (uint32_t)(high - low);
  return true;
}
static void codes_of_grid(const tn_quant_grid *g, tn_cpu_codes *c) {
  int32_t high = 0;
  for (uint32_t i = 0; i < tn_block_grid_levels(g); i++)
    high = abs(g->levels[i]) > high ? abs(g->levels[i]) : high;
  if (g->delta.bits) c->unit = 8;
  c->bias = g->delta.bits ? 8 * high + 1 : high;
  c->max = 2 * (uint32_t)c->bias;
}

bool tn_cpu_codes_of(const tn_quant *q, tn_cpu_codes *c) {
  uint32_t bits = 0;
  *c = (tn_cpu_codes){.unit = 1};
  for (const tn_quant_plane *p = q->plane; p < tn_cpu_planes_end(q); p++) bits += p->bits;
  if (!order_of(q, c->order)) return false;
  switch (q->level) {
  case TN_QL_INT:
    c->max = (1u << bits) - 1;
    c->bias = q->bias;
    return true;
  case TN_QL_SIGNED:
    c->max = UINT8_MAX;
    c->bias = WIDE;
    return true;
  case TN_QL_TRITS:
    c->max = 2;
    c->bias = q->bias;
    return true;
  case TN_QL_TABLE: return codes_of_levels(q->table, 1u << bits, c);
  case TN_QL_GRID: codes_of_grid(q->grid, c); return true;
  default: return false;
  }
}

/* ---- bytes ---- */
static ll_type bytes_type(tn_ll *e) { return LLVMVectorType(e->i8, 4 * e->lanes); }
static ll_val as_bytes(tn_ll *e, ll_val v) { return ll_cast_bits(e, v, bytes_type(e)); }
static ll_val as_words(tn_ll *e, ll_val v) { return ll_cast_bits(e, v, ll_vec(e, e->i32)); }
static ll_val splat_byte(tn_ll *e, uint32_t x) { return ll_int(e, bytes_type(e), x); }
static ll_val shifted(tn_ll *e, ll_val v, int64_t down) {
  if (!down) return v;
  return down > 0 ? ll_lshr(e, v, ll_i(e, v, down)) : ll_shl(e, v, ll_i(e, v, -down));
}
static ll_val masked(tn_ll *e, ll_val v, uint32_t byte) {
  return ll_and(e, v, ll_i(e, v, (int64_t)byte * 0x01010101));
}

/* Byte j of every lane: is bit[j] of its byte from[j] set? */
static ll_val test_bits(tn_ll *e, ll_val words, const uint32_t *from, const uint32_t *bit) {
  int pick[64];
  ll_val bits[64], v = as_bytes(e, words);
  for (uint32_t i = 0; i < 4 * e->lanes; i++) {
    pick[i] = (int)(i / 4 * 4 + from[i % 4]);
    bits[i] = LLVMConstInt(e->i8, 1u << bit[i % 4], 0);
  }
  v = ll_and(e, ll_shuffle(e, v, v, pick, 4 * e->lanes), LLVMConstVector(bits, 4 * e->lanes));
  return ll_icmp(e, LLVMIntNE, v, ll_zero(LLVMTypeOf(v)));
}

/* table[index] of every byte; indices are below 16. */
static ll_val lookup(tn_ll *e, const uint8_t *table, ll_val index) {
  ll_val items[64];
  for (uint32_t i = 0; i < 4 * e->lanes; i++) items[i] = LLVMConstInt(e->i8, table[i % 16], 0);
  ll_val args[] = {LLVMConstVector(items, 4 * e->lanes), as_bytes(e, index)};
  const char *name = e->lanes == 16 ? "llvm.x86.avx512.pshuf.b.512" : "llvm.x86.avx2.pshuf.b";
  return as_words(e, ll_call(e, name, NULL, 0, args, 2));
}

/* Four bytes of each of 16 rows, [4][16], as a vector of rows: [rows][4]. */
static ll_val turn_bytes(tn_cpu_lanes *l, ll_val from) {
  static const int by_lane[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
  static const int by_row[8] = {0, 4, 2, 6, 1, 5, 3, 7};
  tn_ll *e = l->b->e;
  int within[64];
  for (uint32_t i = 0; i < 64; i++) within[i] = (int)(i / 16 * 16 + i % 4 * 4 + i % 16 / 4);
  ll_val v;
  if (e->lanes == 16) {
    v = ll_load(e, ll_vec(e, e->i32), from, 1);
    v = ll_shuffle(e, v, v, by_lane, 16);
  } else { /* one half of the rows: of bytes 0, 2, 1, 3 */
    ll_type t = LLVMVectorType(e->i64, 4);
    const int h = (int)l->vec, halves[] = {h, h + 4, h + 2, h + 6};
    ll_val a = ll_load(e, t, from, 1), b = ll_load(e, t, ll_at(e, from, ll_k(e, 32)), 1);
    v = as_words(e, ll_shuffle(e, a, b, halves, 4));
    v = ll_shuffle(e, v, v, by_row, 8);
  }
  v = as_bytes(e, v);
  return as_words(e, ll_shuffle(e, v, v, within, 4 * e->lanes));
}
static ll_val byte_field(tn_cpu_lanes *l, const tn_quant_plane *p, tn_cpu_spot s) {
  tn_ll *e = l->b->e;
  ll_val at = ll_k(e, (int64_t)(p->at + s.byte_k) * TN_BLOCK_ROWS);
  if (s.byte) at = ll_add(e, ll_imul(e, s.byte, ll_k(e, TN_BLOCK_ROWS)), at);
  return turn_bytes(l, ll_at(e, l->b->group[l->panel], at));
}

/* ---- codes ---- */
/* The bits of plane p of four values, at bit `to` of their bytes. */
static ll_val plane_of(tn_cpu_lanes *l, const tn_quant_plane *p, const uint8_t *four, uint32_t to) {
  tn_ll *e = l->b->e;
  tn_cpu_spot s = tn_cpu_spot_of(l->b, p, four[0]);
  if (p->bits == 8 && !tn_cpu_byte_words(l->b->q)) return byte_field(l, p, s);
  ll_val w = tn_cpu_spot_load(l, p, s, 4);
  if (in_line(p, four)) {
    if (s.slot) {
      ll_val by = LLVMBuildTrunc(e->b, ll_imul(e, s.slot, ll_k(e, p->bits)), e->i32, "");
      w = ll_lshr(e, w, ll_splat(e, by));
    }
    w = shifted(e, w, (int64_t)s.slot_k * p->bits - to);
    return masked(e, w, ((1u << p->bits) - 1) << to);
  }
  uint32_t byte[4], bit[4];
  for (uint32_t j = 0; j < 4; j++) place_of(p, four[j], &byte[j], &bit[j]), byte[j] %= 4;
  ll_val on = test_bits(e, w, byte, bit), yes = splat_byte(e, 1u << to);
  return as_words(e, ll_select(e, on, yes, ll_zero(LLVMTypeOf(yes))));
}

static ll_val int_codes(tn_cpu_lanes *l, const uint8_t *four) {
  ll_val codes = NULL;
  uint32_t to = 0;
  for (const tn_quant_plane *p = l->b->q->plane; p < tn_cpu_planes_end(l->b->q); p++) {
    ll_val w = plane_of(l, p, four, to);
    codes = codes ? ll_or(l->b->e, codes, w) : w;
    to += p->bits;
  }
  return codes;
}

static ll_val table_codes(tn_cpu_lanes *l, const tn_cpu_codes *c, const uint8_t *four) {
  uint8_t table[16];
  for (uint32_t i = 0; i < 16; i++) table[i] = (uint8_t)((int32_t)l->b->q->table[i] + c->bias);
  return lookup(l->b->e, table, int_codes(l, four));
}

/* Digits of base 3: products of bytes by a power, of even and of odd bytes. */
static ll_val trit_codes(tn_cpu_lanes *l, uint32_t t) {
  tn_ll *e = l->b->e;
  static const uint32_t powers[] = {1, 3, 9, 27, 81};
  const tn_quant_plane *p = l->b->q->plane;
  int64_t step = 0;
  ll_const(l->b->step, &step);
  uint32_t i = (uint32_t)step * TN_CPU_STEP + t;
  for (; i >= (uint32_t)p->run * p->slots; p++) i -= (uint32_t)p->run * p->slots;
  ll_val v = byte_field(l, p, (tn_cpu_spot){.byte_k = i % p->run}), half[2];
  for (uint32_t odd = 0; odd < 2; odd++) {
    ll_val x = ll_and(e, shifted(e, v, 8 * odd), ll_i(e, v, 0x00ff00ff));
    x = ll_cast_bits(e, x, LLVMVectorType(e->i16, 2 * e->lanes));
    x = ll_and(e, ll_mul(e, x, ll_i(e, x, powers[i / p->run])), ll_i(e, x, 255));
    x = ll_lshr(e, ll_mul(e, x, ll_i(e, x, 3)), ll_i(e, x, 8));
    half[odd] = as_words(e, x);
  }
  return ll_or(e, half[0], shifted(e, half[1], -8));
}

/* ---- codebooks ---- */
/* Entries of a row, one to a byte: four of 2 bits from bit `from` on, or all four of 4. */
static ll_val spread_entries(tn_ll *e, const tn_quant_grid *g, ll_val row, uint32_t from) {
  bool small = g->width == 8;
  ll_val x = shifted(e, row, from);
  x = ll_and(e, x, ll_i(e, x, small ? 0xff : 0xffff));
  x = ll_or(e, x, shifted(e, x, small ? -12 : -8));
  x = ll_and(e, x, ll_i(e, x, small ? 0x000f000f : 0x00ff00ff));
  x = ll_or(e, x, shifted(e, x, small ? -6 : -4));
  return masked(e, x, small ? 3 : 15);
}
static ll_val grid_codes(tn_cpu_lanes *l, const tn_cpu_codes *c, uint32_t t) {
  tn_cpu_blocks *b = l->b;
  tn_ll *e = b->e;
  const tn_quant_grid *g = b->q->grid;
  uint8_t up[16];
  uint32_t at = l->panel * b->per + l->vec, from[4] = {0}, bit[4];
  tn_cpu_grid_read(b, t);
  int32_t base = g->delta.bits ? c->bias : 0;
  for (uint32_t i = 0; i < 16; i++)
    up[i] = (uint8_t)((int32_t)c->unit * g->levels[i % tn_block_grid_levels(g)] + base);
  ll_val x = as_bytes(e, lookup(e, up, spread_entries(e, g, b->row[at], t % g->width * (16u / g->width))));
  if (b->delta[at]) { /* by one up, or, where it is negative, down */
    ll_val minus = as_words(e, b->delta[at]);
    minus = ll_ashr(e, minus, ll_i(e, minus, 31));
    x = ll_add(e, x, as_bytes(e, ll_or(e, minus, ll_i(e, minus, 0x01010101))));
  }
  if (g->delta.bits) return as_words(e, x);
  ll_val middle = splat_byte(e, (uint32_t)c->bias);
  if (!b->signs[at]) return as_words(e, ll_add(e, middle, x));
  for (uint32_t j = 0; j < 4; j++) bit[j] = t % 8 + j;
  ll_val negative = test_bits(e, b->signs[at], from, bit);
  return as_words(e, ll_select(e, negative, ll_sub(e, middle, x), ll_add(e, middle, x)));
}

ll_val tn_cpu_codes_vector(tn_cpu_lanes *l, const tn_cpu_codes *c, uint32_t i) {
  const uint8_t *four = c->order + 4 * i;
  ll_val v;
  switch (l->b->q->level) {
  case TN_QL_GRID: return grid_codes(l, c, four[0]);
  case TN_QL_TRITS: return trit_codes(l, four[0]);
  case TN_QL_TABLE: return table_codes(l, c, four);
  case TN_QL_SIGNED: v = int_codes(l, four); return ll_xor(l->b->e, v, ll_i(l->b->e, v, 0x80808080));
  default: return int_codes(l, four);
  }
}

void tn_cpu_codes_arrange(tn_cpu_kernel *k, const tn_cpu_codes *c, ll_val q, ll_val depth) {
  tn_ll *e = k->e;
  int order[TN_CPU_STEP];
  bool moved = false;
  for (uint32_t i = 0; i < TN_CPU_STEP; i++) {
    order[i] = c->order[i];
    moved |= c->order[i] != i;
  }
  if (!moved) return;
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), depth, ll_k(e, TN_CPU_STEP), NULL, 0);
  ll_val at = ll_at(e, q, l.iv), v = ll_load(e, LLVMVectorType(e->i8, TN_CPU_STEP), at, 1);
  ll_store(e, ll_shuffle(e, v, v, order, TN_CPU_STEP), at, 1);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&k->body);
}
