/* packed.c - see packed.h. A thread makes one byte of 4- or 2-bit integers, each evaluated by itself; or
 * moves a word of a row of blocks as they are, gathered or not. Only where nothing in the kernel takes the
 * blocks apart. */
#include "backends/cuda/skel/packed.h"
#include "backends/llvm/convert.h"
#include "ir/quant/quant.h"

bool tn_cuda_is_packed(tn_dtype t) { return t >= TN_DT_BLOCK || tn_ll_dtype_of(t).packed; }

/* ---- rows of blocks ------------------------------------------------------------------------------------ */

/* The largest word that divides a block. */
static uint32_t word_of(const tn_quant *q) { return q->bytes % 4 == 0 ? 4 : q->bytes % 2 == 0 ? 2 : 1; }
/* Words of a row. */
static tn_dim row_words(tn_cuda_kernel *k, const tn_type_info *t) {
  const tn_quant *q = tn_quant_of(t->dtype);
  tn_dim blocks = tn_cuda_dim_ceildiv(k, t->dims[t->rank - 1], q->values);
  return tn_cuda_dim_mul(k, blocks, tn_cuda_dim_k(k, q->bytes / word_of(q)));
}

typedef struct gather {
  tn_value data, indices; /* indices 0: all rows */
  tn_type_info td, ti, to;
  uint32_t axis;
} gather;

static bool read_gather(tn_cuda_kernel *k, tn_value v, gather *g) {
  const tn_ir *ir = k->u->ir;
  tn_value_info i;
  ir->value_get(k->u->m, v, &i);
  *g = (gather){.data = v, .to = tn_cuda_type(k, v)};
  if (i.kind == TN_VALUE_RESULT && !strcmp(ir->opcode_name(ir->opcode(k->u->m, i.op)), "gather")) {
    g->data = ir->op_operand(k->u->m, i.op, 0);
    g->indices = ir->op_operand(k->u->m, i.op, 1);
    g->ti = tn_cuda_type(k, g->indices);
    g->axis = tn_ll_axis(tn_ll_attr_int(&k->body, i.op, "axis"), tn_cuda_type(k, g->data).rank);
  }
  g->td = tn_cuda_type(k, g->data);
  if (tn_cuda_buffer(k, g->data, NULL)) return true;
  tn_ll_fail(k->e, "blocks of '%s' can only be copied or gathered from a buffer",
             tn_quant_of(g->to.dtype)->name);
  return false;
}

/* The row of data (over all its dims but the last) that stands at row `at` of the result; *in: there is one.
 */
static ll_val source_row(tn_cuda_kernel *k, const gather *g, ll_val at, ll_val *in) {
  tn_ll *e = k->e;
  tn_type_info lead = g->to;
  lead.rank--;
  tn_ll_index to = tn_cuda_index(k, &lead, at), ids = {.rank = g->ti.rank};
  for (uint32_t i = 0; i < g->ti.rank; i++) ids.at[i] = to.at[g->axis + i];
  ll_val n = tn_ll_dim(&k->body, g->td.dims[g->axis]), row = ll_k(e, 0);
  ll_val id = tn_ll_convert(e, g->ti.dtype, TN_DT_i64, tn_ll_eval(&k->body, g->indices, &ids));
  id = ll_select(e, ll_icmp(e, LLVMIntSLT, id, ll_k(e, 0)), ll_add(e, id, n), id);
  *in = ll_icmp(e, LLVMIntULT, id, n);
  for (uint32_t i = 0; i + 1 < g->td.rank; i++) {
    ll_val x = i == g->axis ? id : to.at[i < g->axis ? i : i + g->ti.rank - 1].v;
    row = ll_iadd(e, ll_imul(e, row, tn_ll_dim(&k->body, g->td.dims[i])), x);
  }
  return row;
}

static void move_word(tn_cuda_kernel *k, tn_value v, ll_val out, ll_val unit) {
  tn_ll *e = k->e;
  gather g;
  ll_val in = NULL;
  if (!read_gather(k, v, &g)) return;
  uint32_t bytes = word_of(tn_quant_of(g.to.dtype));
  ll_type t = bytes == 4 ? e->i32 : bytes == 2 ? e->i16 : e->i8;
  ll_val words = tn_ll_dim(&k->body, row_words(k, &g.to));
  ll_val from = unit;
  if (g.indices) {
    ll_val row = source_row(k, &g, ll_idiv(e, unit, words), &in);
    from = ll_iadd(e, ll_imul(e, row, words), ll_imod(e, unit, words));
  }
  ll_val size = ll_k(e, bytes);
  tn_ll_index ix = {.pred = in}; /* a row that is not there: zeros */
  ll_val word = tn_ll_load_guarded(
      &k->body, t, ll_at(e, tn_cuda_buffer(k, g.data, NULL), ll_imul(e, from, size)), &ix, bytes);
  ll_store(e, word, ll_at(e, out, ll_imul(e, unit, size)), bytes);
}

/* ---- integers of 4 and 2 bits -------------------------------------------------------------------------- */

static void make_byte(tn_cuda_kernel *k, tn_value v, ll_val out, ll_val unit) {
  tn_ll *e = k->e;
  tn_type_info t = tn_cuda_type(k, v);
  uint32_t bits = tn_ll_dtype_of(t.dtype).packed, per = 8 / bits;
  ll_val all = tn_ll_dims(&k->body, t.dims, 0, t.rank), byte = ll_int(e, e->i8, 0);
  for (uint32_t i = 0; i < per; i++) {
    ll_val at = ll_iadd(e, ll_imul(e, unit, ll_k(e, per)), ll_k(e, i));
    ll_val inside = ll_icmp(e, LLVMIntSLT, at, all);
    tn_ll_body_forget(&k->body);
    tn_ll_index ix = tn_cuda_index(k, &t, ll_select(e, inside, at, ll_k(e, 0)));
    ll_val x = ll_and(e, tn_ll_eval(&k->body, v, &ix), ll_int(e, e->i8, (1 << bits) - 1));
    x = ll_select(e, inside, x, ll_int(e, e->i8, 0));
    byte = ll_or(e, byte, ll_shl(e, x, ll_int(e, e->i8, i * bits)));
  }
  ll_store(e, byte, ll_at(e, out, unit), 1);
}

/* ---- either -------------------------------------------------------------------------------------------- */

tn_dim tn_cuda_packed_units(tn_cuda_kernel *k, tn_value v) {
  tn_type_info t = tn_cuda_type(k, v);
  if (t.dtype >= TN_DT_BLOCK)
    return tn_cuda_dim_mul(k, tn_cuda_dim_count(k, &t, 0, t.rank - 1), row_words(k, &t));
  return tn_cuda_dim_ceildiv(k, tn_cuda_dim_count(k, &t, 0, t.rank), 8 / tn_ll_dtype_of(t.dtype).packed);
}

void tn_cuda_packed_write(tn_cuda_kernel *k, tn_value v, ll_val out, ll_val unit) {
  if (tn_cuda_type(k, v).dtype >= TN_DT_BLOCK)
    move_word(k, v, out, unit);
  else
    make_byte(k, v, out, unit);
}
