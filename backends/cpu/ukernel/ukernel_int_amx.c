/* ukernel_int_amx.c - the integer micro-kernel in tile registers, for plain forms: both factors are signed
 * bytes, so nothing is taken off, and panels are rows of tiles as they lie. Tiles hold the sums of one run
 * only; at its end they pass through memory and are added, times the rows' scales, to the float sums: in the
 * order of runs, as without tiles, and so to the same bits. */
#include "backends/cpu/ukernel/ukernel_amx.h"
#include "backends/cpu/ukernel/ukernel_int.h"
#include <stdio.h>

#define WIDTH (TN_CPU_AMX_PANELS * TN_CPU_PANEL) /* sums of a row */

enum { DEPTH, Q, D, A_STRIDE, B, PANEL_STRIDE, C, C_STRIDE, MORE, ROWS, ARGS };

typedef struct tileukr {
  tn_cpu_kernel *k;
  tn_ll *e;
  const ll_val *p;
  uint32_t tiles, run;
  ll_val room; /* i32 [tiles * 16][WIDTH]: what tiles are stored to */
} tileukr;

/* Sums of run i, to `room`. */
static void multiply_run(tileukr *u, ll_val i) {
  tn_ll *e = u->e;
  ll_val at = ll_mul(e, i, ll_k(e, u->run)), panel = ll_at(e, u->p[B], ll_mul(e, at, ll_k(e, TN_CPU_PANEL)));
  tn_cpu_amx_sums s = {"llvm.x86.tdpbssd",
                       u->tiles,
                       ll_at(e, u->p[Q], at),
                       u->p[A_STRIDE],
                       {panel, ll_at(e, panel, u->p[PANEL_STRIDE])}};
  ll_loop l;
  tn_cpu_amx_zero(u->k, u->tiles);
  ll_loop_begin(e, &l, ll_k(e, 0), ll_k(e, u->run / TN_CPU_AMX_LINE), ll_k(e, 1), NULL, 0);
  tn_cpu_amx_step(u->k, &s, l.iv);
  ll_loop_end(e, &l, NULL);
  tn_cpu_amx_store(u->k, u->tiles, u->room, ll_k(e, WIDTH * 4));
}

/* Adds the sums of run i to C; the first of all writes it. */
static void add_run(tileukr *u, ll_val i) {
  tn_ll *e = u->e;
  ll_val more = ll_splat(e, ll_or(e, u->p[MORE], ll_icmp(e, LLVMIntNE, i, ll_k(e, 0))));
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), u->p[ROWS], ll_k(e, 1), NULL, 0);
  ll_val scale = ll_at(e, u->p[D], ll_iadd(e, ll_mul(e, l.iv, u->p[A_STRIDE]), ll_mul(e, i, ll_k(e, 4))));
  ll_val d = ll_splat(e, ll_load(e, e->f32, scale, 4));
  ll_val from = ll_at(e, u->room, ll_mul(e, l.iv, ll_k(e, WIDTH * 4)));
  ll_val to = ll_at(e, u->p[C], ll_mul(e, l.iv, u->p[C_STRIDE]));
  for (uint32_t v = 0; v < WIDTH / e->lanes; v++) {
    ll_val off = ll_k(e, (int64_t)v * e->lanes * 4), at = ll_at(e, to, off);
    ll_val sum = ll_load(e, ll_vec(e, e->i32), ll_at(e, from, off), 4);
    sum = LLVMBuildSIToFP(e->b, sum, ll_vec(e, e->f32), "");
    ll_store(e, ll_fma(e, sum, d, ll_load_masked(e, ll_vec(e, e->f32), at, more, 4)), at, 4);
  }
  ll_loop_end(e, &l, NULL);
}

static void write_body(tileukr *u) {
  tn_ll *e = u->e;
  ll_loop l;
  u->room = ll_alloca(e, (uint64_t)u->tiles * TN_CPU_AMX_TILE * WIDTH * 4);
  ll_loop_begin(e, &l, ll_k(e, 0), ll_udiv(e, u->p[DEPTH], ll_k(e, u->run)), ll_k(e, 1), NULL, 0);
  multiply_run(u, l.iv);
  add_run(u, l.iv);
  ll_loop_end(e, &l, NULL);
  LLVMBuildRetVoid(e->b);
}

static ll_val function_of(tn_cpu_kernel *k, const tn_cpu_int_form *f, uint32_t tiles) {
  tn_ll *e = k->e;
  char name[64];
  snprintf(name, sizeof name, "amxdot%u_%ux%u", f->run, tiles * TN_CPU_AMX_TILE, TN_CPU_AMX_PANELS);
  ll_val fn = tn_cpu_shared_find(k->u, name), p[ARGS];
  if (fn) return fn;
  tn_cpu_shared shared = tn_cpu_shared_begin(k->u);
  ll_type args[ARGS] = {e->i64, e->ptr, e->ptr, e->i64, e->ptr, e->i64, e->ptr, e->i64, e->i1, e->i64};
  fn = ll_func(e, name, e->tvoid, args, ARGS, false, true);
  ll_func_attr(e, fn, "prefer-vector-width", k->u->isa->vector_width);
  LLVMGetParams(fn, p);
  tileukr u = {.k = k, .e = e, .p = p, .tiles = tiles, .run = f->run};
  write_body(&u);
  return tn_cpu_shared_end(k->u, &shared, fn);
}

bool tn_cpu_int_amx_fits(const tn_cpu_isa *isa, const tn_cpu_int_form *f) {
  return isa->amx && f->plain && f->run == f->block && f->run % TN_CPU_AMX_LINE == 0;
}

void tn_cpu_int_amx_call(tn_cpu_kernel *k, const tn_cpu_int_form *f, ll_val rows, const tn_cpu_int_tile *t) {
  tn_ll *e = k->e;
  ll_val args[ARGS] = {t->depth,        t->q, t->d,        t->a_stride, t->b,
                       t->panel_stride, t->c, t->c_stride, t->more,     rows};
  ll_if one;
  ll_if_begin(e, &one, ll_icmp(e, LLVMIntSLE, rows, ll_k(e, TN_CPU_AMX_TILE)));
  for (uint32_t tiles = 1; tiles <= TN_CPU_AMX_ROWS / TN_CPU_AMX_TILE; tiles++) {
    if (tiles > 1) ll_if_else(e, &one);
    ll_val fn = function_of(k, f, tiles);
    LLVMBuildCall2(e->b, LLVMGlobalGetValueType(fn), fn, args, ARGS, "");
  }
  ll_if_end(e, &one);
  tn_ll_body_forget(&k->body);
}
