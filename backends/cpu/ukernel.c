/* ukernel.c - writes micro-kernels, each once per module, and the switch over the number of rows. */
#include "backends/cpu/ukernel.h"
#include "backends/llvm/convert.h"
#include <stdio.h>

#define PREFETCH 2048 /* bytes ahead in each panel when weights only pass through */
enum { DEPTH, A, A_STRIDE, B, PANEL_STRIDE, NP, C, C_STRIDE, AHEAD, AHEAD_STEP, NARGS };

/* 16 columns of one panel at step k as f32 vectors. */
static void load_panel(tn_ll *e, tn_dtype dt, ll_val p, ll_val *out) {
  uint32_t bytes = tn_ll_dtype_of(dt).bytes;
  for (uint32_t v = 0; v < TN_CPU_PANEL / e->lanes; v++) {
    ll_val at = v ? ll_at(e, p, ll_k(e, (int64_t)v * e->lanes * bytes)) : p;
    out[v] = tn_ll_to_compute(e, dt, ll_load(e, ll_vec(e, tn_ll_memory_type(e, dt)), at, bytes));
  }
}

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
  uint32_t rows, panels, vectors; /* vectors: of all panels */
  ll_val p[NARGS], panel[8], ahead[8];
  ll_loop loop;
  ll_val acc[LL_LOOP_PHIS];
} ukr;

/* One step of k. Few panels: their vectors stay and rows pass by. Many panels (few rows): the other way
 * round. */
static void step_by_rows(ukr *u, ll_val a0, ll_val off, bool fetch) {
  tn_ll *e = u->e;
  ll_val b[LL_LOOP_PHIS];
  uint32_t per = TN_CPU_PANEL / e->lanes;
  for (uint32_t j = 0; j < u->panels; j++) {
    load_panel(e, u->dt, ll_at(e, u->panel[j], off), b + j * per);
    if (fetch) ll_prefetch(e, ll_at(e, u->ahead[j], ll_mul(e, u->loop.iv, u->p[AHEAD_STEP])), 2);
  }
  for (uint32_t i = 0; i < u->rows; i++) {
    ll_val a = ll_splat(e, ll_load(e, e->f32, row_pointer(e, a0, u->p[A_STRIDE], i), 4));
    for (uint32_t v = 0; v < u->vectors; v++)
      u->acc[i * u->vectors + v] = ll_fma(e, a, b[v], u->loop.phi[i * u->vectors + v]);
  }
}
static void step_by_panels(ukr *u, ll_val a0, ll_val off) {
  tn_ll *e = u->e;
  ll_val a[16], b[2];
  uint32_t per = TN_CPU_PANEL / e->lanes;
  for (uint32_t i = 0; i < u->rows; i++)
    a[i] = ll_splat(e, ll_load(e, e->f32, row_pointer(e, a0, u->p[A_STRIDE], i), 4));
  for (uint32_t j = 0; j < u->panels; j++) {
    ll_val at = ll_at(e, u->panel[j], off);
    ll_prefetch(e, ll_at(e, at, ll_k(e, PREFETCH)), 3);
    load_panel(e, u->dt, at, b);
    for (uint32_t i = 0; i < u->rows; i++)
      for (uint32_t v = 0; v < per; v++) {
        uint32_t to = i * u->vectors + j * per + v;
        u->acc[to] = ll_fma(e, a[i], b[v], u->loop.phi[to]);
      }
  }
}

static void store_tile(ukr *u) {
  tn_ll *e = u->e;
  for (uint32_t i = 0; i < u->rows; i++) {
    ll_val row = ll_at(e, u->p[C], ll_imul(e, u->p[C_STRIDE], ll_k(e, i)));
    for (uint32_t v = 0; v < u->vectors; v++)
      ll_store(e, u->loop.out[i * u->vectors + v], ll_at(e, row, ll_k(e, (int64_t)v * e->lanes * 4)), 4);
  }
}

static ll_val write_ukr(tn_cpu_kernel *k, tn_dtype dt, uint32_t rows, uint32_t panels, bool fetch) {
  tn_ll *e = k->e;
  char name[64];
  snprintf(name, sizeof name, "ukr%s_%s_%ux%u", fetch ? "_fetch" : "", k->u->ir->dtype_info(dt)->name, rows,
           panels);
  ll_type args[NARGS] = {e->i64, e->ptr, e->i64, e->ptr, e->i64, e->i64, e->ptr, e->i64, e->ptr, e->i64};
  ll_val fn = ll_func(e, name, e->tvoid, args, NARGS, true, true);
  ll_func_attr(e, fn, "prefer-vector-width", k->u->isa->vector_width);
  ukr u = {.e = e, .dt = dt, .rows = rows, .panels = panels, .vectors = panels * TN_CPU_PANEL / e->lanes};
  for (uint32_t i = 0; i < NARGS; i++) u.p[i] = LLVMGetParam(fn, i);
  for (uint32_t j = 0; j < panels; j++) {
    ll_val at = j ? ll_imin(e, ll_k(e, j), ll_sub(e, u.p[NP], ll_k(e, 1))) : ll_k(e, 0);
    u.panel[j] = ll_at(e, u.p[B], ll_imul(e, at, u.p[PANEL_STRIDE]));
    u.ahead[j] = ll_at(e, u.p[AHEAD], ll_imul(e, ll_k(e, j), u.p[PANEL_STRIDE]));
  }
  for (uint32_t i = 0; i < rows * u.vectors; i++) u.acc[i] = ll_zero(ll_vec(e, e->f32));
  ll_loop_begin(e, &u.loop, ll_k(e, 0), u.p[DEPTH], ll_k(e, 1), u.acc, rows * u.vectors);
  ll_val off = ll_mul(e, u.loop.iv, ll_k(e, TN_CPU_PANEL * tn_ll_dtype_of(dt).bytes));
  ll_val a0 = ll_at(e, u.p[A], ll_mul(e, u.loop.iv, ll_k(e, 4)));
  if (panels > k->u->isa->panels)
    step_by_panels(&u, a0, off);
  else
    step_by_rows(&u, a0, off, fetch);
  ll_loop_end(e, &u.loop, u.acc);
  store_tile(&u);
  LLVMBuildRetVoid(e->b);
  return fn;
}

static ll_val ukr_of(tn_cpu_kernel *k, tn_dtype dt, uint32_t rows, uint32_t panels, bool fetch) {
  tn_cpu_unit *u = k->u;
  tn_ll *e = k->e;
  for (uint32_t i = 0; i < u->nukr; i++)
    if (u->ukr[i].dt == dt && u->ukr[i].rows == rows && u->ukr[i].panels == panels &&
        u->ukr[i].fetch == fetch)
      return u->ukr[i].fn;
  LLVMBasicBlockRef here = LLVMGetInsertBlock(e->b);
  ll_val outer = e->fn, fn = write_ukr(k, dt, rows, panels, fetch);
  e->fn = outer;
  LLVMPositionBuilderAtEnd(e->b, here);
  if (u->nukr == TN_CPU_MAX_UKR)
    tn_ll_fail(e, "more than %d micro-kernels", TN_CPU_MAX_UKR);
  else
    u->ukr[u->nukr++] = (tn_cpu_ukr){dt, rows, panels, fetch, fn};
  return fn;
}

void tn_cpu_tile_call(tn_cpu_kernel *k, tn_dtype dt, uint32_t panels, uint32_t max_rows, ll_val rows,
                      const tn_cpu_tile *t) {
  tn_ll *e = k->e;
  ll_val args[NARGS] = {t->depth, t->a, t->a_stride, t->b, t->panel_stride,
                        t->np,    t->c, t->c_stride, t->b, ll_k(e, 0)};
  bool fetch = t->ahead != NULL;
  if (fetch) args[AHEAD] = t->ahead, args[AHEAD_STEP] = t->ahead_step;
  LLVMBasicBlockRef end = ll_block(e, "tiled");
  ll_val sw = LLVMBuildSwitch(e->b, rows, end, max_rows);
  for (uint32_t r = 1; r <= max_rows; r++) {
    LLVMBasicBlockRef block = ll_block(e, "rows");
    LLVMAddCase(sw, ll_k(e, r), block);
    LLVMPositionBuilderAtEnd(e->b, block);
    ll_val fn = ukr_of(k, dt, r, panels, fetch);
    LLVMBuildCall2(e->b, LLVMGlobalGetValueType(fn), fn, args, NARGS, "");
    LLVMBuildBr(e->b, end);
  }
  LLVMPositionBuilderAtEnd(e->b, end);
  tn_ll_body_forget(&k->body);
}
