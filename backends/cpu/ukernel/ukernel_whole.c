/* ukernel_whole.c - see ukernel_whole.h: rows, panels, micro-kernels. */
#include "backends/cpu/ukernel/ukernel_whole.h"
#include "backends/cpu/ukernel/codes_block.h"
#include <stdio.h>

#define SIGNED 128 /* what makes bytes signed */
#define STEP 32    /* depths are multiples of it */
#define CHUNK 1024 /* of k at a time where nothing asks for less */

bool tn_cpu_whole_format(const tn_quant *q) {
  bool codes = q->level == TN_QL_SIGNED || (q->level == TN_QL_INT && !q->bias);
  return codes && q->plane[0].bits == 8 && !q->plane[1].bits && q->d == TN_QN_ONE && !q->inner &&
         !q->m_sign && q->values % STEP == 0;
}
tn_cpu_whole tn_cpu_whole_of(const tn_cpu_isa *isa, const tn_quant *q) {
  tn_cpu_whole w = {.q = q, .bytes = isa->vnni && q, .chunk = CHUNK};
  w.zeros = w.bytes && q->level == TN_QL_INT;
  if (q && q->zero_bits) w.chunk = q->values;
  /* 6 * 4 sums, 4 lines of panels and a row's values: 29 and more of 32 registers; 5 * 2 and 4 of 16 */
  w.rows = isa->lanes == 16 ? 6 : 5;
  w.panels = isa->lanes == 16 ? 4 : 1;
  w.tiles = isa->amx && w.bytes;
  if (w.tiles) {
    w.rows = TN_CPU_AMX_ROWS;
    w.panels = TN_CPU_AMX_PANELS;
  }
  return w;
}

/* ---- rows ---- */
tn_cpu_whole_rows tn_cpu_whole_rows_of(tn_cpu_kernel *k, const tn_cpu_whole *w, ll_val depth) {
  tn_ll *e = k->e;
  tn_cpu_whole_rows r = {.least = w->bytes ? depth : ll_imul(e, depth, ll_k(e, 2))};
  r.sums = ll_iadd(e, r.least, ll_k(e, 4));
  ll_val chunks = ll_iadd(e, ll_udiv(e, depth, ll_k(e, STEP)), ll_k(e, 1));
  ll_val end = ll_iadd(e, ll_iadd(e, r.sums, ll_imul(e, chunks, ll_k(e, 4))), ll_k(e, 63));
  r.bytes = ll_iadd(e, ll_and(e, end, ll_k(e, -128)), ll_k(e, 64)); /* an odd number of lines */
  return r;
}
tn_dim tn_cpu_whole_row_dim(tn_cpu_kernel *k, tn_dim depth) {
  return tn_cpu_dim_add(k, tn_cpu_dim_mul(k, depth, tn_cpu_dim_k(k, 3)), tn_cpu_dim_k(k, 256));
}

static ll_val whole_at(tn_cpu_kernel *k, tn_cpu_row_fn get, void *ctx, ll_val at) {
  tn_ll *e = k->e;
  return LLVMBuildFPToSI(e->b, get(k, ctx, tn_ll_ix_lanes(at, true)), ll_vec(e, e->i32), "");
}

/* The smallest and the largest value of a row. */
static void range_of_row(tn_cpu_kernel *k, ll_val depth, tn_cpu_row_fn get, void *ctx, ll_val *least,
                         ll_val *most) {
  tn_ll *e = k->e;
  ll_type t = ll_vec(e, e->i32);
  ll_val init[] = {ll_int(e, t, INT16_MAX), ll_int(e, t, INT16_MIN)};
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), depth, ll_k(e, e->lanes), init, 2);
  tn_ll_body_forget(&k->body);
  ll_val v = whole_at(k, get, ctx, l.iv);
  ll_val next[] = {ll_imin(e, l.phi[0], v), ll_imax(e, l.phi[1], v)};
  ll_loop_end(e, &l, next);
  tn_ll_body_forget(&k->body);
  *least = ll_reduce_with(e, l.out[0], ll_imin);
  *most = ll_reduce_with(e, l.out[1], ll_imax);
}

static void put_words(tn_cpu_kernel *k, ll_val depth, ll_val to, tn_cpu_row_fn get, void *ctx) {
  tn_ll *e = k->e;
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), depth, ll_k(e, e->lanes), NULL, 0);
  tn_ll_body_forget(&k->body);
  ll_val v = LLVMBuildTrunc(e->b, whole_at(k, get, ctx, l.iv), ll_vec(e, e->i16), "");
  ll_store(e, v, ll_at(e, to, ll_mul(e, l.iv, ll_k(e, 2))), 2);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&k->body);
}

ll_val tn_cpu_whole_row(tn_cpu_kernel *k, const tn_cpu_whole *w, const tn_cpu_whole_rows *r, ll_val depth,
                        ll_val to, ll_val high, tn_cpu_row_fn get, void *ctx) {
  tn_ll *e = k->e;
  ll_val least, most, zero = ll_zero(ll_vec(e, e->i32)), none = LLVMConstInt(e->i32, 0, 0);
  if (!w->bytes) {
    put_words(k, depth, to, get, ctx);
    return NULL;
  }
  range_of_row(k, depth, get, ctx, &least, &most);
  ll_store(e, least, ll_at(e, to, r->least), 4);
  ll_store(e, none, ll_at(e, high, r->least), 4);
  ll_loop chunks, l;
  ll_loop_begin(e, &chunks, ll_k(e, 0), depth, ll_k(e, w->chunk), NULL, 0);
  ll_val end = ll_imin(e, ll_iadd(e, chunks.iv, ll_k(e, w->chunk)), depth);
  ll_loop_begin(e, &l, chunks.iv, end, ll_k(e, e->lanes), &zero, 1);
  tn_ll_body_forget(&k->body);
  ll_val v = whole_at(k, get, ctx, l.iv), up = ll_sub(e, v, ll_splat(e, least)), sum = ll_add(e, l.phi[0], v);
  ll_type bytes = ll_vec(e, e->i8);
  ll_store(e, LLVMBuildTrunc(e->b, up, bytes, ""), ll_at(e, to, l.iv), 1);
  ll_store(e, LLVMBuildTrunc(e->b, ll_lshr(e, up, ll_i(e, up, 8)), bytes, ""), ll_at(e, high, l.iv), 1);
  ll_loop_end(e, &l, &sum);
  ll_val slot = ll_iadd(e, r->sums, ll_mul(e, ll_udiv(e, chunks.iv, ll_k(e, w->chunk)), ll_k(e, 4)));
  ll_store(e, ll_reduce_with(e, l.out[0], ll_add), ll_at(e, to, slot), 4);
  ll_store(e, none, ll_at(e, high, slot), 4);
  ll_loop_end(e, &chunks, NULL);
  tn_ll_body_forget(&k->body);
  return ll_icmp(e, LLVMIntSGT, ll_sub(e, most, least), ll_i(e, most, UINT8_MAX));
}

/* ---- panels ---- */
static ll_val codes_bytes(tn_cpu_kernel *k, const tn_cpu_whole *w, ll_val depth) {
  tn_ll *e = k->e;
  if (w->tiles) depth = tn_cpu_amx_row(k, depth, 1);
  return ll_imul(e, depth, ll_k(e, TN_CPU_PANEL * (w->bytes ? 1 : 2)));
}
ll_val tn_cpu_whole_panel_bytes(tn_cpu_kernel *k, const tn_cpu_whole *w, ll_val depth) {
  return ll_iadd(k->e, codes_bytes(k, w, depth), ll_k(k->e, 2 * TN_CPU_PANEL * 4));
}

/* What is being unpacked: values of one step of 32 from the block at `blocks`. */
typedef struct unpack {
  tn_cpu_blocks b;
  tn_cpu_codes codes;
  const tn_cpu_whole *w;
  ll_val sums[2]; /* per vector of the panel: of the columns */
} unpack;

static ll_val four_products(tn_ll *e, ll_val acc, ll_val a, ll_val b) {
  ll_type t = LLVMVectorType(e->i8, 4 * e->lanes);
  ll_val args[] = {acc, ll_cast_bits(e, a, t), ll_cast_bits(e, b, t)};
  return ll_call(e, "llvm.x86.avx512.vpdpbusd.512", NULL, 0, args, 3);
}

/* The stored zeros of the block's 16 rows, i32; SIGNED's code has none. */
static ll_val zero_of(unpack *u, uint32_t v) {
  tn_ll *e = u->b.e;
  tn_cpu_lanes l = {&u->b, 0, v};
  tn_block_reader r = tn_cpu_lanes_reader(&l);
  ll_val z = tn_block_zero(&r, LLVMConstInt(e->i32, 0, 0));
  if (z) return z;
  return ll_int(e, ll_vec(e, e->i32), u->b.q->level == TN_QL_SIGNED ? SIGNED : 0);
}

/* Four codes of each row as two pairs of 16-bit levels. */
static void put_pairs(unpack *u, ll_val codes, ll_val zero, ll_val to) {
  tn_ll *e = u->b.e;
  ll_type words = LLVMVectorType(e->i16, 2 * e->lanes);
  ll_val less = ll_cast_bits(e, ll_or(e, zero, ll_shl(e, zero, ll_i(e, zero, 16))), words);
  for (uint32_t half = 0; half < 2; half++) {
    ll_val v = half ? ll_lshr(e, codes, ll_i(e, codes, 16)) : codes;
    ll_val low = ll_and(e, v, ll_i(e, v, 0xff)), high = ll_and(e, v, ll_i(e, v, 0xff00));
    v = ll_cast_bits(e, ll_or(e, low, ll_shl(e, high, ll_i(e, high, 8))), words);
    ll_store(e, ll_sub(e, v, less), ll_at(e, to, ll_k(e, (int64_t)half * TN_CPU_PANEL * 4)), 4 * e->lanes);
  }
}

/* A step, to its place in the panel. */
static void unpack_step(unpack *u, ll_val to) {
  tn_ll *e = u->b.e;
  for (uint32_t v = 0; v < u->b.per; v++) {
    ll_val zero = zero_of(u, v);
    for (uint32_t i = 0; i < STEP / 4; i++) {
      tn_cpu_lanes l = {&u->b, 0, v};
      ll_val codes = tn_cpu_codes_vector(&l, &u->codes, i);
      int64_t at = (int64_t)i * (u->w->bytes ? 1 : 2) * TN_CPU_PANEL * 4 + (int64_t)v * e->lanes * 4;
      if (!u->w->bytes) {
        put_pairs(u, codes, zero, ll_at(e, to, ll_k(e, at)));
        continue;
      }
      codes = ll_xor(e, codes, ll_i(e, codes, 0x80808080u));
      u->sums[v] = four_products(e, u->sums[v], ll_i(e, codes, 0x01010101), codes);
      ll_store(e, codes, ll_at(e, to, ll_k(e, at)), 4 * e->lanes);
    }
  }
}

enum { FROM, DEPTH_OF, TO, UNPACK_ARGS };
static void write_unpack(tn_cpu_kernel *k, const tn_cpu_whole *w, const ll_val *p) {
  tn_ll *e = k->e;
  const tn_quant *q = w->q;
  uint32_t per = TN_CPU_PANEL / e->lanes;
  unpack u = {.b = {.k = k, .e = e, .q = q, .panels = 1, .per = per}, .w = w};
  tn_cpu_codes_of(q, &u.codes);
  ll_val zeros[2] = {ll_zero(ll_vec(e, e->i32)), ll_zero(ll_vec(e, e->i32))};
  ll_loop l, pad;
  ll_loop_begin(e, &l, ll_k(e, 0), ll_udiv(e, p[DEPTH_OF], ll_k(e, STEP)), ll_k(e, 1), zeros, per);
  memcpy(u.sums, l.phi, per * sizeof *u.sums);
  ll_val steps = ll_k(e, q->values / STEP), block = ll_udiv(e, l.iv, steps);
  u.b.group[0] = ll_at(e, p[FROM], ll_mul(e, block, ll_k(e, (int64_t)q->bytes * TN_BLOCK_ROWS)));
  u.b.step = q->values == STEP ? ll_k(e, 0) : ll_urem(e, l.iv, steps);
  u.b.fixed = q->values == STEP;
  unpack_step(&u, ll_at(e, p[TO], ll_mul(e, l.iv, ll_k(e, STEP * TN_CPU_PANEL * (w->bytes ? 1 : 2)))));
  ll_loop_end(e, &l, u.sums);
  u.b.group[0] = p[FROM];
  ll_val tail = ll_at(e, p[TO], codes_bytes(k, w, p[DEPTH_OF]));
  if (w->tiles) { /* half a step of zeros, where there is half a step */
    ll_val half = ll_mul(e, p[DEPTH_OF], ll_k(e, TN_CPU_PANEL)), end = codes_bytes(k, w, p[DEPTH_OF]);
    ll_loop_begin(e, &pad, half, end, ll_k(e, TN_CPU_AMX_LINE), NULL, 0);
    ll_store(e, ll_zero(LLVMVectorType(e->i8, TN_CPU_AMX_LINE)), ll_at(e, p[TO], pad.iv), 1);
    ll_loop_end(e, &pad, NULL);
  }
  for (uint32_t v = 0; v < per && w->bytes; v++) {
    ll_val at = ll_at(e, tail, ll_k(e, (int64_t)v * e->lanes * 4)), zero = zero_of(&u, v);
    ll_store(e, l.out[v], at, 4);
    ll_store(e, ll_sub(e, ll_i(e, zero, SIGNED), zero), ll_at(e, at, ll_k(e, TN_CPU_PANEL * 4)), 4);
  }
  LLVMBuildRetVoid(e->b);
}

/* ---- micro-kernels ---- */
enum { DEPTH, A, LEAST, SUMS, A_STRIDE, B, PANEL_STRIDE, C, C_STRIDE, MORE, SHIFT, ROWS, ARGS };
typedef struct wholeukr {
  tn_cpu_kernel *k;
  tn_ll *e;
  const tn_cpu_whole *w;
  const ll_val *p;
  uint32_t rows, panels, per, n; /* n: vectors of all panels */
  ll_val acc[LL_LOOP_PHIS];
} wholeukr;

static ll_val row_at(wholeukr *u, uint32_t base, ll_val r) {
  tn_ll *e = u->e;
  return ll_at(e, u->p[base], ll_imul(e, u->p[A_STRIDE], r));
}
static ll_val panel_at(wholeukr *u, uint32_t v, ll_val off) {
  tn_ll *e = u->e;
  ll_val panel = ll_at(e, u->p[B], ll_imul(e, u->p[PANEL_STRIDE], ll_k(e, v / u->per)));
  return ll_at(e, ll_at(e, panel, off), ll_k(e, (int64_t)(v % u->per) * e->lanes * 4));
}
static ll_val cell_at(wholeukr *u, ll_val r, uint32_t v) {
  tn_ll *e = u->e;
  ll_val row = ll_at(e, u->p[C], ll_imul(e, u->p[C_STRIDE], r));
  return ll_at(e, row, ll_k(e, (int64_t)v * e->lanes * 4));
}

/* Four bytes, or two words, of each row times line `kk` of the panels. */
static void line_of(wholeukr *u, ll_val kk) {
  tn_ll *e = u->e;
  ll_type t = ll_vec(e, e->i32), words = LLVMVectorType(e->i16, 2 * e->lanes);
  ll_val b[8];
  for (uint32_t v = 0; v < u->n; v++)
    b[v] = ll_load(e, t, panel_at(u, v, ll_mul(e, kk, ll_k(e, TN_CPU_PANEL * 4))), 4 * e->lanes);
  for (uint32_t r = 0; r < u->rows; r++) {
    ll_val a =
        ll_splat(e, ll_load(e, e->i32, ll_at(e, row_at(u, A, ll_k(e, r)), ll_mul(e, kk, ll_k(e, 4))), 1));
    for (uint32_t v = 0; v < u->n; v++) {
      ll_val *acc = &u->acc[r * u->n + v];
      if (u->w->bytes) {
        *acc = four_products(e, *acc, a, b[v]);
        continue;
      }
      ll_val args[] = {ll_cast_bits(e, a, words), ll_cast_bits(e, b[v], words)};
      const char *name = e->lanes == 16 ? "llvm.x86.avx512.pmaddw.d.512" : "llvm.x86.avx2.pmadd.wd";
      *acc = ll_add(e, *acc, ll_call(e, name, NULL, 0, args, 2));
    }
  }
}

/* What a row's smallest value, and its sum, add to its products. */
static ll_val besides(wholeukr *u, ll_val r, uint32_t v) {
  tn_ll *e = u->e;
  ll_type t = ll_vec(e, e->i32);
  ll_val tail = panel_at(u, v, codes_bytes(u->k, u->w, u->p[DEPTH]));
  ll_val x = ll_mul(e, ll_load(e, t, tail, 4), ll_splat(e, ll_load(e, e->i32, row_at(u, LEAST, r), 4)));
  if (!u->w->zeros) return x;
  ll_val zeros = ll_load(e, t, ll_at(e, tail, ll_k(e, TN_CPU_PANEL * 4)), 4);
  return ll_add(e, x, ll_mul(e, zeros, ll_splat(e, ll_load(e, e->i32, row_at(u, SUMS, r), 4))));
}

/* A row's sums, to C. */
static void finish_row(wholeukr *u, ll_val r, const ll_val *sums) {
  tn_ll *e = u->e;
  ll_val more = ll_splat(e, u->p[MORE]), shift = ll_splat(e, u->p[SHIFT]);
  for (uint32_t v = 0; v < u->n; v++) {
    ll_val before = ll_load_masked(e, ll_vec(e, e->i32), cell_at(u, r, v), more, 4);
    ll_val x = u->w->bytes ? ll_shl(e, sums[v], shift) : sums[v];
    if (u->w->bytes) x = ll_add(e, x, besides(u, r, v));
    ll_store(e, ll_add(e, x, before), cell_at(u, r, v), 4);
  }
}

/* The same from tile registers: u->rows are tiles of rows. */
static void write_tiles(wholeukr *u) {
  tn_ll *e = u->e;
  int64_t width = (int64_t)u->n * e->lanes * 4;
  ll_val room = ll_alloca(e, (uint64_t)width * TN_CPU_AMX_ROWS), sums[8];
  tn_cpu_amx_sums s = {"llvm.x86.tdpbusd", u->rows, u->p[A], u->p[A_STRIDE], {0}};
  for (uint32_t j = 0; j < u->panels; j++) s.panel[j] = panel_at(u, j * u->per, ll_k(e, 0));
  ll_loop l;
  tn_cpu_amx_zero(u->k, u->rows);
  ll_val bytes = tn_cpu_amx_row(u->k, u->p[DEPTH], 1);
  ll_loop_begin(e, &l, ll_k(e, 0), ll_udiv(e, bytes, ll_k(e, TN_CPU_AMX_LINE)), ll_k(e, 1), NULL, 0);
  tn_cpu_amx_step(u->k, &s, l.iv);
  ll_loop_end(e, &l, NULL);
  tn_cpu_amx_store(u->k, u->rows, room, ll_k(e, width));
  ll_loop_begin(e, &l, ll_k(e, 0), u->p[ROWS], ll_k(e, 1), NULL, 0);
  ll_val row = ll_at(e, room, ll_mul(e, l.iv, ll_k(e, width)));
  for (uint32_t v = 0; v < u->n; v++)
    sums[v] = ll_load(e, ll_vec(e, e->i32), ll_at(e, row, ll_k(e, (int64_t)v * e->lanes * 4)), 4);
  finish_row(u, l.iv, sums);
  ll_loop_end(e, &l, NULL);
  LLVMBuildRetVoid(e->b);
}

static void write_ukr(wholeukr *u) {
  tn_ll *e = u->e;
  uint32_t cells = u->rows * u->n;
  ll_loop l;
  for (uint32_t c = 0; c < cells; c++) u->acc[c] = ll_zero(ll_vec(e, e->i32));
  ll_val lines = ll_udiv(e, u->p[DEPTH], ll_k(e, u->w->bytes ? 4 : 2));
  ll_loop_begin(e, &l, ll_k(e, 0), lines, ll_k(e, 1), u->acc, cells);
  memcpy(u->acc, l.phi, cells * sizeof *u->acc);
  line_of(u, l.iv);
  ll_loop_end(e, &l, u->acc);
  for (uint32_t r = 0; r < u->rows; r++) finish_row(u, ll_k(e, r), l.out + r * u->n);
  LLVMBuildRetVoid(e->b);
}

/* ---- functions ---- */
/* The function `name`, and where to go back to when it has been written; *fresh: it is to be written now. */
static ll_val open_function(tn_cpu_kernel *k, const char *name, ll_type *args, uint32_t n, bool *fresh) {
  tn_ll *e = k->e;
  ll_val fn = LLVMGetNamedFunction(e->mod, name);
  *fresh = !fn;
  if (fn) return fn;
  fn = ll_func(e, name, e->tvoid, args, n, false, true);
  ll_func_attr(e, fn, "prefer-vector-width", k->u->isa->vector_width);
  return fn;
}

void tn_cpu_whole_unpack(tn_cpu_kernel *k, const tn_cpu_whole *w, ll_val from, ll_val depth, ll_val to) {
  tn_ll *e = k->e;
  char name[64];
  bool fresh;
  ll_val outer = e->fn, p[UNPACK_ARGS], args[UNPACK_ARGS] = {from, depth, to};
  LLVMBasicBlockRef here = LLVMGetInsertBlock(e->b);
  snprintf(name, sizeof name, "whole_%s", w->q->name);
  ll_val fn = open_function(k, name, (ll_type[]){e->ptr, e->i64, e->ptr}, UNPACK_ARGS, &fresh);
  LLVMGetParams(fn, p);
  if (fresh) write_unpack(k, w, p);
  e->fn = outer;
  LLVMPositionBuilderAtEnd(e->b, here);
  LLVMBuildCall2(e->b, LLVMGlobalGetValueType(fn), fn, args, UNPACK_ARGS, "");
}

static ll_val ukr_of(tn_cpu_kernel *k, const tn_cpu_whole *w, uint32_t rows) {
  tn_ll *e = k->e;
  uint32_t panels = w->panels, per = TN_CPU_PANEL / e->lanes;
  char name[64];
  bool fresh;
  ll_val outer = e->fn, p[ARGS];
  LLVMBasicBlockRef here = LLVMGetInsertBlock(e->b);
  ll_type types[ARGS] = {e->i64, e->ptr, e->ptr, e->ptr, e->i64, e->ptr,
                         e->i64, e->ptr, e->i64, e->i1,  e->i32, e->i64};
  snprintf(name, sizeof name, "whole_%s%s_%ux%u", w->bytes ? w->zeros ? "bz" : "b" : "w", w->tiles ? "t" : "",
           rows, panels);
  ll_val fn = open_function(k, name, types, ARGS, &fresh);
  LLVMGetParams(fn, p);
  wholeukr u = {
      .k = k, .e = e, .w = w, .p = p, .rows = rows, .panels = panels, .per = per, .n = panels * per};
  if (fresh) (w->tiles ? write_tiles : write_ukr)(&u);
  e->fn = outer;
  LLVMPositionBuilderAtEnd(e->b, here);
  return fn;
}

void tn_cpu_whole_tile_call(tn_cpu_kernel *k, const tn_cpu_whole *w, ll_val rows,
                            const tn_cpu_whole_tile *t) {
  tn_ll *e = k->e;
  ll_val args[ARGS] = {t->depth,        t->a, t->least,    t->sums, t->a_stride, t->b,
                       t->panel_stride, t->c, t->c_stride, t->more, t->shift,    rows};
  LLVMBasicBlockRef end = ll_block(e, "tiled");
  uint32_t most = w->tiles ? w->rows / TN_CPU_AMX_TILE : w->rows;
  if (w->tiles) rows = ll_ceildiv(e, rows, ll_k(e, TN_CPU_AMX_TILE));
  ll_val sw = LLVMBuildSwitch(e->b, rows, end, most);
  for (uint32_t r = 1; r <= most; r++) {
    LLVMBasicBlockRef block = ll_block(e, "rows");
    LLVMAddCase(sw, ll_k(e, r), block);
    LLVMPositionBuilderAtEnd(e->b, block);
    ll_val fn = ukr_of(k, w, r);
    LLVMBuildCall2(e->b, LLVMGlobalGetValueType(fn), fn, args, ARGS, "");
    LLVMBuildBr(e->b, end);
  }
  LLVMPositionBuilderAtEnd(e->b, end);
  tn_ll_body_forget(&k->body);
}
