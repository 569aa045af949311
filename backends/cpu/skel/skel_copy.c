/* skel_copy.c - rows of a block format as they are, all of them or gathered: each block's bytes from a plain
 * or packed buffer to a plain one. Only where nothing in the same kernel takes the blocks apart. */
#include "backends/cpu/kernel.h"
#include "backends/llvm/block.h"
#include "backends/llvm/convert.h"

typedef struct copy {
  tn_cpu_kernel *k;
  const tn_quant *q;
  tn_value data, indices; /* indices 0: all rows */
  tn_type_info td, ti, to;
  uint32_t axis;
  ll_val blocks; /* of a row */
} copy;

/* Row of `data` (over all its dims but the last) for a row of the result; *in: there is one. */
static ll_val source_row(copy *c, const tn_cpu_rows *rows, ll_val *in) {
  tn_ll *e = c->k->e;
  tn_ll_body *b = &c->k->body;
  tn_ll_index at = {.rank = c->ti.rank};
  for (uint32_t i = 0; i < c->ti.rank; i++) at.at[i] = rows->at[c->axis + i];
  ll_val n = tn_ll_dim(b, c->td.dims[c->axis]), row = ll_k(e, 0);
  ll_val id = tn_ll_convert(e, c->ti.dtype, TN_DT_i64, tn_ll_eval(b, c->indices, &at));
  id = ll_select(e, ll_icmp(e, LLVMIntSLT, id, ll_k(e, 0)), ll_add(e, id, n), id);
  *in = ll_icmp(e, LLVMIntULT, id, n);
  for (uint32_t i = 0; i + 1 < c->td.rank; i++) {
    ll_val x = i == c->axis ? id : rows->at[i < c->axis ? i : i + c->ti.rank - 1].v;
    row = ll_iadd(e, ll_imul(e, row, tn_ll_dim(b, c->td.dims[i])), x);
  }
  return row;
}

/* One block, field by field; from NULL: zeros. */
static void copy_block(copy *c, ll_val from, ll_val row, ll_val to) {
  tn_ll *e = c->k->e;
  for (uint32_t at = 0, start, size; at < c->q->bytes; at += size) {
    size = tn_block_field(c->q, at, &start);
    ll_type t = size == 1 ? e->i8 : size == 2 ? e->i16 : e->i32;
    ll_val v = ll_zero(t), off = ll_k(e, at);
    if (from && row) off = ll_add(e, ll_k(e, (int64_t)at * TN_BLOCK_ROWS), ll_mul(e, row, ll_k(e, size)));
    if (from) v = ll_load(e, t, ll_at(e, from, off), 1);
    ll_store(e, v, ll_at(e, to, ll_k(e, at)), 1);
  }
}

static void copy_row(copy *c, ll_val from, ll_val row, ll_val size, ll_val to) {
  tn_ll *e = c->k->e;
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), c->blocks, ll_k(e, 1), NULL, 0);
  ll_val source = from ? ll_at(e, from, ll_mul(e, l.iv, size)) : NULL;
  copy_block(c, source, row, ll_at(e, to, ll_mul(e, l.iv, ll_k(e, c->q->bytes))));
  ll_loop_end(e, &l, NULL);
}

static void take_row(copy *c, const tn_cpu_rows *rows, ll_val out) {
  tn_ll *e = c->k->e;
  ll_val in = NULL, row = c->indices ? source_row(c, rows, &in) : rows->flat, lane = NULL,
         size = ll_k(e, c->q->bytes);
  ll_val to = ll_at(e, out, ll_mul(e, rows->flat, ll_mul(e, c->blocks, size)));
  if (c->td.layout) {
    lane = ll_urem(e, row, ll_k(e, TN_BLOCK_ROWS));
    row = ll_udiv(e, row, ll_k(e, TN_BLOCK_ROWS));
    size = ll_k(e, (int64_t)c->q->bytes * TN_BLOCK_ROWS);
  }
  ll_val from = ll_at(e, tn_cpu_arg_buffer(c->k, c->data), ll_mul(e, row, ll_mul(e, c->blocks, size)));
  ll_if found;
  if (in) ll_if_begin(e, &found, in);
  copy_row(c, from, lane, size, to);
  if (!in) return;
  ll_if_else(e, &found);
  copy_row(c, NULL, NULL, size, to);
  ll_if_end(e, &found);
}

/* Where v comes from; false: it is made in some other way. */
static bool read_source(copy *c, tn_value v) {
  tn_cpu_kernel *k = c->k;
  const tn_ir *ir = k->u->ir;
  tn_value_info i;
  ir->value_get(k->u->m, v, &i);
  c->data = v;
  if (i.kind == TN_VALUE_RESULT && !strcmp(ir->opcode_name(ir->opcode(k->u->m, i.op)), "gather")) {
    c->data = ir->op_operand(k->u->m, i.op, 0);
    c->indices = ir->op_operand(k->u->m, i.op, 1);
    c->ti = tn_cpu_type(k, c->indices);
    c->axis = tn_ll_axis(tn_ll_attr_int(&k->body, i.op, "axis"), tn_cpu_type(k, c->data).rank);
  }
  c->td = tn_cpu_type(k, c->data);
  return tn_cpu_arg_buffer(k, c->data) != NULL;
}

void tn_cpu_copy_blocks(tn_cpu_kernel *k, tn_value v, ll_val out) {
  copy c = {.k = k, .to = tn_cpu_type(k, v)};
  c.q = tn_quant_of(c.to.dtype);
  if (!read_source(&c, v)) {
    tn_ll_fail(k->e, "blocks of '%s' can only be copied or gathered from a buffer", c.q->name);
    return;
  }
  c.blocks = ll_udiv(k->e, tn_ll_dim(&k->body, c.to.dims[c.to.rank - 1]), ll_k(k->e, c.q->values));
  ll_val sizes[TN_MAX_RANK], lo, hi;
  for (uint32_t d = 0; d + 1 < c.to.rank; d++) sizes[d] = tn_ll_dim(&k->body, c.to.dims[d]);
  tn_cpu_share(k, tn_ll_dims(&k->body, c.to.dims, 0, c.to.rank - 1), &lo, &hi);
  tn_cpu_rows rows;
  tn_cpu_rows_begin(k, &rows, sizes, c.to.rank - 1, lo, hi);
  take_row(&c, &rows, out);
  tn_cpu_rows_end(k, &rows);
}
