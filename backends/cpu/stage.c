/* stage.c - panels of a B that nobody packed and whose values are a lot of code to rebuild: a column at a
 * time, vectors of consecutive k, spread over the panel's rows. */
#include "backends/cpu/ukernel/ukernel.h"

typedef struct column {
  const tn_cpu_stage *s;
  ll_val number, to;
} column;

static void stage_values(tn_cpu_kernel *k, void *ctx, tn_ll_ix at_k, ll_val mask, ll_val *acc) {
  const column *c = ctx;
  tn_ll *e = k->e;
  (void)acc;
  ll_val v = ll_wide(e, c->s->value(k, c->s->ctx, c->number, at_k, mask), true);
  for (uint32_t i = 0; i < e->lanes; i++) {
    ll_val to = ll_at(e, c->to, ll_mul(e, ll_iadd(e, at_k.v, ll_k(e, i)), ll_k(e, TN_CPU_PANEL * 4)));
    if (mask)
      to = ll_select(e, ll_lane(e, mask, i), to, c->s->spare); /* behind the end: nowhere that counts */
    ll_store(e, ll_lane(e, v, i), to, 4);
  }
}

void tn_cpu_stage_columns(tn_cpu_kernel *k, const tn_cpu_stage *s) {
  tn_ll *e = k->e;
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), ll_k(e, (int64_t)s->panels * TN_CPU_PANEL), ll_k(e, 1), NULL, 0);
  tn_ll_body_forget(&k->body);
  ll_val panel = ll_udiv(e, l.iv, ll_k(e, TN_CPU_PANEL)), lane = ll_urem(e, l.iv, ll_k(e, TN_CPU_PANEL));
  ll_val to = ll_add(e, ll_mul(e, panel, ll_imul(e, s->depth, ll_k(e, TN_CPU_PANEL * 4))),
                     ll_mul(e, lane, ll_k(e, 4)));
  column c = {s, ll_imin(e, ll_add(e, s->n0, l.iv), ll_sub(e, s->n, ll_k(e, 1))), ll_at(e, s->to, to)};
  tn_cpu_columns(k, ll_k(e, 0), s->depth, stage_values, &c, NULL, 0);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&k->body);
}
