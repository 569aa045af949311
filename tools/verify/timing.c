/* timing.c - for the report: the least time of a call on both sides, taken by turns, and where its memory
 * goes. */
#include "tools/verify/verify.h"

enum { ROUNDS = 5 };

static tn_status call(tn_verify *v, tn_side *x, double *least) {
  const tn_model_api *api = x->o.api;
  tn_status s = api->session_reset(x->s);
  double begin = tn_now();
  if (s == TN_OK) s = api->invoke(x->s, (uint32_t)x->entry, x->in, x->out);
  double took = 1e3 * (tn_now() - begin);
  if (took < *least) *least = took;
  return s == TN_OK ? s : tn_fail(v->d, s, x->spec, NULL, "%s", api->error(x->s));
}

/* Only of models of this process: a library's runtime is its own. */
static tn_status memory(tn_verify *v, const char *entry) {
  tn_rt_use use[2];
  for (int i = 0; i < 2; i++) {
    if (!v->sides[i].o.module) return TN_OK;
    tn_rt_memory_use(v->sides[i].s, &use[i]);
  }
  const tn_verify_use rows[] = {{"weights", {use[0].weights, use[1].weights}},
                                {"states", {use[0].states, use[1].states}},
                                {"intermediate values", {use[0].arena, use[1].arena}},
                                {"scratch", {use[0].scratch, use[1].scratch}}};
  for (size_t i = 0; i < TN_COUNT(rows); i++) {
    tn_verify_use row = rows[i];
    if (!row.bytes[0] && !row.bytes[1]) continue;
    row.what = tn_arena_printf(&v->arena, "%s: %s", entry, rows[i].what);
    if (!row.what || !tn_vec_push(&v->uses, row)) return TN_OOM;
  }
  return TN_OK;
}

tn_status tn_verify_time_sides(tn_verify *v) {
  tn_entry_info e;
  tn_verify_time t = {.ms = {1e300, 1e300}};
  for (int i = 0; i < 2; i++)
    for (uint32_t k = 0; k < v->sides[i].nout; k++)
      if (!v->sides[i].out[k].data) return TN_OK;
  for (int round = 0; round < ROUNDS; round++)
    for (int i = 0; i < 2; i++) TN_TRY(call(v, &v->sides[i], &t.ms[i]));
  v->sides[0].o.api->entry(v->sides[0].o.model, (uint32_t)v->sides[0].entry, &e);
  t.what = tn_arena_printf(&v->arena, "%s, %lld x %lld", e.name, (long long)v->batch, (long long)v->length);
  if (!t.what || !tn_vec_push(&v->times, t)) return TN_OOM;
  return memory(v, t.what);
}
