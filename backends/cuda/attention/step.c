/* step.c - the newest key and value of a step of decoding: evaluated (with what comes before, such as a
 * rotation) by every block that sees them, and written as rows of their caches, in the caches' type, by one
 * of them. Blocks see the row as it reads back from there, and leave it out when they go over the cache: so
 * nobody waits for the one that writes. */
#include "backends/cuda/attention/attention.h"
#include "backends/llvm/convert.h"
#include "backends/llvm/groups.h"

/* ---- claim --------------------------------------------------------------------------------------------- */

static tn_dim attr_dim(const tn_cuda_ask *a, tn_op op, const char *name) {
  tn_attr x = {0};
  return a->ir->op_attr(a->m, op, name, &x) ? x.u.dim : 0;
}
static bool constant(const tn_cuda_ask *a, tn_value v, uint32_t axis, int64_t *n) {
  return a->ir->dim_is_const(a->m, tn_cuda_type_of(a, v).dims[axis], n);
}

/* One query of few rows, each of which sees the newest key. Tiles would read all keys from the cache. */
static bool is_step(const tn_cuda_ask *a) {
  int64_t s, h, hkv;
  tn_value q = a->ir->op_operand(a->m, a->root, 0), k = a->ir->op_operand(a->m, a->root, 1);
  return !strcmp(a->root_name, "attention") && constant(a, q, 1, &s) && s == 1 && constant(a, q, 2, &h) &&
         constant(a, k, 2, &hkv) && hkv > 0 && h / hkv <= TN_CUDA_ATT_FEW_ROWS;
}

/* Does the update write the last key of this attention, which alone reads it? */
static bool writes_last(const tn_cuda_ask *a, tn_op update) {
  const tn_ir *ir = a->ir;
  tn_value out = ir->op_result(a->m, update, 0), x = ir->op_operand(a->m, update, 1);
  tn_value_info info;
  int64_t rows;
  ir->value_get(a->m, out, &info);
  bool read = ir->op_operand(a->m, a->root, 1) == out || ir->op_operand(a->m, a->root, 2) == out;
  tn_dim keys = attr_dim(a, a->root, "keys"), pos = attr_dim(a, update, "pos");
  return read && info.nuses == 1 && keys && pos && is_step(a) &&
         ir->dim_make(a->m, TN_DIM_ADD, pos, ir->dim_const(a->m, 1)) == keys &&
         tn_cuda_attr_int(a, a->root, "ring", 0) == tn_cuda_attr_int(a, update, "ring", 0) &&
         constant(a, x, 1, &rows) && rows == 1;
}

bool tn_cuda_att_step_takes(const tn_cuda_ask *a) {
  tn_value x = a->ir->op_operand(a->m, a->op, 1), out = a->ir->op_result(a->m, a->op, 0);
  return writes_last(a, a->op) && tn_cuda_type_of(a, x).dtype != TN_DT_f64 &&
         tn_cuda_type_of(a, out).dtype != TN_DT_f64;
}

bool tn_cuda_att_step_makes(const tn_cuda_ask *a) {
  const tn_ir *ir = a->ir;
  if (is_step(a) && tn_ll_made_by(ir, a->m, ir->op_operand(a->m, a->root, 0), a->op)) return true;
  for (uint32_t i = 1; i < 3; i++) {
    tn_value_info info;
    ir->value_get(a->m, ir->op_operand(a->m, a->root, i), &info);
    if (info.kind != TN_VALUE_RESULT || strcmp(ir->opcode_name(ir->opcode(a->m, info.op)), "kv_update"))
      continue;
    if (writes_last(a, info.op) && tn_ll_made_by(ir, a->m, ir->op_operand(a->m, info.op, 1), a->op))
      return true;
  }
  return false;
}

/* ---- emission ------------------------------------------------------------------------------------------ */

static void find_update(tn_cuda_att *a, tn_cuda_att_side *s) {
  tn_cuda_kernel *k = a->k;
  const tn_ir *ir = k->u->ir;
  tn_value_info i;
  ir->value_get(k->u->m, s->v, &i);
  if (i.kind != TN_VALUE_RESULT || strcmp(ir->opcode_name(ir->opcode(k->u->m, i.op)), "kv_update")) return;
  while (s->out < k->nyields && k->yields[s->out] != s->v) s->out++;
  if (s->out == k->nyields || !a->single)
    tn_ll_fail(k->e, "attention shares a kernel with an update it does not make");
  else
    s->fresh = ir->op_operand(k->u->m, i.op, 1);
  s->buffer = s->fresh != 0;
}
bool tn_cuda_att_step_read(tn_cuda_att *a) {
  find_update(a, &a->key);
  find_update(a, &a->value);
  return a->key.fresh || a->value.fresh;
}

/* Of this block's batch entry and head, at feature j (i32). */
static ll_val make(tn_cuda_att *a, tn_value x, ll_val j, uint32_t wide) {
  ll_val at = tn_cuda_i64(a->k, j);
  tn_ll_index ix = {.rank = 4,
                    .at = {tn_ll_ix_scalar(a->b), tn_ll_ix_scalar(ll_k(a->k->e, 0)), tn_ll_ix_scalar(a->hk),
                           wide > 1 ? tn_ll_ix_lanes(at, true) : tn_ll_ix_scalar(at)}};
  return ll_wide(a->k->e, tn_ll_eval(&a->k->body, x, &ix), wide > 1);
}

/* Puts x (of type `from`) to features j .. of the row; gives what reads back, as f32. */
static ll_val put(tn_cuda_att *a, const tn_cuda_att_side *s, ll_val row, ll_val j, ll_val x, ll_val stores) {
  tn_cuda_kernel *k = a->k;
  tn_ll *e = k->e;
  ll_if there;
  tn_dtype from = tn_cuda_type(k, s->fresh).dtype, to = s->t.dtype;
  if (to >= TN_DT_BLOCK) {
    ll_val block = ll_mul(e, ll_lshr(e, j, tn_cuda_n32(a, 5)), tn_cuda_n32(a, TN_CUDA_Q8_BYTES));
    return tn_cuda_att_pack(k, tn_ll_to_f32(e, from, x), ll_at(e, row, tn_cuda_i64(k, block)), stores);
  }
  uint32_t bytes = tn_ll_dtype_of(to).bytes, whole = bytes * a->k->e->lanes;
  bool wide = LLVMGetTypeKind(LLVMTypeOf(x)) == LLVMVectorTypeKind;
  uint32_t align = !wide ? bytes : whole < 16 ? whole : 16;
  ll_val raw = tn_ll_to_memory(e, to, tn_ll_convert(e, from, to, x));
  ll_if_begin(e, &there, stores);
  ll_store(e, raw, ll_at(e, row, tn_cuda_i64(k, ll_imul(e, j, tn_cuda_n32(a, bytes)))), align);
  ll_if_end(e, &there);
  return tn_ll_to_f32(e, to, tn_ll_from_memory(e, to, raw));
}

ll_val tn_cuda_att_step_row(tn_cuda_att *a, const tn_cuda_att_side *s, uint32_t threads, uint32_t wide,
                            ll_val writes) {
  tn_cuda_kernel *k = a->k;
  tn_ll *e = k->e;
  int64_t n = (s == &a->key ? a->d : a->dv) / wide;
  ll_val shared = tn_cuda_shared(k, (uint32_t)(n * wide) * 4, 16), last = tn_cuda_to32(a, a->last);
  ll_val at = tn_cuda_att_key_row(a, last),
         row = s->buffer ? ll_at(e, s->base, ll_imul(e, at, s->step)) : NULL;
  for (int64_t first = 0; first < n; first += threads) {
    ll_if there;
    ll_val i = ll_iadd(e, tn_cuda_thread(k), tn_cuda_n32(a, first));
    ll_val inside = ll_icmp(e, LLVMIntSLT, i, tn_cuda_n32(a, n)), x;
    ll_val j = ll_imul(e, ll_imin(e, i, tn_cuda_n32(a, n - 1)), tn_cuda_n32(a, wide));
    if (s->fresh)
      x = put(a, s, row, j, make(a, s->fresh, j, wide), ll_and(e, inside, writes));
    else
      x = tn_cuda_att_load(a, s, at, j, wide);
    ll_if_begin(e, &there, inside);
    ll_store(e, x, LLVMBuildInBoundsGEP2(e->b, e->f32, shared, &j, 1, ""), wide > 1 ? 16 : 4);
    ll_if_end(e, &there);
    tn_ll_body_forget(&k->body);
  }
  return shared;
}
