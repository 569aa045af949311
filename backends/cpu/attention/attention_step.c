/* attention_step.c - the newest key and value of a step of decoding: evaluated (with what comes before, such
 * as a rotation), written as rows of their caches in the caches' type, and seen first by every row of the
 * unit, as they read back from there. A unit that is not to write the caches has the rows in scratch. */
#include "backends/cpu/attention/attention.h"
#include "backends/llvm/convert.h"

static tn_op maker(tn_cpu_att *a, tn_value v) {
  const tn_ir *ir = a->k->u->ir;
  tn_value_info i;
  ir->value_get(a->k->u->m, v, &i);
  bool made =
      i.kind == TN_VALUE_RESULT && !strcmp(ir->opcode_name(ir->opcode(a->k->u->m, i.op)), "kv_update");
  return made ? i.op : 0;
}

/* The caches are results of the kernel, which are not evaluated. */
void tn_cpu_att_step_read(tn_cpu_att *a) {
  tn_cpu_kernel *k = a->k;
  uint32_t n = 0;
  tn_value of[] = {a->key, a->v};
  for (uint32_t i = 0; i < 2; i++)
    if (maker(a, of[i])) a->step[i].x = k->u->ir->op_operand(k->u->m, maker(a, of[i]), 1);
  for (uint32_t y = 0; y < k->nyields; y++) {
    for (uint32_t i = 0; i < 2; i++)
      if (k->yields[y] == of[i]) a->step[i].cache = k->outs[y];
    if (maker(a, k->yields[y])) continue;
    k->yields[n] = k->yields[y];
    k->outs[n++] = k->outs[y];
  }
  k->nyields = n;
  for (uint32_t i = 0; i < 2; i++)
    if (a->step[i].x && (!a->step[i].cache || a->mask || a->bias || !tn_cpu_att_is_few(a)))
      tn_ll_fail(k->e, "attention shares a kernel with an update it does not make");
}

void tn_cpu_att_step_scratch(tn_cpu_att *a, uint32_t granule) {
  tn_cpu_kernel *k = a->k;
  tn_value of[] = {a->key, a->v};
  for (uint32_t i = 0; i < 2 && tn_cpu_att_is_step(a); i++) {
    tn_dim width = tn_cpu_att_width(a, tn_cpu_type(k, of[i]).dims[3], granule > 32 ? granule : 32);
    a->step[i].made = tn_cpu_scratch(k, width, 4);
    a->step[i].row = tn_cpu_scratch(k, width, 4);
  }
}

typedef struct fresh {
  tn_cpu_att *a;
  tn_value x, value; /* the new row; keys or values */
  tn_dtype from, to;
  ll_val at; /* the row in the cache's type */
  ll_val row;
} fresh;

static ll_val new_value(fresh *n, tn_ll_ix j, ll_val mask) {
  tn_ll_ix zero = tn_ll_ix_scalar(ll_k(n->a->k->e, 0));
  tn_ll_index ix = {
      .rank = 4, .mask = mask, .at = {tn_ll_ix_scalar(n->a->b), zero, tn_ll_ix_scalar(n->a->hk), j}};
  return ll_wide(n->a->k->e, tn_ll_eval(&n->a->k->body, n->x, &ix), true);
}
static void write_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *none) {
  fresh *n = ctx;
  tn_ll *e = k->e;
  (void)none;
  uint32_t bytes = tn_ll_dtype_of(n->to).bytes;
  ll_val x = tn_ll_convert(e, n->from, n->to, new_value(n, j, mask));
  ll_store_masked(e, tn_ll_to_memory(e, n->to, x), ll_at(e, n->at, ll_imul(e, j.v, ll_k(e, bytes))), mask,
                  bytes);
}
static void read_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *none) {
  fresh *n = ctx;
  (void)none;
  ll_store(k->e, tn_cpu_att_load_at(n->a, n->to, n->at, j.v, mask), tn_cpu_att_elem(n->a, n->row, j.v), 4);
}
/* A row that another kernel has written. */
static void fetch_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *none) {
  fresh *n = ctx;
  (void)none;
  ll_store(k->e, tn_cpu_att_load(n->a, n->value, n->a->last, j, mask), tn_cpu_att_elem(n->a, n->row, j.v), 4);
}
static void write_blocks(fresh *n, ll_val width) {
  tn_ll *e = n->a->k->e;
  ll_val x[32];
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), width, ll_k(e, 32), NULL, 0);
  tn_ll_body_forget(&n->a->k->body);
  for (uint32_t v = 0; v < 32 / e->lanes; v++) {
    tn_ll_ix j = tn_ll_ix_lanes(ll_iadd(e, l.iv, ll_k(e, (int64_t)v * e->lanes)), true);
    x[v] = tn_ll_convert(e, n->from, TN_DT_f32, new_value(n, j, NULL));
  }
  ll_val block = ll_mul(e, ll_lshr(e, l.iv, ll_k(e, 5)), ll_k(e, TN_CPU_Q8_BYTES));
  tn_cpu_pack_q8(n->a->k, x, ll_at(e, n->at, block));
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&n->a->k->body);
}

static void make_row(tn_cpu_att *a, uint32_t side, ll_val cache_row) {
  tn_ll *e = a->k->e;
  tn_value v = side ? a->v : a->key;
  ll_val width = side ? a->dv : a->d, zero = ll_k(e, 0);
  fresh n = {.a = a, .x = a->step[side].x, .value = v, .row = a->step[side].row};
  if (!n.x) {
    tn_cpu_columns(a->k, zero, width, fetch_column, &n, NULL, 0);
    return;
  }
  ll_val own = ll_at(e, a->step[side].cache, tn_cpu_att_row_bytes(a, v, cache_row));
  n.from = tn_cpu_type(a->k, n.x).dtype;
  n.to = tn_cpu_type(a->k, v).dtype;
  n.at = ll_select(e, ll_icmp(e, LLVMIntEQ, a->r0, zero), own, a->step[side].made);
  if (n.to >= TN_DT_BLOCK)
    write_blocks(&n, width);
  else
    tn_cpu_columns(a->k, zero, width, write_column, &n, NULL, 0);
  tn_cpu_columns(a->k, zero, width, read_column, &n, NULL, 0);
}

/* ---- what every row of the unit sees first ---- */
static void dot_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *acc) {
  fresh *n = ctx;
  tn_ll *e = k->e;
  ll_type t = ll_vec(e, e->f32);
  ll_val q = ll_load(e, t, tn_cpu_att_elem(n->a, n->at, j.v), 4);
  ll_val key = ll_load_masked(e, t, tn_cpu_att_elem(n->a, n->row, j.v), mask, 4);
  acc[0] = ll_fma(e, q, key, acc[0]);
}
static void copy_column(tn_cpu_kernel *k, void *ctx, tn_ll_ix j, ll_val mask, ll_val *none) {
  fresh *n = ctx;
  tn_ll *e = k->e;
  (void)none;
  (void)mask;
  ll_store(e, ll_load(e, ll_vec(e, e->f32), tn_cpu_att_elem(n->a, n->row, j.v), 4),
           tn_cpu_att_elem(n->a, n->at, j.v), 4);
}

static void begin_row(tn_cpu_att *a, ll_val i) {
  tn_ll *e = a->k->e;
  ll_val zero = ll_k(e, 0), acc = ll_zero(ll_vec(e, e->f32)), query, head, kb = a->kb, kn = a->kn;
  fresh q = {.a = a, .at = ll_at(e, a->qs, ll_mul(e, i, a->q_stride)), .row = a->step[0].row};
  tn_cpu_columns(a->k, zero, a->d, dot_column, &q, &acc, 1);
  tn_cpu_att_row(a, i, &query, &head);
  a->kb = a->last;
  a->kn = ll_k(e, 1);
  ll_val score = ll_lane(e, tn_cpu_att_mask(a, ll_splat(e, ll_reduce_fadd(e, acc)), query, head, zero), 0);
  a->kb = kb;
  a->kn = kn;
  ll_store(e, score, tn_cpu_att_elem(a, a->top, i), 4);
  ll_store(e, ll_real(e, e->f32, 1), tn_cpu_att_elem(a, a->sum, i), 4);
  fresh v = {.a = a, .at = ll_at(e, a->acc, ll_mul(e, i, a->acc_stride)), .row = a->step[1].row};
  tn_cpu_columns(a->k, zero, a->dv, copy_column, &v, NULL, 0);
}

void tn_cpu_att_step_begin(tn_cpu_att *a) {
  tn_ll *e = a->k->e;
  ll_val row = a->last;
  if (a->ring) row = ll_sub(e, row, a->lap);
  make_row(a, 0, row);
  make_row(a, 1, row);
  ll_if seen;
  ll_loop l;
  ll_val least = a->least ? a->least : ll_k(e, 0);
  ll_if_begin(e, &seen, ll_icmp(e, LLVMIntSLE, least, a->last)); /* not in a sequence of padding */
  ll_loop_begin(e, &l, ll_k(e, 0), a->nrows, ll_k(e, 1), NULL, 0);
  tn_ll_body_forget(&a->k->body);
  begin_row(a, l.iv);
  ll_loop_end(e, &l, NULL);
  ll_if_end(e, &seen);
  tn_ll_body_forget(&a->k->body);
}
