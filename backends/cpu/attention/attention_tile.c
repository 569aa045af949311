/* attention_tile.c - attention's micro-kernel: a tile of scores or of the weighted sum stays in registers
 * over the whole sum. One function per number of rows and shape of A, shared by all kernels of the module. */
#include "backends/cpu/attention/attention.h"
#include <stdio.h>

enum { STEPS, A, A_STRIDE, B, PANEL_STRIDE, C, C_STRIDE, ALPHA, ARGS };
typedef struct tile {
  tn_ll *e;
  bool narrow, add;
  uint32_t rows, panels, vectors; /* vectors: of all panels */
  ll_val p[ARGS];
  ll_loop loop;
  ll_val acc[LL_LOOP_PHIS];
} tile;

static ll_val cell(tile *u, uint32_t i, uint32_t v) {
  tn_ll *e = u->e;
  ll_val row = ll_at(e, u->p[C], ll_imul(e, u->p[C_STRIDE], ll_k(e, i)));
  return ll_at(e, row, ll_k(e, (int64_t)v * e->lanes * 4));
}

static void begin(tile *u) {
  tn_ll *e = u->e;
  ll_type t = ll_vec(e, e->f32);
  for (uint32_t i = 0; i < u->rows; i++) {
    ll_val alpha =
        u->add ? ll_splat(e, ll_load(e, e->f32, ll_at(e, u->p[ALPHA], ll_k(e, 4 * (int64_t)i)), 4)) : NULL;
    for (uint32_t v = 0; v < u->vectors; v++)
      u->acc[i * u->vectors + v] = alpha ? ll_fmul(e, ll_load(e, t, cell(u, i, v), 4), alpha) : ll_zero(t);
  }
}

static ll_val multiply(tile *u, ll_val a, ll_val b, ll_val c) {
  tn_ll *e = u->e;
  if (!u->narrow) return ll_fma(e, a, b, c);
  ll_type pairs = LLVMVectorType(LLVMBFloatTypeInContext(e->ctx), 2 * e->lanes);
  ll_val args[] = {c, ll_cast_bits(e, a, pairs), ll_cast_bits(e, b, pairs)};
  return ll_call(e, "llvm.x86.avx512bf16.dpbf16ps.512", NULL, 0, args, 3);
}

static void step(tile *u) {
  tn_ll *e = u->e;
  ll_type t = u->narrow ? e->i32 : e->f32;
  ll_val b[8], off = ll_mul(e, u->loop.iv, ll_k(e, TN_CPU_PANEL * 4)),
               a0 = ll_at(e, u->p[A], ll_mul(e, u->loop.iv, ll_k(e, 4)));
  uint32_t per = TN_CPU_PANEL / e->lanes;
  for (uint32_t v = 0; v < u->vectors; v++) {
    ll_val panel = ll_at(e, u->p[B], ll_imul(e, u->p[PANEL_STRIDE], ll_k(e, v / per)));
    ll_val at = ll_at(e, ll_at(e, panel, off), ll_k(e, (int64_t)(v % per) * e->lanes * 4));
    b[v] = ll_load(e, ll_vec(e, t), at, 4);
  }
  for (uint32_t i = 0; i < u->rows; i++) {
    ll_val row = ll_at(e, a0, ll_imul(e, u->p[A_STRIDE], ll_k(e, i)));
    ll_val a = ll_splat(e, ll_load(e, t, row, 4));
    for (uint32_t v = 0; v < u->vectors; v++) {
      uint32_t to = i * u->vectors + v;
      u->acc[to] = multiply(u, a, b[v], u->loop.phi[to]);
    }
  }
}

static ll_val write_tile(tn_cpu_kernel *k, const char *name, uint32_t rows, const tn_cpu_att_tile *t) {
  tn_ll *e = k->e;
  tn_cpu_shared shared = tn_cpu_shared_begin(k->u);
  ll_type args[ARGS] = {e->i64, e->ptr, e->i64, e->ptr, e->i64, e->ptr, e->i64, e->ptr};
  ll_val fn = ll_func(e, name, e->tvoid, args, ARGS, true, true);
  ll_func_attr(e, fn, "prefer-vector-width", k->u->isa->vector_width);
  tile u = {.e = e, .narrow = t->narrow, .add = t->alpha, .rows = rows, .panels = t->panels};
  u.vectors = t->panels * TN_CPU_PANEL / e->lanes;
  for (uint32_t i = 0; i < ARGS; i++) u.p[i] = LLVMGetParam(fn, i);
  int64_t stride;
  if (ll_const(t->a_stride, &stride)) u.p[A_STRIDE] = t->a_stride;
  begin(&u);
  ll_loop_begin(e, &u.loop, ll_k(e, 0), u.p[STEPS], ll_k(e, 1), u.acc, rows * u.vectors);
  step(&u);
  ll_loop_end(e, &u.loop, u.acc);
  for (uint32_t c = 0; c < rows * u.vectors; c++)
    ll_store(e, u.loop.out[c], cell(&u, c / u.vectors, c % u.vectors), 4);
  LLVMBuildRetVoid(e->b);
  return tn_cpu_shared_end(k->u, &shared, fn);
}

static ll_val tile_of(tn_cpu_kernel *k, uint32_t rows, const tn_cpu_att_tile *t) {
  char name[96];
  int64_t stride = 0;
  (void)ll_const(t->a_stride, &stride);
  snprintf(name, sizeof name, "attend_%s%s_%ux%u_%lld", t->narrow ? "bf16" : "f32", t->alpha ? "_add" : "",
           rows, t->panels, (long long)stride);
  ll_val known = tn_cpu_shared_find(k->u, name);
  return known ? known : write_tile(k, name, rows, t);
}

void tn_cpu_att_tile_call(tn_cpu_kernel *k, uint32_t max_rows, ll_val rows, const tn_cpu_att_tile *t) {
  tn_ll *e = k->e;
  ll_val args[ARGS] = {t->steps,        t->a, t->a_stride, t->b,
                       t->panel_stride, t->c, t->c_stride, t->alpha ? t->alpha : t->c};
  LLVMBasicBlockRef end = ll_block(e, "tiled");
  ll_val sw = LLVMBuildSwitch(e->b, rows, end, max_rows);
  for (uint32_t r = 1; r <= max_rows; r++) {
    LLVMBasicBlockRef block = ll_block(e, "rows");
    LLVMAddCase(sw, ll_k(e, r), block);
    LLVMPositionBuilderAtEnd(e->b, block);
    ll_val fn = tile_of(k, r, t);
    LLVMBuildCall2(e->b, LLVMGlobalGetValueType(fn), fn, args, ARGS, "");
    LLVMBuildBr(e->b, end);
  }
  LLVMPositionBuilderAtEnd(e->b, end);
  tn_ll_body_forget(&k->body);
}
