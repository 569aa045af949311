/* level_block.c - codes of 16 rows as floats, from the row of ir/quant/quant.def. A lane holds the four bytes
 * of codes of one row. A code is not moved to the bottom of its lane but masked and converted where it
 * stands, in byte b: its level times 2^(8 b), which is exact; what it is multiplied by is scaled down
 * instead. */
#include "backends/cpu/ukernel/ukernel_block.h"
#include "backends/llvm/convert.h"

const tn_quant_plane *tn_cpu_planes_end(const tn_quant *q) {
  const tn_quant_plane *p = q->plane;
  while (p < q->plane + TN_COUNT(q->plane) && p->bits) p++;
  return p;
}
static uint32_t code_bits(const tn_quant *q) {
  uint32_t n = 0;
  for (const tn_quant_plane *p = q->plane; p < tn_cpu_planes_end(q); p++) n += p->bits;
  return n;
}
bool tn_cpu_byte_words(const tn_quant *q) {
  uint32_t start;
  return q->plane[0].bits == 8 && tn_block_field(q, q->plane[0].at, &start) == 4;
}
/* Are codes small integers that are converted in place? */
static bool in_place(const tn_quant *q) { return q->level == TN_QL_INT && code_bits(q) < 8; }

/* ---- places ---- */
static bool runs_wide(const tn_quant_plane *p) { return p->run % TN_CPU_STEP == 0; }
static bool runs_narrow(const tn_quant_plane *p) { return TN_CPU_STEP % (p->run * p->slots) == 0; }

bool tn_cpu_block_loops(const tn_quant *q) {
  if (q->level == TN_QL_TRITS) return false;
  for (const tn_quant_plane *p = q->plane; p < tn_cpu_planes_end(q); p++)
    if (!runs_wide(p) && !runs_narrow(p)) return false;
  return true;
}

tn_cpu_spot tn_cpu_spot_of(const tn_cpu_blocks *b, const tn_quant_plane *p, uint32_t t) {
  tn_ll *e = b->e;
  tn_cpu_spot s = {0};
  int64_t step = 0;
  bool known = ll_const(b->step, &step);
  if (known || runs_narrow(p)) {
    uint32_t i = (uint32_t)step * TN_CPU_STEP + t, slot = i / p->run;
    s.byte_k = slot / p->slots * p->run + i % p->run;
    s.slot_k = slot % p->slots;
    if (!known) s.byte = ll_imul(e, b->step, ll_k(e, TN_CPU_STEP / p->slots));
    return s;
  }
  ll_val i = ll_mul(e, b->step, ll_k(e, TN_CPU_STEP)), slot = ll_udiv(e, i, ll_k(e, p->run));
  ll_val group = ll_imul(e, ll_udiv(e, slot, ll_k(e, p->slots)), ll_k(e, p->run));
  s.byte = ll_add(e, group, ll_urem(e, i, ll_k(e, p->run)));
  s.slot = ll_urem(e, slot, ll_k(e, p->slots));
  s.byte_k = t;
  return s;
}

/* Byte position of value t within its lane, the same in every step. */
static uint32_t lane_byte(const tn_quant_plane *p, uint32_t t) {
  return (t / p->run / p->slots * p->run + t % p->run) % 4;
}
uint32_t tn_cpu_level_shift(const tn_quant *q, uint32_t t) {
  return in_place(q) ? 8 * lane_byte(q->plane, t) : 0;
}
uint32_t tn_cpu_level_bias(const tn_quant *q) {
  return q->level == TN_QL_INT || q->level == TN_QL_TRITS ? q->bias : 0;
}

void tn_cpu_level_order(const tn_quant *q, uint32_t first, uint32_t count, uint32_t *order) {
  const tn_quant_plane *p = q->plane;
  uint32_t key[TN_CPU_STEP];
  for (uint32_t i = 0; i < count; i++) {
    uint32_t t = first + i, slot = p->bits ? t / p->run : 0;
    uint32_t byte = p->bits ? slot / p->slots * p->run + t % p->run : t;
    uint32_t k = p->bits && p->bits < 8 ? (byte / 4 << 8) + (slot % p->slots << 4) + byte % 4 : t, at = i;
    for (; at && key[at - 1] > k; at--) key[at] = key[at - 1], order[at] = order[at - 1];
    key[at] = k;
    order[at] = t;
  }
}

/* ---- bytes ---- */
static ll_val lanes_get(void *ctx, uint32_t size, uint32_t near, ll_val at) {
  tn_cpu_lanes *l = ctx;
  tn_ll *e = l->b->e;
  (void)near;
  ll_type t = size == 1 ? e->i8 : size == 2 ? e->i16 : e->i32;
  ll_val off = ll_imul(e, LLVMBuildZExt(e->b, at, e->i64, ""), ll_k(e, TN_BLOCK_ROWS));
  off = ll_iadd(e, off, ll_k(e, (int64_t)l->vec * e->lanes * size));
  return ll_load(e, ll_vec(e, t), ll_at(e, l->b->group[l->panel], off), 1);
}
tn_block_reader tn_cpu_lanes_reader(tn_cpu_lanes *l) {
  return (tn_block_reader){.e = l->b->e, .q = l->b->q, .vec = true, .get = lanes_get, .ctx = l};
}

ll_val tn_cpu_spot_load(tn_cpu_lanes *l, const tn_quant_plane *p, tn_cpu_spot s, uint32_t size) {
  tn_ll *e = l->b->e;
  uint32_t byte = p->at + s.byte_k / size * size;
  ll_val off = ll_k(e, (int64_t)byte * TN_BLOCK_ROWS + (int64_t)l->vec * e->lanes * size);
  if (s.byte) off = ll_add(e, ll_imul(e, s.byte, ll_k(e, TN_BLOCK_ROWS)), off);
  ll_type t = size == 1 ? e->i8 : e->i32;
  return ll_load(e, ll_vec(e, t), ll_at(e, l->b->group[l->panel], off), 1);
}

/* ---- codes ---- */
static ll_val shift_k(tn_ll *e, ll_val v, int64_t down) {
  if (!down) return v;
  return down > 0 ? ll_lshr(e, v, ll_i(e, v, down)) : ll_shl(e, v, ll_i(e, v, -down));
}
/* The bits of plane p, of every byte that has the same slot, at bit `to` of byte `byte`. */
static ll_val plane_bits(tn_cpu_lanes *l, const tn_quant_plane *p, uint32_t t, uint32_t byte, uint32_t to) {
  tn_ll *e = l->b->e;
  tn_cpu_spot s = tn_cpu_spot_of(l->b, p, t);
  ll_val w = tn_cpu_spot_load(l, p, s, 4);
  if (s.slot) {
    ll_val by = LLVMBuildTrunc(e->b, ll_imul(e, s.slot, ll_k(e, p->bits)), e->i32, "");
    w = ll_lshr(e, w, ll_splat(e, by));
  }
  int64_t from = 8 * (s.byte_k % 4) + s.slot_k * p->bits, want = 8 * (int64_t)byte + to;
  return shift_k(e, w, from - want);
}

static ll_val int_level(tn_cpu_lanes *l, uint32_t t) {
  tn_ll *e = l->b->e;
  const tn_quant *q = l->b->q;
  uint32_t byte = lane_byte(q->plane, t), bits = 0;
  ll_val codes = NULL;
  for (const tn_quant_plane *p = q->plane; p < tn_cpu_planes_end(q); p++) {
    ll_val w = plane_bits(l, p, t, byte, bits);
    if (tn_cpu_planes_end(q) - q->plane > 1)
      w = ll_and(e, w, ll_i(e, w, (int64_t)(((1u << p->bits) - 1) << bits) * 0x01010101));
    codes = codes ? ll_or(e, codes, w) : w;
    bits += p->bits;
  }
  codes = ll_and(e, codes, ll_i(e, codes, (int64_t)((1u << bits) - 1) << 8 * byte));
  return LLVMBuildSIToFP(e->b, codes, ll_vec(e, e->f32), "");
}

/* table[index & 15], or & 3 where the table repeats every 4 entries; the other bits of index do not matter.
 */
static ll_val permute(tn_ll *e, const float *table, uint32_t entries, ll_val index) {
  ll_val items[2][16], args[2];
  for (uint32_t i = 0; i < 16; i++) items[i / e->lanes][i % e->lanes] = LLVMConstReal(e->f32, table[i]);
  ll_val low = LLVMConstVector(items[0], e->lanes);
  args[0] = low, args[1] = index;
  if (e->lanes == 16) return ll_call(e, "llvm.x86.avx512.permvar.sf.512", NULL, 0, args, 2);
  ll_val r = ll_call(e, "llvm.x86.avx2.permps", NULL, 0, args, 2);
  if (entries <= e->lanes) return r;
  args[0] = LLVMConstVector(items[1], e->lanes);
  ll_val bit3 = ll_shl(e, index, ll_i(e, index, 28)),
         high = ll_call(e, "llvm.x86.avx2.permps", NULL, 0, args, 2);
  return ll_select(e, ll_icmp(e, LLVMIntSLT, bit3, ll_i(e, index, 0)), high, r);
}

static ll_val table_level(tn_cpu_lanes *l, uint32_t t) {
  tn_ll *e = l->b->e;
  const tn_quant *q = l->b->q;
  ll_val code = plane_bits(l, q->plane, t, 0, 0);
  if (q->plane->bits < 4) code = ll_and(e, code, ll_i(e, code, (1 << q->plane->bits) - 1));
  return permute(e, q->table, 16, code);
}

static ll_val byte_level(tn_cpu_lanes *l, uint32_t t) {
  tn_ll *e = l->b->e;
  const tn_quant *q = l->b->q;
  ll_type t32 = ll_vec(e, e->i32);
  tn_cpu_spot s = tn_cpu_spot_of(l->b, q->plane, t);
  bool words = tn_cpu_byte_words(q);
  ll_val v = tn_cpu_spot_load(l, q->plane, s, words ? 4 : 1);
  if (words) v = LLVMBuildTrunc(e->b, shift_k(e, v, s.byte_k % 4 * 8), ll_vec(e, e->i8), "");
  if (q->level == TN_QL_F8E4M3) return tn_ll_to_compute(e, TN_DT_f8e4m3, v);
  v = q->level == TN_QL_SIGNED ? LLVMBuildSExt(e->b, v, t32, "") : LLVMBuildZExt(e->b, v, t32, "");
  return LLVMBuildSIToFP(e->b, v, ll_vec(e, e->f32), "");
}

static ll_val trit_level(tn_cpu_lanes *l, uint32_t t) {
  tn_ll *e = l->b->e;
  static const uint32_t powers[] = {1, 3, 9, 27, 81};
  const tn_quant_plane *p = l->b->q->plane;
  int64_t step = 0;
  ll_const(l->b->step, &step);
  uint32_t i = (uint32_t)step * TN_CPU_STEP + t;
  for (; i >= (uint32_t)p->run * p->slots; p++) i -= (uint32_t)p->run * p->slots;
  ll_val v = tn_cpu_spot_load(l, p, (tn_cpu_spot){.byte_k = i % p->run}, 1);
  v = LLVMBuildZExt(e->b, v, ll_vec(e, e->i32), "");
  v = ll_and(e, ll_mul(e, v, ll_i(e, v, powers[i / p->run])), ll_i(e, v, 255));
  v = ll_lshr(e, ll_mul(e, v, ll_i(e, v, 3)), ll_i(e, v, 8));
  return LLVMBuildSIToFP(e->b, v, ll_vec(e, e->f32), "");
}

/* ---- codebooks ---- */
void tn_cpu_level_forget(tn_cpu_blocks *b) { b->row_of = b->signs_of = b->delta_of = UINT32_MAX; }

ll_val tn_cpu_block_position(tn_cpu_blocks *b, uint32_t t, uint32_t per) {
  tn_ll *e = b->e;
  ll_val i = ll_iadd(e, ll_imul(e, b->step, ll_k(e, TN_CPU_STEP)), ll_k(e, t));
  return LLVMBuildTrunc(e->b, ll_udiv(e, i, ll_k(e, per)), e->i32, "");
}
void tn_cpu_grid_read(tn_cpu_blocks *b, uint32_t t) {
  const tn_quant_grid *g = b->q->grid;
  bool row = b->row_of != t / g->width, signs = b->signs_of != t / 8;
  uint32_t run = g->delta_run ? g->delta_run : 8;
  bool delta = b->delta_of != t / run;
  for (uint32_t i = 0; i < b->panels * b->per; i++) {
    tn_cpu_lanes l = {b, i / b->per, i % b->per};
    tn_block_reader r = tn_cpu_lanes_reader(&l);
    if (row) b->row[i] = tn_block_grid_row(&r, tn_cpu_block_position(b, t, g->width));
    if (signs) b->signs[i] = tn_block_grid_signs(&r, tn_cpu_block_position(b, t, 8));
    if (delta) b->delta[i] = tn_block_grid_delta(&r, tn_cpu_block_position(b, t, 1));
  }
  b->row_of = t / g->width;
  b->signs_of = t / 8;
  b->delta_of = t / run;
}
static ll_val grid_level(tn_cpu_lanes *l, uint32_t t) {
  tn_cpu_blocks *b = l->b;
  tn_ll *e = b->e;
  const tn_quant_grid *g = b->q->grid;
  uint32_t bits = 16u / g->width, at = l->panel * b->per + l->vec;
  float levels[16];
  for (uint32_t i = 0; i < 16; i++) levels[i] = g->levels[i % tn_block_grid_levels(g)];
  tn_cpu_grid_read(b, t);
  ll_val x = permute(e, levels, tn_block_grid_levels(g), shift_k(e, b->row[at], t % g->width * bits));
  if (b->delta[at]) x = ll_fadd(e, x, b->delta[at]);
  if (!b->signs[at]) return x;
  ll_val sign = shift_k(e, b->signs[at], (int64_t)(t % 8) - 31);
  sign = ll_and(e, sign, ll_i(e, sign, INT32_MIN));
  return ll_cast_bits(e, ll_xor(e, ll_cast_bits(e, x, LLVMTypeOf(sign)), sign), LLVMTypeOf(x));
}

ll_val tn_cpu_level(tn_cpu_lanes *l, uint32_t t) {
  const tn_quant *q = l->b->q;
  if (q->level == TN_QL_GRID) return grid_level(l, t);
  if (q->level == TN_QL_TRITS) return trit_level(l, t);
  if (q->level == TN_QL_TABLE) return table_level(l, t);
  return in_place(q) ? int_level(l, t) : byte_level(l, t);
}
