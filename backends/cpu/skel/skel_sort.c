/* skel_sort.c - sort: each line becomes pairs (64-bit key, index) in scratch, which a bottom-up
 * merge sort orders; both results are then read through the indices. Keys order like the numbers, 0 and -0
 * are equal, NaN is above all; merging takes the left of equals, so equal keys keep their order. */
#include "backends/cpu/kernel.h"
#include "backends/llvm/convert.h"

typedef struct order {
  tn_cpu_kernel *k;
  tn_value x;
  tn_type_info t;
  uint32_t axis;
  bool down;
  ll_val n;                /* of a line */
  ll_val keys[2], ids[2];  /* scratch, i64 [n] each, from which and into which a pass goes */
  const tn_cpu_rows *rows; /* over all axes but the sorted one */
} order;

static ll_val slot(order *o, ll_val base, ll_val i) {
  return ll_at(o->k->e, base, ll_mul(o->k->e, i, ll_k(o->k->e, 8)));
}
static ll_val get(order *o, ll_val base, ll_val i) {
  return ll_load(o->k->e, o->k->e->i64, slot(o, base, i), 8);
}
static void put(order *o, ll_val base, ll_val i, ll_val v) { ll_store(o->k->e, v, slot(o, base, i), 8); }

static tn_ll_index line_index(const order *o, ll_val at) {
  tn_ll_index ix = {.rank = o->t.rank};
  for (uint32_t i = 0, n = 0; i < o->t.rank; i++)
    ix.at[i] = i == o->axis ? tn_ll_ix_scalar(at) : o->rows->at[n++];
  return ix;
}

static ll_val key_of(order *o, ll_val x) {
  tn_ll *e = o->k->e;
  uint32_t cls = tn_ll_dtype_of(o->t.dtype).cls;
  ll_val key;
  if (cls == TN_CLASS_FLOAT) {
    ll_val f = tn_ll_convert(e, o->t.dtype, TN_DT_f64, x), i = ll_cast_bits(e, f, e->i64);
    ll_val size = ll_and(e, i, ll_k(e, INT64_MAX));
    key = ll_select(e, ll_icmp(e, LLVMIntSLT, i, ll_k(e, 0)), ll_sub(e, ll_k(e, 0), size), i);
    key = ll_select(e, ll_fcmp(e, LLVMRealUNO, f, f), ll_k(e, INT64_MAX), key);
  } else {
    key = tn_ll_convert(e, o->t.dtype, TN_DT_i64, x);
    if (cls == TN_CLASS_UINT) key = ll_xor(e, key, ll_k(e, INT64_MIN));
  }
  return o->down ? ll_not(e, key) : key;
}

static void fill(order *o) {
  tn_ll *e = o->k->e;
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), o->n, ll_k(e, 1), NULL, 0);
  tn_ll_body_forget(&o->k->body);
  tn_ll_index ix = line_index(o, l.iv);
  put(o, o->keys[0], l.iv, key_of(o, tn_ll_eval(&o->k->body, o->x, &ix)));
  put(o, o->ids[0], l.iv, l.iv);
  ll_loop_end(e, &l, NULL);
}

/* Merges [lo, mid) and [mid, hi) of one pair of arrays into the other. */
static void merge(order *o, ll_val from_keys, ll_val from_ids, ll_val to_keys, ll_val to_ids, ll_val lo,
                  ll_val width) {
  tn_ll *e = o->k->e;
  ll_val mid = ll_imin(e, ll_add(e, lo, width), o->n), hi = ll_imin(e, ll_add(e, mid, width), o->n);
  ll_val last = ll_sub(e, o->n, ll_k(e, 1)), init[] = {lo, mid}, next[2];
  ll_loop l;
  ll_loop_begin(e, &l, lo, hi, ll_k(e, 1), init, 2);
  ll_val i = l.phi[0], j = l.phi[1];
  ll_val ki = get(o, from_keys, ll_imin(e, i, last)), kj = get(o, from_keys, ll_imin(e, j, last));
  ll_val right_done = ll_icmp(e, LLVMIntSGE, j, hi), ordered = ll_icmp(e, LLVMIntSLE, ki, kj);
  ll_val left = ll_and(e, ll_icmp(e, LLVMIntSLT, i, mid), ll_or(e, right_done, ordered));
  ll_val at = ll_imin(e, ll_select(e, left, i, j), last);
  put(o, to_keys, l.iv, ll_select(e, left, ki, kj));
  put(o, to_ids, l.iv, get(o, from_ids, at));
  ll_val one = LLVMBuildZExt(e->b, left, e->i64, "");
  next[0] = ll_add(e, i, one);
  next[1] = ll_add(e, j, ll_xor(e, one, ll_k(e, 1)));
  ll_loop_end(e, &l, next);
}

/* Passes of doubling width; gives the indices in order. */
static ll_val merge_all(order *o) {
  tn_ll *e = o->k->e;
  ll_type t = e->i64;
  ll_val less = ll_sub(e, o->n, ll_k(e, 1)),
         args[] = {ll_imax(e, less, ll_k(e, 0)), LLVMConstInt(e->i1, 0, 0)};
  ll_val passes = ll_sub(e, ll_k(e, 64), ll_call(e, "llvm.ctlz", &t, 1, args, 2));
  ll_loop l, pairs;
  ll_loop_begin(e, &l, ll_k(e, 0), passes, ll_k(e, 1), NULL, 0);
  ll_val odd = ll_icmp(e, LLVMIntNE, ll_and(e, l.iv, ll_k(e, 1)), ll_k(e, 0));
  ll_val keys[] = {ll_select(e, odd, o->keys[1], o->keys[0]), ll_select(e, odd, o->keys[0], o->keys[1])};
  ll_val ids[] = {ll_select(e, odd, o->ids[1], o->ids[0]), ll_select(e, odd, o->ids[0], o->ids[1])};
  ll_val width = ll_shl(e, ll_k(e, 1), l.iv);
  ll_loop_begin(e, &pairs, ll_k(e, 0), o->n, ll_shl(e, width, ll_k(e, 1)), NULL, 0);
  merge(o, keys[0], ids[0], keys[1], ids[1], pairs.iv, width);
  ll_loop_end(e, &pairs, NULL);
  ll_loop_end(e, &l, NULL);
  ll_val swapped = ll_icmp(e, LLVMIntNE, ll_and(e, passes, ll_k(e, 1)), ll_k(e, 0));
  return ll_select(e, swapped, o->ids[1], o->ids[0]);
}

static void write_out(order *o, ll_val ids) {
  tn_cpu_kernel *k = o->k;
  tn_ll *e = k->e;
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), o->n, ll_k(e, 1), NULL, 0);
  tn_ll_body_forget(&k->body);
  ll_val id = get(o, ids, l.iv);
  tn_ll_index to = line_index(o, l.iv), from = line_index(o, id);
  for (uint32_t i = 0; i < k->nyields; i++) {
    if (k->yields[i] == tn_cpu_result(k, 0))
      tn_ll_store_at(&k->body, k->yields[i], k->outs[i], &to, tn_ll_eval(&k->body, o->x, &from));
    else if (k->yields[i] == tn_cpu_result(k, 1))
      tn_ll_store_at(&k->body, k->yields[i], k->outs[i], &to, id);
    else
      tn_ll_fail(e, "%s shares a kernel with other results", k->root_name);
  }
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&k->body);
}

void tn_cpu_emit_sort(tn_cpu_kernel *k) {
  tn_ll *e = k->e;
  order o = {.k = k, .x = tn_cpu_operand(k, 0)};
  o.t = tn_cpu_type(k, o.x);
  o.axis = tn_ll_axis(tn_ll_attr_int(&k->body, k->root, "axis"), o.t.rank);
  o.down = tn_ll_attr_int(&k->body, k->root, "descending");
  o.n = tn_ll_dim(&k->body, o.t.dims[o.axis]);
  for (int i = 0; i < 2; i++) {
    o.keys[i] = tn_cpu_scratch(k, o.t.dims[o.axis], 8);
    o.ids[i] = tn_cpu_scratch(k, o.t.dims[o.axis], 8);
  }
  ll_val sizes[TN_MAX_RANK], lines = ll_k(e, 1), lo, hi;
  uint32_t n = 0;
  for (uint32_t i = 0; i < o.t.rank; i++) {
    if (i == o.axis) continue;
    sizes[n] = tn_ll_dim(&k->body, o.t.dims[i]);
    lines = ll_imul(e, lines, sizes[n++]);
  }
  tn_cpu_share(k, lines, &lo, &hi);
  tn_cpu_rows rows;
  tn_cpu_rows_begin(k, &rows, sizes, n, lo, hi);
  o.rows = &rows;
  fill(&o);
  write_out(&o, merge_all(&o));
  tn_cpu_rows_end(k, &rows);
}
