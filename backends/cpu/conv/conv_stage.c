/* conv_stage.c - what a tile of a convolution reads, in scratch: the input with its padding, apart by phase,
 * and weights that are not stored as panels. */
#include "backends/cpu/conv/conv.h"
#include "backends/cpu/ukernel/ukernel.h"
#include "backends/llvm/convert.h"

/* ---- input ---- */
/* A row of the band: its coordinates in x, and whether it lies inside. */
typedef struct row {
  tn_cpu_conv *v;
  ll_val c, z, y, inside, to;
} row;

static ll_val within(tn_ll *e, ll_val i, ll_val n) { return ll_icmp(e, LLVMIntULT, i, n); }

/* Lanes of x0, x0 + step, ... that lie in [0, n). */
static ll_val lanes_within(tn_ll *e, ll_val x0, int64_t step, ll_val n) {
  ll_val t = ll_splat(e, LLVMBuildTrunc(e->b, x0, e->i32, ""));
  ll_val steps = ll_mul(e, ll_steps(e, e->i32), ll_int(e, ll_vec(e, e->i32), step));
  return ll_icmp(e, LLVMIntULT, ll_add(e, t, steps), ll_splat(e, LLVMBuildTrunc(e->b, n, e->i32, "")));
}

static ll_val load_row(row *r, ll_val x0, int64_t step) {
  tn_cpu_conv *v = r->v;
  tn_ll *e = v->k->e;
  tn_ll_index ix = {.rank = v->tx.rank, .pred = r->inside};
  ll_val at[TN_CONV_AXES] = {r->z, r->y};
  ll_val channel = ll_add(e, ll_add(e, ll_mul(e, v->group, v->channels), v->c0), r->c);
  ix.at[0] = tn_ll_ix_scalar(v->image);
  ix.at[1] = tn_ll_ix_scalar(channel);
  for (uint32_t i = 0; i + 1 < v->spatial; i++)
    ix.at[2 + i] = tn_ll_ix_scalar(at[TN_CONV_AXES - v->spatial + i]);
  ix.mask = lanes_within(e, x0, step, v->axis[TN_CONV_X].in);
  tn_ll_ix x = tn_ll_ix_lanes(x0, false);
  if (step != 1) {
    ll_val lanes = ll_mul(e, ll_steps(e, e->i64), ll_int(e, ll_vec(e, e->i64), step));
    x = (tn_ll_ix){ll_add(e, ll_splat(e, x0), lanes), TN_IX_VECTOR, 0};
  }
  ix.at[v->tx.rank - 1] = x;
  tn_ll_body_forget(&v->k->body);
  return ll_wide(e, tn_ll_eval_f32(&v->k->body, v->x, &ix), true);
}

/* The input coordinate of position 0 of the tile, phase 0. */
static ll_val origin(tn_cpu_conv *v, const tn_cpu_axis *a) {
  tn_ll *e = v->k->e;
  if (v->transposed) return ll_sub(e, a->at, ll_k(e, a->reach));
  return ll_sub(e, ll_mul(e, a->at, ll_k(e, a->stride)), a->low);
}

/* Two phases at once: every other element of two vectors. */
static void stage_pairs(row *r, ll_val col, ll_val x0) {
  tn_cpu_conv *v = r->v;
  tn_ll *e = v->k->e;
  int even[64], odd[64];
  for (uint32_t i = 0; i < e->lanes; i++) even[i] = (int)(2 * i), odd[i] = (int)(2 * i + 1);
  ll_val from = ll_add(e, x0, ll_mul(e, col, ll_k(e, 2)));
  ll_val a = load_row(r, from, 1), b = load_row(r, ll_add(e, from, ll_k(e, e->lanes)), 1);
  ll_val to = ll_at(e, r->to, ll_mul(e, col, ll_k(e, 4)));
  ll_store(e, ll_shuffle(e, a, b, even, e->lanes), to, 4);
  if (v->axis[TN_CONV_X].in_phases > 1)
    ll_store(e, ll_shuffle(e, a, b, odd, e->lanes), ll_at(e, to, ll_mul(e, v->region, ll_k(e, 4))), 4);
}

static void stage_phases(row *r, ll_val col, ll_val x0) {
  tn_cpu_conv *v = r->v;
  tn_ll *e = v->k->e;
  const tn_cpu_axis *a = &v->axis[TN_CONV_X];
  int64_t step = v->transposed ? 1 : a->stride;
  ll_loop l;
  ll_val from = ll_add(e, x0, ll_mul(e, col, ll_k(e, step))),
         to = ll_at(e, r->to, ll_mul(e, col, ll_k(e, 4)));
  ll_loop_begin(e, &l, ll_k(e, 0), ll_k(e, a->in_phases), ll_k(e, 1), NULL, 0);
  ll_val x = load_row(r, ll_add(e, from, l.iv), step);
  ll_store(e, x, ll_at(e, to, ll_mul(e, l.iv, ll_mul(e, v->region, ll_k(e, 4)))), 4);
  ll_loop_end(e, &l, NULL);
}

/* A vector may run over the end of its row: the next row follows, or the gap behind the plane. */
static void stage_row(row *r) {
  tn_cpu_conv *v = r->v;
  tn_ll *e = v->k->e;
  const tn_cpu_axis *a = &v->axis[TN_CONV_X];
  ll_val x0 = origin(v, a), width = ll_add(e, a->now, ll_k(e, a->reach));
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), width, ll_k(e, e->lanes), NULL, 0);
  if (!v->transposed && a->stride == 2)
    stage_pairs(r, l.iv, x0);
  else
    stage_phases(r, l.iv, x0);
  ll_loop_end(e, &l, NULL);
}

/* Rows of one phase of one plane of one channel. */
static void stage_plane(row *r, ll_val z_inside) {
  tn_cpu_conv *v = r->v;
  tn_ll *e = v->k->e;
  const tn_cpu_axis *a = &v->axis[TN_CONV_Y], *x = &v->axis[TN_CONV_X];
  int64_t step = v->transposed ? 1 : a->stride;
  ll_val base = r->to, y0 = origin(v, a);
  ll_loop phases, rows;
  ll_loop_begin(e, &phases, ll_k(e, 0), ll_k(e, a->in_phases), ll_k(e, 1), NULL, 0);
  ll_val plane = ll_mul(e, phases.iv, ll_mul(e, v->region, ll_k(e, 4 * x->in_phases)));
  ll_loop_begin(e, &rows, ll_k(e, 0), ll_add(e, a->now, ll_k(e, a->reach)), ll_k(e, 1), NULL, 0);
  r->y = ll_add(e, ll_add(e, y0, phases.iv), ll_mul(e, rows.iv, ll_k(e, step)));
  r->inside = ll_and(e, z_inside, within(e, r->y, a->in));
  r->to = ll_at(e, base, ll_add(e, plane, ll_mul(e, rows.iv, ll_mul(e, v->pitch, ll_k(e, 4)))));
  stage_row(r);
  ll_loop_end(e, &rows, NULL);
  ll_loop_end(e, &phases, NULL);
}

void tn_cpu_conv_stage(tn_cpu_conv *v) {
  tn_ll *e = v->k->e;
  const tn_cpu_axis *a = &v->axis[TN_CONV_Z];
  int64_t planes = v->transposed ? a->reach + 1 : a->size, step = v->transposed ? 1 : a->dilation;
  row r = {.v = v};
  ll_loop channels, z;
  ll_loop_begin(e, &channels, ll_k(e, 0), v->nc, ll_k(e, 1), NULL, 0);
  ll_loop_begin(e, &z, ll_k(e, 0), ll_k(e, planes), ll_k(e, 1), NULL, 0);
  r.c = channels.iv;
  r.z = ll_add(e, origin(v, a), ll_mul(e, z.iv, ll_k(e, step)));
  ll_val to = ll_add(e, ll_mul(e, channels.iv, v->channel), ll_mul(e, z.iv, v->plane));
  r.to = ll_at(e, v->band, ll_mul(e, to, ll_k(e, 4)));
  stage_plane(&r, within(e, r.z, a->in));
  ll_loop_end(e, &z, NULL);
  ll_loop_end(e, &channels, NULL);
  tn_ll_body_forget(&v->k->body);
}

/* ---- weights ---- */
typedef struct column {
  tn_cpu_conv *v;
  ll_val first, to; /* where the run begins in w, and its first value in the panel */
} column;

static void stage_values(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *acc) {
  const column *c = ctx;
  tn_ll *e = k->e;
  (void)acc;
  tn_ll_index ix = {.rank = c->v->tw.rank, .collapsed = 1, .mask = mask, .shape = c->v->tw.dims};
  ix.line = tn_ll_ix_lanes(ll_add(e, c->first, j.v), false);
  ll_val w = ll_wide(e, tn_ll_eval_f32(&k->body, c->v->w, &ix), true);
  for (uint32_t i = 0; i < e->lanes; i++) {
    ll_val to = ll_at(e, c->to, ll_mul(e, ll_iadd(e, j.v, ll_k(e, i)), ll_k(e, TN_CPU_PANEL * 4)));
    if (mask) to = ll_select(e, ll_lane(e, mask, i), to, c->v->spare);
    ll_store(e, ll_lane(e, w, i), to, 4);
  }
}

/* w is [groups * outputs, channels, taps], or transposed [groups * channels, outputs, taps]. */
void tn_cpu_conv_stage_weights(tn_cpu_conv *v, ll_val panel) {
  tn_ll *e = v->k->e;
  ll_val o0 = ll_mul(e, panel, ll_k(e, TN_CPU_PANEL)), taps = ll_k(e, v->taps);
  ll_val rows = ll_imin(e, ll_sub(e, v->outputs, o0), ll_k(e, TN_CPU_PANEL));
  ll_val runs = v->transposed ? v->nc : ll_k(e, 1), length = v->transposed ? taps : ll_mul(e, v->nc, taps);
  ll_loop outputs, run;
  ll_loop_begin(e, &outputs, ll_k(e, 0), rows, ll_k(e, 1), NULL, 0);
  ll_loop_begin(e, &run, ll_k(e, 0), runs, ll_k(e, 1), NULL, 0);
  ll_val o = ll_add(e, o0, outputs.iv), c = ll_add(e, v->c0, run.iv), line;
  if (v->transposed)
    line = ll_add(e, ll_mul(e, ll_add(e, ll_mul(e, v->group, v->channels), c), v->outputs), o);
  else
    line = ll_add(e, ll_mul(e, ll_add(e, ll_mul(e, v->group, v->outputs), o), v->channels), c);
  ll_val to = ll_add(e, ll_mul(e, run.iv, ll_mul(e, length, ll_k(e, TN_CPU_PANEL * 4))),
                     ll_mul(e, outputs.iv, ll_k(e, 4)));
  column col = {v, ll_mul(e, line, taps), ll_at(e, v->weights, to)};
  tn_cpu_columns(v->k, ll_k(e, 0), length, stage_values, &col, NULL, 0);
  ll_loop_end(e, &run, NULL);
  ll_loop_end(e, &outputs, NULL);
  tn_ll_body_forget(&v->k->body);
}
