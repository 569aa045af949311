/* conv_ukernel.c - the micro-kernel of convolutions: a block of outputs times some vectors of positions, over
 * all channels and taps, in registers. A tap says where its input and its weights lie. */
#include "backends/cpu/conv/conv.h"
#include "backends/cpu/ukernel/ukernel.h"

enum { CHANNELS, TAPS, TABLE, W, W_STEP, X, X_STEP, C, C_STRIDE, MORE, LEFT, ARGS };

typedef struct ukr {
  tn_ll *e;
  uint32_t rows, vectors;
  ll_val p[ARGS], mask[8];
} ukr;

static ll_val cell(ukr *u, uint32_t i) {
  tn_ll *e = u->e;
  ll_val row = ll_at(e, u->p[C], ll_imul(e, u->p[C_STRIDE], ll_k(e, i / u->vectors)));
  return ll_at(e, row, ll_k(e, (int64_t)(i % u->vectors) * e->lanes * 4));
}

/* One channel and tap. */
static void step(ukr *u, ll_val tap, ll_val x, ll_val w, const ll_val *acc, ll_val *next) {
  tn_ll *e = u->e;
  ll_val entry = ll_at(e, u->p[TABLE], ll_mul(e, tap, ll_k(e, 16))), in[8];
  x = ll_at(e, x, ll_load(e, e->i64, entry, 8));
  w = ll_at(e, w, ll_load(e, e->i64, ll_at(e, entry, ll_k(e, 8)), 8));
  for (uint32_t v = 0; v < u->vectors; v++)
    in[v] =
        ll_load_masked(e, ll_vec(e, e->f32), ll_at(e, x, ll_k(e, (int64_t)v * e->lanes * 4)), u->mask[v], 4);
  for (uint32_t r = 0; r < u->rows; r++) {
    ll_val a = ll_splat(e, ll_load(e, e->f32, ll_at(e, w, ll_k(e, (int64_t)r * 4)), 4));
    for (uint32_t v = 0; v < u->vectors; v++)
      next[r * u->vectors + v] = ll_fma(e, a, in[v], acc[r * u->vectors + v]);
  }
}

/* dt 0 is how these are told from matmul's in the unit's list; fetch stands for masked. */
static ll_val write_ukr(tn_cpu_kernel *k, tn_dtype dt, uint32_t rows, uint32_t vectors, uint32_t masked) {
  tn_ll *e = k->e;
  char name[48];
  (void)dt;
  snprintf(name, sizeof name, "conv%s_%ux%u", masked ? "_masked" : "", rows, vectors);
  ll_type args[ARGS] = {e->i64, e->i64, e->ptr, e->ptr, e->i64, e->ptr,
                        e->i64, e->ptr, e->i64, e->i1,  e->i64};
  ll_val fn = ll_func(e, name, e->tvoid, args, ARGS, true, true), acc[LL_LOOP_PHIS];
  ll_func_attr(e, fn, "prefer-vector-width", k->u->isa->vector_width);
  ukr u = {.e = e, .rows = rows, .vectors = vectors};
  for (uint32_t i = 0; i < ARGS; i++) u.p[i] = LLVMGetParam(fn, i);
  for (uint32_t v = 0; masked && v < vectors; v++)
    u.mask[v] =
        ll_mask_below(e, ll_imax(e, ll_sub(e, u.p[LEFT], ll_k(e, (int64_t)v * e->lanes)), ll_k(e, 0)));
  ll_val all = ll_splat(e, u.p[MORE]);
  uint32_t cells = rows * vectors;
  for (uint32_t i = 0; i < cells; i++) acc[i] = ll_load_masked(e, ll_vec(e, e->f32), cell(&u, i), all, 4);
  ll_loop channels, taps;
  ll_loop_begin(e, &channels, ll_k(e, 0), u.p[CHANNELS], ll_k(e, 1), acc, cells);
  ll_val x = ll_at(e, u.p[X], ll_mul(e, channels.iv, u.p[X_STEP]));
  ll_val w = ll_at(e, u.p[W], ll_mul(e, channels.iv, u.p[W_STEP]));
  ll_loop_begin(e, &taps, ll_k(e, 0), u.p[TAPS], ll_k(e, 1), channels.phi, cells);
  step(&u, taps.iv, x, w, taps.phi, acc);
  ll_loop_end(e, &taps, acc);
  ll_loop_end(e, &channels, taps.out);
  for (uint32_t i = 0; i < cells; i++) ll_store(e, channels.out[i], cell(&u, i), 4);
  LLVMBuildRetVoid(e->b);
  return fn;
}

void tn_cpu_conv_call(tn_cpu_kernel *k, uint32_t rows, uint32_t vectors, bool masked,
                      const tn_cpu_conv_tile *t) {
  tn_ll *e = k->e;
  ll_val args[ARGS] = {t->channels,
                       t->taps,
                       t->table,
                       t->w,
                       t->w_step,
                       t->x,
                       t->x_step,
                       t->c,
                       t->c_stride,
                       t->more,
                       t->left ? t->left : ll_k(e, 0)};
  ll_val fn = tn_cpu_ukr_of(k, TN_DT_NONE, rows, vectors, masked, write_ukr);
  LLVMBuildCall2(e->b, LLVMGlobalGetValueType(fn), fn, args, ARGS, "");
  tn_ll_body_forget(&k->body);
}
