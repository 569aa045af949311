/* ukernel.c - writes micro-kernels, each once per module, and the switch over the number of rows. */
#include "backends/cpu/ukernel.h"
#include "backends/llvm/convert.h"
#include <stdio.h>

#define PREFETCH 2048 /* bytes ahead in each panel when weights only pass through */

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
  ll_val p[TN_UKR_ARGS], panel[8], ahead[8];
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
    if (fetch) ll_prefetch(e, ll_at(e, u->ahead[j], ll_mul(e, u->loop.iv, u->p[TN_UKR_AHEAD_STEP])), 2);
  }
  for (uint32_t i = 0; i < u->rows; i++) {
    ll_val a = ll_splat(e, ll_load(e, e->f32, row_pointer(e, a0, u->p[TN_UKR_A_STRIDE], i), 4));
    for (uint32_t v = 0; v < u->vectors; v++)
      u->acc[i * u->vectors + v] = ll_fma(e, a, b[v], u->loop.phi[i * u->vectors + v]);
  }
}
static void step_by_panels(ukr *u, ll_val a0, ll_val off) {
  tn_ll *e = u->e;
  ll_val a[16], b[2];
  uint32_t per = TN_CPU_PANEL / e->lanes;
  for (uint32_t i = 0; i < u->rows; i++)
    a[i] = ll_splat(e, ll_load(e, e->f32, row_pointer(e, a0, u->p[TN_UKR_A_STRIDE], i), 4));
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

static ll_val write_ukr(tn_cpu_kernel *k, tn_dtype dt, uint32_t rows, uint32_t panels, bool fetch) {
  tn_ll *e = k->e;
  char name[64];
  snprintf(name, sizeof name, "ukr%s_%s_%ux%u", fetch ? "_fetch" : "", k->u->ir->dtype_info(dt)->name, rows,
           panels);
  ll_type args[TN_UKR_ARGS] = {e->i64, e->ptr, e->i64, e->ptr, e->i64, e->i64,
                               e->ptr, e->i64, e->ptr, e->i64, e->i1};
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
  for (uint32_t i = 0; i < TN_UKR_ARGS; i++) u.p[i] = LLVMGetParam(fn, i);
  for (uint32_t j = 0; j < panels; j++) {
    ll_val at = j ? ll_imin(e, ll_k(e, j), ll_sub(e, u.p[TN_UKR_NP], ll_k(e, 1))) : ll_k(e, 0);
    u.panel[j] = ll_at(e, u.p[TN_UKR_B], ll_imul(e, at, u.p[TN_UKR_PANEL_STRIDE]));
    u.ahead[j] = ll_at(e, u.p[TN_UKR_AHEAD], ll_imul(e, ll_k(e, j), u.p[TN_UKR_PANEL_STRIDE]));
  }
  load_tile(&u);
  ll_loop_begin(e, &u.loop, ll_k(e, 0), u.p[TN_UKR_DEPTH], ll_k(e, 1), u.acc, rows * u.vectors);
  ll_val off = ll_mul(e, u.loop.iv, ll_k(e, TN_CPU_PANEL * tn_ll_dtype_of(dt).bytes));
  ll_val a0 = ll_at(e, u.p[TN_UKR_A], ll_mul(e, u.loop.iv, ll_k(e, 4)));
  if (panels > k->u->isa->panels)
    step_by_panels(&u, a0, off);
  else
    step_by_rows(&u, a0, off, fetch);
  ll_loop_end(e, &u.loop, u.acc);
  store_tile(&u);
  LLVMBuildRetVoid(e->b);
  return fn;
}

static tn_cpu_ukr *find(tn_cpu_unit *u, tn_dtype dt, uint32_t rows, uint32_t panels, bool fetch) {
  for (uint32_t i = 0; i < u->nukr; i++)
    if (u->ukr[i].dt == dt && u->ukr[i].rows == rows && u->ukr[i].panels == panels &&
        u->ukr[i].fetch == fetch)
      return &u->ukr[i];
  return NULL;
}
ll_val tn_cpu_ukr_of(tn_cpu_kernel *k, tn_dtype dt, uint32_t rows, uint32_t panels, bool fetch,
                     tn_cpu_ukr_writer write) {
  tn_cpu_unit *u = k->u;
  tn_ll *e = k->e;
  tn_cpu_ukr *known = find(u, dt, rows, panels, fetch);
  if (known) return known->fn;
  LLVMBasicBlockRef here = LLVMGetInsertBlock(e->b);
  ll_val outer = e->fn, fn = write(k, dt, rows, panels, fetch);
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
  ll_val args[TN_UKR_ARGS] = {t->depth, t->a,        t->a_stride, t->b,       t->panel_stride,          t->np,
                              t->c,     t->c_stride, t->b,        ll_k(e, 0), LLVMConstInt(e->i1, 0, 0)};
  if (t->more) args[TN_UKR_MORE] = t->more;
  bool fetch = t->ahead != NULL;
  if (fetch) args[TN_UKR_AHEAD] = t->ahead, args[TN_UKR_AHEAD_STEP] = t->ahead_step;
  LLVMBasicBlockRef end = ll_block(e, "tiled");
  ll_val sw = LLVMBuildSwitch(e->b, rows, end, max_rows);
  for (uint32_t r = 1; r <= max_rows; r++) {
    LLVMBasicBlockRef block = ll_block(e, "rows");
    LLVMAddCase(sw, ll_k(e, r), block);
    LLVMPositionBuilderAtEnd(e->b, block);
    ll_val fn = tn_cpu_ukr_of(k, dt, r, panels, fetch, write_ukr);
    LLVMBuildCall2(e->b, LLVMGlobalGetValueType(fn), fn, args, TN_UKR_ARGS, "");
    LLVMBuildBr(e->b, end);
  }
  LLVMPositionBuilderAtEnd(e->b, end);
  tn_ll_body_forget(&k->body);
}
