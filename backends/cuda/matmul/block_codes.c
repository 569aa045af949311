/* block_codes.c - see blocks.h: from the bytes of a piece to numbers.
 *
 * Words are read as wide as they are known to be aligned; where that is less than 4 bytes, whole words around
 * them are read and shifted together, if nothing behind the weight's end is touched by that. A word of codes
 * is split by shifts and masks into words of four codes, a byte each. A byte becomes a float by being put
 * into the low bits of 2^23; what is subtracted to get rid of 2^23 takes the bias and the stored zero away
 * too, all exactly. Levels of a table that are whole numbers take the place of their codes as bytes; others
 * are looked up in shared memory, where 16 of them never share a bank. */
#include "backends/cuda/matmul/blocks.h"
#include "backends/cuda/warp.h"
#include <math.h>
#include <stdio.h>

enum { MIDDLE = 128, LEVELS = 16 };

static bool in_lines(const tn_quant_plane *p) { return p->run % 4 == 0; }

static bool plane_fits(const tn_quant *q, const tn_quant_plane *p) {
  bool lines = in_lines(q->plane);
  if (p->run == 1) return p->bits == 1 && (lines || q->plane->slots == 4);
  return lines && in_lines(p);
}
/* Levels that fit into bytes, MIDDLE being 0. */
static bool whole_levels(const tn_quant *q) {
  for (uint32_t i = 0; i < 1u << q->plane->bits; i++)
    if (q->table[i] != rintf(q->table[i]) || fabsf(q->table[i]) >= MIDDLE) return false;
  return true;
}
/* A level, and a higher one. */
static bool two_levels(const tn_quant *q) {
  return q->plane->bits == 1 && whole_levels(q) && q->table[0] <= 0 && q->table[1] > q->table[0];
}

bool tn_cuda_codes_takes(const tn_quant *q) {
  const tn_quant_plane *f = q->plane;
  if (q->level == TN_QL_TRITS || !f->bits || (f->run != 1 && !in_lines(f))) return false;
  if (q->level == TN_QL_TABLE && (q->plane[1].bits || (f->bits != 4 && !two_levels(q)))) return false;
  for (uint32_t i = 1; i < TN_COUNT(q->plane) && q->plane[i].bits; i++)
    if (!plane_fits(q, &q->plane[i])) return false;
  return true;
}

/* ---- bytes --------------------------------------------------------------------------------------------- */

/* The largest power of 2, up to `most`, that byte `at` of every block is a multiple of. */
static uint32_t alignment(const tn_quant *q, uint32_t at, uint32_t most) {
  uint32_t all = at | q->bytes | most;
  return all & -all;
}

/* Does the weight end with a whole word of 4 bytes? */
static bool ends_even(tn_cuda_stream *s) {
  int64_t n, bytes = s->q->bytes;
  for (uint32_t i = 0; i < s->tw.rank; i++) {
    if (!tn_ll_dim_const(&s->k->body, s->tw.dims[i], &n)) return false;
    if (i + 1 == s->tw.rank) n /= s->q->values;
    bytes = bytes % 4 * (n % 4);
  }
  return bytes % 4 == 0;
}

static ll_val address(tn_cuda_piece *c, ll_val at) {
  return ll_at(c->s->k->e, tn_cuda_buffer(c->s->k, c->s->w, NULL), at);
}
static ll_val place(tn_cuda_piece *c, uint32_t r, ll_val byte) {
  return ll_iadd(c->s->k->e, c->block[r], tn_cuda_i64(c->s->k, byte));
}

/* n words from byte `at` (i64) of the buffer on: from the whole ones around them. */
static void read_around(tn_cuda_piece *c, ll_val at, uint32_t n, ll_val *words) {
  tn_ll *e = c->s->k->e;
  ll_val whole[TN_CUDA_PIECE_WORDS + 1], from = ll_and(e, at, ll_k(e, -4));
  ll_val odd = ll_and(e, LLVMBuildTrunc(e->b, at, e->i32, ""), tn_cuda_word(c, 3));
  for (uint32_t i = 0; i < n; i++)
    whole[i] = ll_load(e, e->i32, address(c, ll_iadd(e, from, ll_k(e, 4 * i))), 4);
  /* the last one again, where nothing is needed of the one behind it */
  ll_val some = ll_icmp(e, LLVMIntNE, odd, tn_cuda_word(c, 0));
  ll_val last = ll_select(e, some, ll_k(e, 4 * n), ll_k(e, 4 * (int64_t)n - 4));
  whole[n] = ll_load(e, e->i32, address(c, ll_iadd(e, from, last)), 4);
  for (uint32_t i = 0; i < n; i++) {
    ll_val args[] = {whole[i + 1], whole[i], ll_shl(e, odd, tn_cuda_word(c, 3))};
    words[i] = ll_call(e, "llvm.fshr", &e->i32, 1, args, 3);
  }
}

/* n words from byte `byte` (i32) of row r's block on; near: a byte with the same alignment. */
static void read_words(tn_cuda_piece *c, uint32_t r, ll_val byte, uint32_t near, uint32_t n, ll_val *words) {
  tn_ll *e = c->s->k->e;
  uint32_t align = alignment(c->q, near, 4 * n), each = align < 4 ? 4 : align;
  ll_val at = place(c, r, byte);
  if (align < 4 && ends_even(c->s) && (n > 2 || align == 1)) {
    read_around(c, at, n, words);
    return;
  }
  ll_type t = each == 4 ? e->i32 : LLVMVectorType(e->i32, each / 4);
  for (uint32_t b = 0; b < 4 * n; b += each) {
    ll_val v = ll_load(e, t, address(c, ll_iadd(e, at, ll_k(e, b))), align);
    for (uint32_t i = 0; i < each / 4; i++) words[b / 4 + i] = each == 4 ? v : ll_lane(e, v, i);
  }
}

void tn_cuda_codes_words(tn_cuda_piece *c, ll_val byte, uint32_t near, uint32_t n, ll_val *words) {
  read_words(c, 0, byte, near, n, words);
}

static ll_val get(void *ctx, uint32_t size, uint32_t near, ll_val at) {
  tn_cuda_piece *c = ctx;
  tn_ll *e = c->s->k->e;
  ll_val word;
  if (size == 4) {
    read_words(c, c->row, at, near, 1, &word);
    return word;
  }
  return ll_load(e, size == 1 ? e->i8 : e->i16, address(c, place(c, c->row, at)),
                 alignment(c->q, near, size));
}
tn_block_reader tn_cuda_piece_reader(tn_cuda_piece *c, uint32_t row) {
  c->row = row;
  return (tn_block_reader){.e = c->s->k->e, .q = c->q, .get = get, .ctx = c};
}

/* ---- codes --------------------------------------------------------------------------------------------- */

static ll_val shifted(tn_cuda_piece *c, ll_val v, int32_t down) {
  if (!down) return v;
  return down > 0 ? ll_lshr(c->s->k->e, v, tn_cuda_word(c, down))
                  : ll_shl(c->s->k->e, v, tn_cuda_word(c, -down));
}
static ll_val masked(tn_cuda_piece *c, ll_val v, uint32_t byte) {
  return byte == 255 ? v : ll_and(c->s->k->e, v, tn_cuda_word(c, (int64_t)byte * 0x01010101));
}
ll_val tn_cuda_pick_bytes(tn_cuda_piece *c, ll_val low, ll_val high, ll_val selector) {
  ll_val args[] = {low, high, selector};
  return ll_call(c->s->k->e, "llvm.nvvm.prmt", NULL, 0, args, 3);
}

void tn_cuda_codes_read(tn_cuda_piece *c, uint32_t r) {
  tn_ll *e = c->s->k->e;
  ll_val words[TN_CUDA_PIECE_WORDS];
  uint32_t n = tn_cuda_piece_bytes(c->q);
  ll_val first = ll_iadd(e, ll_mul(e, c->p, tn_cuda_word(c, n)), tn_cuda_word(c, c->q->plane->at));
  read_words(c, r, first, c->q->plane->at, n / 4, words);
  for (uint32_t j = 0; j < n / 4; j++) c->codes[r][j][0] = words[j];
}

/* Bits of plane p of the four neighbours from value v (i32) on, one to a byte. */
static ll_val line_bits(tn_cuda_piece *c, uint32_t r, const tn_quant_plane *p, ll_val v) {
  tn_ll *e = c->s->k->e;
  ll_val run = tn_cuda_word(c, p->run), line = ll_udiv(e, v, tn_cuda_word(c, p->run * p->slots)), w;
  ll_val byte = ll_iadd(e, ll_iadd(e, ll_mul(e, line, run), ll_urem(e, v, run)), tn_cuda_word(c, p->at));
  ll_val slot = ll_urem(e, ll_udiv(e, v, run), tn_cuda_word(c, p->slots));
  read_words(c, r, byte, p->at, 1, &w);
  w = ll_lshr(e, w, ll_mul(e, slot, tn_cuda_word(c, p->bits)));
  return masked(c, w, (1u << p->bits) - 1);
}
/* `n` bits from value v on, of a plane of single bits in order. */
static ll_val some_bits(tn_cuda_piece *c, uint32_t r, const tn_quant_plane *p, ll_val v, uint32_t n) {
  tn_ll *e = c->s->k->e;
  ll_val w, byte = ll_shl(e, ll_lshr(e, v, tn_cuda_word(c, 5)), tn_cuda_word(c, 2));
  read_words(c, r, ll_iadd(e, byte, tn_cuda_word(c, p->at)), p->at, 1, &w);
  w = ll_lshr(e, w, ll_and(e, v, tn_cuda_word(c, 31)));
  return ll_and(e, w, tn_cuda_word(c, (1 << n) - 1));
}

/* Sixteen bits, four to every byte. */
static ll_val spread(tn_cuda_piece *c, ll_val v) {
  tn_ll *e = c->s->k->e;
  v = ll_and(e, ll_or(e, v, shifted(c, v, -8)), tn_cuda_word(c, 0x00ff00ff));
  return ll_and(e, ll_or(e, v, shifted(c, v, -4)), tn_cuda_word(c, 0x0f0f0f0f));
}

/* The bits of plane p go above the `up` bits that codes have. */
static void add_plane(tn_cuda_piece *c, uint32_t r, const tn_quant_plane *p, int32_t up) {
  tn_ll *e = c->s->k->e;
  const tn_quant_plane *f = c->q->plane;
  for (uint32_t j = 0; j < tn_cuda_piece_bytes(c->q) / 4; j++) {
    ll_val first = ll_iadd(e, c->start, tn_cuda_word(c, tn_cuda_piece_value(c->q, j, 0))), all = NULL;
    if (f->run == 1) all = spread(c, some_bits(c, r, p, first, 16));
    for (uint32_t s = 0; s < f->slots; s++) {
      ll_val v = ll_iadd(e, c->start, tn_cuda_word(c, tn_cuda_piece_value(c->q, j, s))), bits;
      if (all)
        bits = masked(c, shifted(c, all, (int32_t)s), 1);
      else if (p->run == 1) /* copies 0, 7, 14 and 21 bits up, which do not meet */
        bits = masked(c, ll_mul(e, some_bits(c, r, p, v, 4), tn_cuda_word(c, 0x00204081)), 1);
      else
        bits = line_bits(c, r, p, v);
      c->codes[r][j][s] = ll_or(e, c->codes[r][j][s], shifted(c, bits, -up));
    }
  }
}

/* ---- tables -------------------------------------------------------------------------------------------- */

static ll_val four_levels(tn_cuda_piece *c, uint32_t from) {
  uint32_t w = 0;
  for (uint32_t i = 0; i < 4 && from + i < 1u << c->q->plane->bits; i++)
    w |= (uint32_t)(MIDDLE + (int32_t)c->q->table[from + i]) << (8 * i);
  return tn_cuda_word(c, (int64_t)(int32_t)w);
}

/* Levels of the nibbles 4 half .. of a word, a byte each: the lower or the upper eight of the table by three
 * bits, and between them by the fourth. */
static ll_val nibble_levels(tn_cuda_piece *c, ll_val w, int32_t half) {
  tn_ll *e = c->s->k->e;
  ll_val which = shifted(c, ll_and(e, w, tn_cuda_word(c, 0x77777777)), 16 * half);
  ll_val upper =
      ll_or(e, ll_and(e, shifted(c, w, 1), tn_cuda_word(c, 0x44444444)), tn_cuda_word(c, 0x32103210));
  ll_val low = tn_cuda_pick_bytes(c, four_levels(c, 0), four_levels(c, 4), which);
  ll_val high = tn_cuda_pick_bytes(c, four_levels(c, 8), four_levels(c, 12), which);
  return tn_cuda_pick_bytes(c, low, high, shifted(c, upper, 16 * half));
}

/* Words of codes become words of levels. */
static void split_levels(tn_cuda_piece *c, uint32_t r, uint32_t j) {
  ll_val w = c->codes[r][j][0], step = tn_cuda_word(c, (int32_t)(c->q->table[1] - c->q->table[0]));
  if (two_levels(c->q)) {
    for (uint32_t s = 0; s < 8; s++)
      c->codes[r][j][s] = ll_mul(c->s->k->e, masked(c, shifted(c, w, (int32_t)s), 1), step);
    return;
  }
  ll_val first = nibble_levels(c, w, 0), second = nibble_levels(c, w, 1);
  c->codes[r][j][0] = tn_cuda_pick_bytes(c, first, second, tn_cuda_word(c, 0x6420));
  c->codes[r][j][1] = tn_cuda_pick_bytes(c, first, second, tn_cuda_word(c, 0x7531));
}

bool tn_cuda_codes_whole(const tn_quant *q) { return q->level != TN_QL_TABLE || whole_levels(q); }

ll_val tn_cuda_codes_look_up(tn_cuda_piece *c, ll_val codes) {
  tn_ll *e = c->s->k->e;
  if (two_levels(c->q)) return ll_mul(e, codes, tn_cuda_word(c, (int32_t)(c->q->table[1] - c->q->table[0])));
  ll_val pairs = ll_or(e, codes, shifted(c, codes, 4)); /* in bytes 0 and 2 */
  return nibble_levels(c, tn_cuda_pick_bytes(c, pairs, tn_cuda_word(c, 0), tn_cuda_word(c, 0x4420)), 0);
}

void tn_cuda_codes_begin(tn_cuda_stream *s) {
  tn_ll *e = s->k->e;
  ll_if few;
  char name[48];
  if (s->q->level != TN_QL_TABLE || whole_levels(s->q)) return;
  s->table = tn_cuda_shared(s->k, LEVELS * 4, 64);
  ll_val i = tn_cuda_thread(s->k);
  ll_if_begin(e, &few, ll_icmp(e, LLVMIntULT, i, LLVMConstInt(e->i32, LEVELS, 0)));
  snprintf(name, sizeof name, "levels.%s", s->q->name);
  ll_val v = tn_block_lookup(e, name, s->q->table, LEVELS * sizeof(float), e->f32, i);
  ll_store(e, v, LLVMBuildGEP2(e->b, e->f32, s->table, &i, 1, ""), 4);
  ll_if_end(e, &few);
}

/* ---- levels -------------------------------------------------------------------------------------------- */

/* 0x7f and 0xff are NaN: the row's sum becomes that through its scale. */
static void note_nan(tn_cuda_piece *c, uint32_t r, ll_val w) {
  tn_ll *e = c->s->k->e;
  ll_val one = ll_add(e, masked(c, w, 0x7f), tn_cuda_word(c, 0x01010101));
  ll_val bad = ll_and(e, one, tn_cuda_word(c, (int32_t)0x80808080));
  c->bad[r] = c->bad[r] ? ll_or(e, c->bad[r], bad) : bad;
}
/* An f8e4m3 number: its fields where those of an f32 are, and 2^120 for the other bias. */
static ll_val f8_float(tn_cuda_piece *c, ll_val w, uint32_t b) {
  tn_ll *e = c->s->k->e;
  ll_val top = tn_cuda_pick_bytes(c, w, tn_cuda_word(c, 0), tn_cuda_word(c, 0x0444 + (b << 12)));
  ll_val bits = ll_or(e, ll_and(e, top, tn_cuda_word(c, INT32_MIN)),
                      ll_and(e, ll_lshr(e, top, tn_cuda_word(c, 4)), tn_cuda_word(c, 0x07f00000)));
  return ll_fmul(e, ll_cast_bits(e, bits, e->f32), ll_real(e, e->f32, 0x1p120));
}

void tn_cuda_codes_split(tn_cuda_piece *c, uint32_t r) {
  const tn_quant *q = c->q;
  const tn_quant_plane *f = q->plane;
  for (uint32_t j = 0; j < tn_cuda_piece_bytes(q) / 4; j++) {
    ll_val w = c->codes[r][j][0];
    if (q->level == TN_QL_F8E4M3) note_nan(c, r, w);
    if (q->level == TN_QL_SIGNED) w = ll_xor(c->s->k->e, w, tn_cuda_word(c, (int32_t)0x80808080));
    if (q->level == TN_QL_TABLE && whole_levels(q)) {
      split_levels(c, r, j);
      continue;
    }
    for (uint32_t s = 0; s < f->slots; s++)
      c->codes[r][j][s] = masked(c, shifted(c, w, (int32_t)(s * f->bits)), (1u << f->bits) - 1);
  }
  uint32_t up = f->bits;
  for (uint32_t i = 1; i < TN_COUNT(q->plane) && q->plane[i].bits; up += q->plane[i++].bits)
    add_plane(c, r, &q->plane[i], (int32_t)up);
}

int32_t tn_cuda_codes_bias(const tn_quant *q) {
  if (q->level == TN_QL_TABLE && two_levels(q)) return -(int32_t)q->table[0];
  if (q->level == TN_QL_TABLE || q->level == TN_QL_SIGNED) return MIDDLE;
  return q->level == TN_QL_INT ? q->bias : 0;
}

ll_val tn_cuda_byte_float(tn_cuda_piece *c, ll_val word, uint32_t b, ll_val off) {
  tn_ll *e = c->s->k->e;
  ll_val bits = tn_cuda_pick_bytes(c, word, tn_cuda_word(c, 0x4b000000), tn_cuda_word(c, 0x7540 + b));
  return ll_fsub(e, ll_cast_bits(e, bits, e->f32), off);
}

static ll_val looked_up(tn_cuda_piece *c, ll_val codes, uint32_t b) {
  tn_ll *e = c->s->k->e;
  ll_val at = ll_and(e, shifted(c, codes, (int32_t)(8 * b)), tn_cuda_word(c, 15));
  return ll_load(e, e->f32, LLVMBuildGEP2(e->b, e->f32, c->s->table, &at, 1, ""), 4);
}

ll_val tn_cuda_codes_level(tn_cuda_piece *c, uint32_t r, uint32_t j, uint32_t s, uint32_t b,
                           const tn_cuda_run *g) {
  ll_val codes = c->codes[r][j][s];
  if (c->s->table) return looked_up(c, codes, b);
  if (c->q->level == TN_QL_F8E4M3) return f8_float(c, codes, b);
  return tn_cuda_byte_float(c, codes, b, g->off[r]);
}
