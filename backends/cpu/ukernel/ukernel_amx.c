/* ukernel_amx.c - see ukernel_amx.h. Tiles 0 to 3 are sums, row by row of tiles; 4 and 5 rows of A; 6 and 7
 * panels. Each tile that is read meets two others, so that loads and products keep even. */
#include "backends/cpu/ukernel/ukernel_amx.h"
#include "backends/llvm/convert.h"
#include <stdio.h>

#define TILE_A 4u
#define TILE_B 6u
#define INFINITE 0x7f800000             /* as bits of f32 */
#define LARGE 0x7f7f8000                /* from here on, finite numbers round to an infinite bf16 */
#define COLUMN_BYTES (TN_CPU_PANEL * 4) /* of a row of sums, one panel */

/* ---- instructions ---- */
static ll_val tile(tn_ll *e, uint32_t number) { return LLVMConstInt(e->i8, number, 0); }
static void load(tn_ll *e, uint32_t number, ll_val from, ll_val stride) {
  ll_call(e, "llvm.x86.tileloadd64", NULL, 0, (ll_val[]){tile(e, number), from, stride}, 3);
}

void tn_cpu_amx_begin(tn_cpu_kernel *k) {
  tn_ll *e = k->e;
  uint8_t config[64] = {1}; /* palette, 15 bytes; then u16 bytes of a row, and from 48 on u8 rows */
  for (uint32_t i = 0; i < 8; i++) {
    config[16 + 2 * i] = TN_CPU_AMX_LINE;
    config[48 + i] = TN_CPU_AMX_TILE;
  }
  ll_val at = ll_global(e, "tiles", config, sizeof config);
  ll_call(e, "llvm.x86.ldtilecfg", NULL, 0, &at, 1);
}
void tn_cpu_amx_end(tn_cpu_kernel *k) { ll_call(k->e, "llvm.x86.tilerelease", NULL, 0, NULL, 0); }

ll_val tn_cpu_amx_row(tn_cpu_kernel *k, ll_val depth, uint32_t bytes) {
  tn_ll *e = k->e;
  ll_val n = ll_iadd(e, ll_imul(e, depth, ll_k(e, bytes)), ll_k(e, TN_CPU_AMX_LINE - 1));
  return ll_and(e, n, ll_k(e, -(int64_t)TN_CPU_AMX_LINE));
}

/* ---- sums ---- */
void tn_cpu_amx_zero(tn_cpu_kernel *k, uint32_t tiles) {
  for (uint32_t i = 0; i < tiles * TN_CPU_AMX_PANELS; i++) {
    ll_val t = tile(k->e, i);
    ll_call(k->e, "llvm.x86.tilezero", NULL, 0, &t, 1);
  }
}

/* Where tile i of the sums is in memory. */
static ll_val sums_at(tn_ll *e, uint32_t i, ll_val c, ll_val c_stride) {
  ll_val row = ll_imul(e, c_stride, ll_k(e, (int64_t)(i / TN_CPU_AMX_PANELS) * TN_CPU_AMX_TILE));
  return ll_at(e, c, ll_iadd(e, row, ll_k(e, (int64_t)(i % TN_CPU_AMX_PANELS) * COLUMN_BYTES)));
}
void tn_cpu_amx_load(tn_cpu_kernel *k, uint32_t tiles, ll_val c, ll_val c_stride) {
  for (uint32_t i = 0; i < tiles * TN_CPU_AMX_PANELS; i++)
    load(k->e, i, sums_at(k->e, i, c, c_stride), c_stride);
}
void tn_cpu_amx_store(tn_cpu_kernel *k, uint32_t tiles, ll_val c, ll_val c_stride) {
  tn_ll *e = k->e;
  for (uint32_t i = 0; i < tiles * TN_CPU_AMX_PANELS; i++) {
    ll_val args[] = {tile(e, i), sums_at(e, i, c, c_stride), c_stride};
    ll_call(e, "llvm.x86.tilestored64", NULL, 0, args, 3);
  }
}

static void load_panels(tn_ll *e, const ll_val *panel) {
  for (uint32_t j = 0; j < TN_CPU_AMX_PANELS; j++) load(e, TILE_B + j, panel[j], ll_k(e, TN_CPU_AMX_LINE));
}
/* One step of all sums; a is where it begins, the panels' part is loaded. */
static void multiply_rows(tn_ll *e, const tn_cpu_amx_sums *s, ll_val a) {
  for (uint32_t i = 0; i < s->tiles; i++) {
    load(e, TILE_A + i, ll_at(e, a, ll_imul(e, s->a_stride, ll_k(e, i * TN_CPU_AMX_TILE))), s->a_stride);
    for (uint32_t j = 0; j < TN_CPU_AMX_PANELS; j++) {
      ll_val args[] = {tile(e, i * TN_CPU_AMX_PANELS + j), tile(e, TILE_A + i), tile(e, TILE_B + j)};
      ll_call(e, s->product, NULL, 0, args, 3);
    }
  }
}
static void multiply(tn_ll *e, const tn_cpu_amx_sums *s, ll_val a, const ll_val *panel) {
  load_panels(e, panel);
  multiply_rows(e, s, a);
}
void tn_cpu_amx_step(tn_cpu_kernel *k, const tn_cpu_amx_sums *s, ll_val step) {
  tn_ll *e = k->e;
  ll_val panel[TN_CPU_AMX_PANELS];
  for (uint32_t j = 0; j < TN_CPU_AMX_PANELS; j++)
    panel[j] = ll_at(e, s->panel[j], ll_mul(e, step, ll_k(e, TN_CPU_AMX_STEP)));
  multiply(e, s, ll_at(e, s->a, ll_mul(e, step, ll_k(e, TN_CPU_AMX_LINE))), panel);
}

/* ---- bf16 ---- */
/* The last `lines` lines of a panel (fewer than a step), then zeros. */
static void copy_tail(tn_ll *e, ll_val from, ll_val lines, ll_val to) {
  ll_type line = LLVMVectorType(e->i32, TN_CPU_AMX_LINE / 4);
  for (uint32_t i = 0; i < TN_CPU_AMX_TILE; i++) {
    ll_val at = ll_k(e, (int64_t)i * TN_CPU_AMX_LINE), inside = ll_icmp(e, LLVMIntSGT, lines, ll_k(e, i));
    LLVMTypeRef bits = LLVMVectorType(e->i1, TN_CPU_AMX_LINE / 4);
    ll_val all = ll_select(e, inside, LLVMConstAllOnes(bits), ll_zero(bits));
    ll_store(e, ll_load_masked(e, line, ll_at(e, from, at), all, 4), ll_at(e, to, at), TN_CPU_AMX_LINE);
  }
}

/* The part of what follows that a step brings in: lines at ahead + step * bytes, of each panel. */
static void fetch(tn_ll *e, const ll_val *ahead, ll_val step, ll_val bytes) {
  ll_val first = ll_mul(e, step, bytes);
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), bytes, ll_k(e, TN_CPU_AMX_LINE), NULL, 0);
  for (uint32_t j = 0; j < TN_CPU_AMX_PANELS; j++)
    ll_prefetch(e, ll_at(e, ahead[j], ll_add(e, first, l.iv)), 2);
  ll_loop_end(e, &l, NULL);
}

static void write_steps(tn_cpu_kernel *k, const ll_val *p, const tn_cpu_amx_sums *s, bool ahead) {
  tn_ll *e = k->e;
  ll_loop l;
  ll_if tail;
  ll_val next[TN_CPU_AMX_PANELS], steps = ll_lshr(e, p[TN_UKR_DEPTH], ll_k(e, 5));
  ll_val from = LLVMBuildPtrDiff2(e->b, e->i8, p[TN_UKR_AHEAD], p[TN_UKR_B], "");
  ll_val bytes = ll_mul(e, p[TN_UKR_AHEAD_STEP], ll_k(e, TN_CPU_AMX_TILE));
  for (uint32_t j = 0; j < TN_CPU_AMX_PANELS; j++) next[j] = ll_at(e, s->panel[j], from);
  ll_loop_begin(e, &l, ll_k(e, 0), steps, ll_k(e, 1), NULL, 0);
  tn_cpu_amx_step(k, s, l.iv);
  if (ahead) fetch(e, next, l.iv, bytes);
  ll_loop_end(e, &l, NULL);
  ll_val lines = ll_lshr(e, ll_and(e, p[TN_UKR_DEPTH], ll_k(e, 31)), ll_k(e, 1));
  ll_val room = ll_alloca(e, TN_CPU_AMX_PANELS * TN_CPU_AMX_STEP), panel[TN_CPU_AMX_PANELS];
  ll_if_begin(e, &tail, ll_icmp(e, LLVMIntNE, lines, ll_k(e, 0)));
  for (uint32_t j = 0; j < TN_CPU_AMX_PANELS; j++) {
    panel[j] = ll_at(e, room, ll_k(e, (int64_t)j * TN_CPU_AMX_STEP));
    copy_tail(e, ll_at(e, s->panel[j], ll_mul(e, steps, ll_k(e, TN_CPU_AMX_STEP))), lines, panel[j]);
  }
  multiply(e, s, ll_at(e, s->a, ll_mul(e, steps, ll_k(e, TN_CPU_AMX_LINE))), panel);
  ll_if_else(e, &tail);
  ll_if_end(e, &tail);
}

/* ---- sums of bf16 ---- */
void tn_cpu_amx_split(tn_ll *e, ll_val v, uint32_t n, ll_val *parts) {
  ll_type words = ll_vec(e, e->i32);
  for (uint32_t i = 0; i < n; i++) {
    parts[i] = tn_ll_round_bf16(e, v);
    if (i + 1 == n) break;
    ll_val bits = ll_cast_bits(e, v, words), size = ll_and(e, bits, ll_i(e, bits, INT32_MAX));
    ll_val finite = ll_icmp(e, LLVMIntSLT, size, ll_i(e, size, INFINITE));
    if (!i) { /* the largest numbers are cut off: rounded they would be infinite */
      ll_val large = ll_and(e, finite, ll_icmp(e, LLVMIntSGE, size, ll_i(e, size, LARGE)));
      ll_val cut = LLVMBuildTrunc(e->b, ll_lshr(e, bits, ll_i(e, bits, 16)), ll_vec(e, e->i16), "");
      parts[i] = ll_select(e, large, cut, parts[i]);
    }
    ll_val taken = ll_shl(e, LLVMBuildZExt(e->b, parts[i], words, ""), ll_i(e, bits, 16));
    ll_val rest = ll_fsub(e, v, ll_cast_bits(e, taken, LLVMTypeOf(v)));
    v = ll_select(e, finite, rest, ll_zero(LLVMTypeOf(v)));
  }
}

/* A step: each part of the panels, the smallest first, with the parts of the rows that it counts with. */
static void step_of_parts(tn_cpu_kernel *k, const ll_val *p, const tn_cpu_amx_sums *s, tn_cpu_amx_parts parts,
                          ll_val step) {
  tn_ll *e = k->e;
  ll_val off = ll_mul(e, step, ll_k(e, TN_CPU_AMX_STEP));
  ll_val a = ll_at(e, s->a, ll_mul(e, step, ll_k(e, TN_CPU_AMX_LINE)));
  ll_val row_part = ll_udiv(e, p[TN_UKR_A_STRIDE], ll_k(e, parts.lhs));
  ll_val panel_part = ll_udiv(e, p[TN_UKR_PANEL_STRIDE], ll_k(e, parts.rhs)), panel[TN_CPU_AMX_PANELS];
  for (uint32_t j = parts.rhs; j-- > 0;) {
    for (uint32_t v = 0; v < TN_CPU_AMX_PANELS; v++)
      panel[v] = ll_at(e, s->panel[v], ll_iadd(e, off, ll_imul(e, panel_part, ll_k(e, j))));
    load_panels(e, panel);
    for (uint32_t i = parts.lhs; i-- > 0;)
      if (i + j < TN_CPU_AMX_PARTS) multiply_rows(e, s, ll_at(e, a, ll_imul(e, row_part, ll_k(e, i))));
  }
}

static void write_parts(tn_cpu_kernel *k, const ll_val *p, const tn_cpu_amx_sums *s, tn_cpu_amx_parts parts) {
  tn_ll *e = k->e;
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), ll_lshr(e, p[TN_UKR_DEPTH], ll_k(e, 5)), ll_k(e, 1), NULL, 0);
  step_of_parts(k, p, s, parts, l.iv);
  ll_loop_end(e, &l, NULL);
}

/* ---- functions ---- */
/* Parts are told by flags too; none: a product of bf16 as it is. */
static uint32_t flags_of(tn_cpu_amx_parts p) { return TN_UKR_TILES | p.lhs << 8 | p.rhs << 12; }
static tn_cpu_amx_parts parts_of(uint32_t flags) {
  return (tn_cpu_amx_parts){flags >> 8 & 15, flags >> 12 & 15};
}

static ll_val write_ukr(tn_cpu_kernel *k, tn_dtype dt, uint32_t rows, uint32_t panels, uint32_t flags) {
  tn_ll *e = k->e;
  char name[64];
  (void)dt;
  tn_cpu_amx_parts parts = parts_of(flags);
  snprintf(name, sizeof name, "amx%u%u%s_%ux%u", parts.lhs, parts.rhs, flags & TN_UKR_FETCH ? "_fetch" : "",
           rows, panels);
  ll_type types[TN_UKR_ARGS] = {e->i64, e->ptr, e->i64, e->ptr, e->i64, e->i64,
                                e->ptr, e->i64, e->ptr, e->i64, e->i1,  e->i64};
  ll_val fn = ll_func(e, name, e->tvoid, types, TN_UKR_ARGS, false, true), p[TN_UKR_ARGS];
  LLVMGetParams(fn, p);
  tn_cpu_amx_sums s = {"llvm.x86.tdpbf16ps", rows / TN_CPU_AMX_TILE, p[TN_UKR_A], p[TN_UKR_A_STRIDE], {0}};
  tn_cpu_ukr_panels(e, p, panels, s.panel);
  ll_if more;
  ll_if_begin(e, &more, p[TN_UKR_MORE]);
  tn_cpu_amx_load(k, s.tiles, p[TN_UKR_C], p[TN_UKR_C_STRIDE]);
  ll_if_else(e, &more);
  tn_cpu_amx_zero(k, s.tiles);
  ll_if_end(e, &more);
  if (parts.lhs)
    write_parts(k, p, &s, parts);
  else
    write_steps(k, p, &s, flags & TN_UKR_FETCH);
  tn_cpu_amx_store(k, s.tiles, p[TN_UKR_C], p[TN_UKR_C_STRIDE]);
  LLVMBuildRetVoid(e->b);
  return fn;
}

/* The function for that many tiles of rows, as tn_cpu_tile_switch asks for it. */
static ll_val ukr_for(tn_cpu_kernel *k, const void *flags, uint32_t tiles) {
  return tn_cpu_ukr_of(k, TN_DT_bf16, tiles * TN_CPU_AMX_TILE, TN_CPU_AMX_PANELS, *(const uint32_t *)flags,
                       write_ukr);
}
static void call(tn_cpu_kernel *k, uint32_t flags, ll_val rows, const tn_cpu_tile *t) {
  ll_val tiles = ll_ceildiv(k->e, rows, ll_k(k->e, TN_CPU_AMX_TILE));
  tn_cpu_tile_switch(k, tiles, TN_CPU_AMX_ROWS / TN_CPU_AMX_TILE, t, ukr_for, &flags);
}

void tn_cpu_amx_call(tn_cpu_kernel *k, ll_val rows, const tn_cpu_tile *t) {
  call(k, TN_UKR_TILES | (t->ahead ? TN_UKR_FETCH : 0), rows, t);
}
void tn_cpu_amx_parts_call(tn_cpu_kernel *k, tn_cpu_amx_parts parts, ll_val rows, const tn_cpu_tile *t) {
  call(k, flags_of(parts), rows, t);
}
