/* ukernel.c - writes micro-kernels, each once per module, and the switch over the number of rows. */
#include "backends/cpu/ukernel/ukernel.h"
#include "backends/llvm/convert.h"
#include <stdio.h>

/* Row i of A, as base + i * stride; small multiples become addressing modes. */
static ll_val row_pointer(tn_ll *e, ll_val base, ll_val stride, uint32_t i) {
  if (!i) return base;
  uint32_t shift = (uint32_t)__builtin_ctz(i), odd = i >> shift;
  if (shift > 3) odd <<= shift - 3, shift = 3;
  ll_val off = odd == 1 ? stride : ll_mul(e, stride, ll_k(e, odd));
  return ll_at(e, base, shift ? ll_shl(e, off, ll_k(e, shift)) : off);
}

/* What one micro-kernel is: parameters, sizes, accumulators acc[row][vector of all panels]. */
typedef struct ukr {
  tn_ll *e;
  tn_dtype dt;
  bool dot;
  uint32_t rows, panels, vectors; /* vectors: of all panels */
  uint32_t deep;                  /* how many k a step multiplies one after the other */
  ll_val p[TN_UKR_ARGS], panel[8], ahead[8];
  ll_loop loop;
  ll_val acc[LL_LOOP_PHIS];
} ukr;

/* 16 columns of one panel at one step as f32 vectors. Of bf16 a step is two k, one in the low halves of 32
 * bits and one in the high ones: `half` says which; for products of pairs both, as they lie there. */
static void load_panel(const ukr *u, ll_val p, uint32_t half, ll_val *out) {
  tn_ll *e = u->e;
  bool pairs = u->dt == TN_DT_bf16;
  uint32_t bytes = pairs ? 4 : tn_ll_dtype_of(u->dt).bytes;
  for (uint32_t v = 0; v < TN_CPU_PANEL / e->lanes; v++) {
    ll_val at = v ? ll_at(e, p, ll_k(e, (int64_t)v * e->lanes * bytes)) : p;
    ll_val x = ll_load(e, ll_vec(e, pairs ? e->i32 : tn_ll_memory_type(e, u->dt)), at, bytes);
    if (!pairs)
      x = tn_ll_to_compute(e, u->dt, x);
    else if (!u->dot)
      x = half ? ll_and(e, x, ll_i(e, x, -65536)) : ll_shl(e, x, ll_i(e, x, 16));
    out[v] = pairs && !u->dot ? ll_cast_bits(e, x, ll_vec(e, e->f32)) : x;
  }
}

/* Value(s) of row i of A at place `step` of the step, in every lane. */
static ll_val row_value(ukr *u, ll_val a0, uint32_t i, uint32_t step) {
  tn_ll *e = u->e;
  ll_val at = row_pointer(e, a0, u->p[TN_UKR_A_STRIDE], i);
  if (step) at = ll_at(e, at, ll_k(e, 4 * (int64_t)step));
  return ll_splat(e, ll_load(e, u->dot ? e->i32 : e->f32, at, 4));
}
static ll_val multiply(ukr *u, ll_val a, ll_val b, ll_val sum) {
  tn_ll *e = u->e;
  if (!u->dot) return ll_fma(e, a, b, sum);
  ll_type pairs = LLVMVectorType(LLVMBFloatTypeInContext(e->ctx), 2 * e->lanes);
  ll_val args[] = {sum, ll_cast_bits(e, b, pairs), ll_cast_bits(e, a, pairs)};
  return ll_call(e, "llvm.x86.avx512bf16.dpbf16ps.512", NULL, 0, args, 3);
}

/* One step: vectors of the panels stay and rows pass by. */
static void half_by_rows(ukr *u, ll_val a0, ll_val off, uint32_t half, bool fetch) {
  tn_ll *e = u->e;
  ll_val b[LL_LOOP_PHIS];
  for (uint32_t j = 0; j < u->panels; j++) {
    load_panel(u, ll_at(e, u->panel[j], off), half, b + j * (TN_CPU_PANEL / e->lanes));
    if (fetch) ll_prefetch(e, ll_at(e, u->ahead[j], ll_mul(e, u->loop.iv, u->p[TN_UKR_AHEAD_STEP])), 2);
  }
  for (uint32_t i = 0; i < u->rows; i++) {
    ll_val a = row_value(u, a0, i, half);
    for (uint32_t v = 0; v < u->vectors; v++)
      u->acc[i * u->vectors + v] = multiply(u, a, b[v], u->acc[i * u->vectors + v]);
  }
}
/* The second half of a pair gets a block and loads of its own: in one block the compiler would load all
 * values of both first, more than there are registers. That depth is even it does not know. */
static void write_step(ukr *u, ll_val a0, ll_val off, bool fetch) {
  tn_ll *e = u->e;
  uint32_t n = u->rows * u->vectors;
  half_by_rows(u, a0, off, 0, fetch);
  if (u->deep == 1) return;
  ll_val k = ll_add(e, ll_shl(e, u->loop.iv, ll_k(e, 1)), ll_k(e, 1)), before[LL_LOOP_PHIS];
  LLVMBasicBlockRef first = LLVMGetInsertBlock(e->b), half = ll_block(e, "half"), end = ll_block(e, "step");
  LLVMBuildCondBr(e->b, ll_icmp(e, LLVMIntULT, k, u->p[TN_UKR_DEPTH]), half, end);
  LLVMPositionBuilderAtEnd(e->b, half);
  LLVMBuildFence(e->b, LLVMAtomicOrderingSequentiallyConsistent, true, ""); /* orders only the compiler */
  memcpy(before, u->acc, n * sizeof *before);
  half_by_rows(u, a0, off, 1, false);
  LLVMBuildBr(e->b, end);
  LLVMPositionBuilderAtEnd(e->b, end);
  for (uint32_t i = 0; i < n; i++) {
    LLVMBasicBlockRef from[] = {first, half};
    ll_val values[] = {before[i], u->acc[i]};
    u->acc[i] = LLVMBuildPhi(e->b, LLVMTypeOf(u->acc[i]), "");
    LLVMAddIncoming(u->acc[i], values, from, 2);
  }
}
/* Vector v of row i of C. */
static ll_val cell(ukr *u, uint32_t i, uint32_t v) {
  tn_ll *e = u->e;
  ll_val row = ll_at(e, u->p[TN_UKR_C], ll_imul(e, u->p[TN_UKR_C_STRIDE], ll_k(e, i)));
  return ll_at(e, row, ll_k(e, (int64_t)v * e->lanes * 4));
}
static void load_tile(ukr *u) {
  tn_ll *e = u->e;
  ll_val all = ll_splat(e, u->p[TN_UKR_MORE]);
  for (uint32_t c = 0; c < u->rows * u->vectors; c++)
    u->acc[c] = ll_load_masked(e, ll_vec(e, e->f32), cell(u, c / u->vectors, c % u->vectors), all, 4);
}
static void store_tile(ukr *u) {
  for (uint32_t c = 0; c < u->rows * u->vectors; c++)
    ll_store(u->e, u->loop.out[c], cell(u, c / u->vectors, c % u->vectors), 4);
}

void tn_cpu_ukr_panels(tn_ll *e, const ll_val *args, uint32_t panels, ll_val *out) {
  ll_val pairs = ll_icmp(e, LLVMIntNE, args[TN_UKR_PAIR], ll_k(e, 0));
  ll_val last = ll_sub(e, args[TN_UKR_NP], ll_k(e, 1)), partner = ll_at(e, args[TN_UKR_B], args[TN_UKR_PAIR]);
  out[0] = args[TN_UKR_B];
  for (uint32_t j = 1, half = panels / 2; j < panels; j++) {
    bool second = panels % 2 == 0 && j >= half;
    ll_val at = second ? ll_select(e, pairs, ll_k(e, j - half), ll_k(e, j)) : ll_k(e, j);
    out[j] = ll_at(e, second ? partner : args[TN_UKR_B],
                   ll_mul(e, ll_imin(e, at, last), args[TN_UKR_PANEL_STRIDE]));
  }
}

static ll_val write_ukr(tn_cpu_kernel *k, tn_dtype dt, uint32_t rows, uint32_t panels, uint32_t flags) {
  tn_ll *e = k->e;
  char name[64];
  snprintf(name, sizeof name, "ukr%s%s_%s_%ux%u", flags & TN_UKR_FETCH ? "_fetch" : "",
           flags & TN_UKR_DOT ? "_dot" : "", k->u->ir->dtype_info(dt)->name, rows, panels);
  ll_type args[TN_UKR_ARGS] = {e->i64, e->ptr, e->i64, e->ptr, e->i64, e->i64,
                               e->ptr, e->i64, e->ptr, e->i64, e->i1,  e->i64};
  ll_val fn = ll_func(e, name, e->tvoid, args, TN_UKR_ARGS, true, true);
  ll_func_attr(e, fn, "prefer-vector-width", k->u->isa->vector_width);
  if (dt >= TN_DT_BLOCK) {
    ll_val params[TN_UKR_ARGS];
    LLVMGetParams(fn, params);
    tn_cpu_block_ukr(k, dt, rows, panels, params);
    LLVMBuildRetVoid(e->b);
    return fn;
  }
  ukr u = {.e = e, .dt = dt, .rows = rows, .panels = panels, .vectors = panels * TN_CPU_PANEL / e->lanes};
  bool pairs = dt == TN_DT_bf16;
  u.dot = flags & TN_UKR_DOT;
  u.deep = pairs && !u.dot ? 2 : 1;
  for (uint32_t i = 0; i < TN_UKR_ARGS; i++) u.p[i] = LLVMGetParam(fn, i);
  tn_cpu_ukr_panels(e, u.p, panels, u.panel);
  ll_val ahead = LLVMBuildPtrDiff2(e->b, e->i8, u.p[TN_UKR_AHEAD], u.p[TN_UKR_B], "");
  for (uint32_t j = 0; j < panels; j++) u.ahead[j] = ll_at(e, u.panel[j], ahead);
  load_tile(&u);
  ll_val steps = pairs ? ll_lshr(e, u.p[TN_UKR_DEPTH], ll_k(e, 1)) : u.p[TN_UKR_DEPTH];
  ll_loop_begin(e, &u.loop, ll_k(e, 0), steps, ll_k(e, 1), u.acc, rows * u.vectors);
  memcpy(u.acc, u.loop.phi, sizeof u.acc);
  ll_val off = ll_mul(e, u.loop.iv, ll_k(e, TN_CPU_PANEL * (pairs ? 4 : tn_ll_dtype_of(dt).bytes)));
  ll_val a0 = ll_at(e, u.p[TN_UKR_A], ll_mul(e, u.loop.iv, ll_k(e, 4 * u.deep)));
  write_step(&u, a0, off, flags & TN_UKR_FETCH);
  ll_loop_end(e, &u.loop, u.acc);
  store_tile(&u);
  LLVMBuildRetVoid(e->b);
  return fn;
}

static tn_cpu_ukr *find(tn_cpu_unit *u, tn_dtype dt, uint32_t rows, uint32_t panels, uint32_t flags) {
  for (uint32_t i = 0; i < u->nukr; i++)
    if (u->ukr[i].dt == dt && u->ukr[i].rows == rows && u->ukr[i].panels == panels &&
        u->ukr[i].flags == flags)
      return &u->ukr[i];
  return NULL;
}
ll_val tn_cpu_ukr_of(tn_cpu_kernel *k, tn_dtype dt, uint32_t rows, uint32_t panels, uint32_t flags,
                     tn_cpu_ukr_writer write) {
  tn_cpu_unit *u = k->u;
  tn_ll *e = k->e;
  tn_cpu_ukr *known = find(u, dt, rows, panels, flags);
  if (known) return tn_cpu_shared_find(u, known->name);
  tn_cpu_shared s = tn_cpu_shared_begin(u);
  ll_val fn = tn_cpu_shared_end(u, &s, write(k, dt, rows, panels, flags));
  if (u->nukr == TN_CPU_MAX_UKR) tn_ll_fail(e, "more than %d micro-kernels", TN_CPU_MAX_UKR);
  if (!e->error[0])
    u->ukr[u->nukr++] = (tn_cpu_ukr){dt, rows, panels, flags, u->parts.items[u->parts.count - 1].symbol};
  return fn;
}

ll_val tn_cpu_ahead_step(tn_cpu_kernel *k, tn_dtype dt, ll_val depth, ll_val calls, ll_val *step) {
  tn_ll *e = k->e;
  bool pairs = dt == TN_DT_bf16;
  ll_val line = ll_k(e, (int64_t)TN_CPU_PANEL * (pairs ? 4 : tn_ll_dtype_of(dt).bytes));
  *step = ll_ceildiv(e, line, calls);
  return ll_mul(e, *step, pairs ? ll_lshr(e, depth, ll_k(e, 1)) : depth);
}

void tn_cpu_tile_switch(tn_cpu_kernel *k, ll_val rows, uint32_t max_rows, const tn_cpu_tile *t,
                        tn_cpu_ukr_for of, const void *family) {
  tn_ll *e = k->e;
  ll_val none = ll_k(e, 0);
  ll_val args[TN_UKR_ARGS] = {t->depth,
                              t->a,
                              t->a_stride,
                              t->b,
                              t->panel_stride,
                              t->np,
                              t->c,
                              t->c_stride,
                              t->ahead ? t->ahead : t->b,
                              t->ahead ? t->ahead_step : none,
                              t->more ? t->more : LLVMConstInt(e->i1, 0, 0),
                              t->pair ? t->pair : none};
  LLVMBasicBlockRef end = ll_block(e, "tiled");
  ll_val sw = LLVMBuildSwitch(e->b, rows, end, max_rows);
  for (uint32_t r = 1; r <= max_rows; r++) {
    LLVMBasicBlockRef block = ll_block(e, "rows");
    LLVMAddCase(sw, ll_k(e, r), block);
    LLVMPositionBuilderAtEnd(e->b, block);
    ll_val fn = of(k, family, r);
    LLVMBuildCall2(e->b, LLVMGlobalGetValueType(fn), fn, args, TN_UKR_ARGS, "");
    LLVMBuildBr(e->b, end);
  }
  LLVMPositionBuilderAtEnd(e->b, end);
  tn_ll_body_forget(&k->body);
}

typedef struct family {
  tn_dtype dt;
  uint32_t panels, flags;
} family;
static ll_val ukr_for(tn_cpu_kernel *k, const void *of, uint32_t rows) {
  const family *f = of;
  return tn_cpu_ukr_of(k, f->dt, rows, f->panels, f->flags, write_ukr);
}

void tn_cpu_tile_call(tn_cpu_kernel *k, tn_dtype dt, uint32_t panels, uint32_t max_rows, ll_val rows,
                      const tn_cpu_tile *t) {
  family f = {dt, panels, (t->ahead ? TN_UKR_FETCH : 0) | (t->dot ? TN_UKR_DOT : 0)};
  tn_cpu_tile_switch(k, rows, max_rows, t, ukr_for, &f);
}
