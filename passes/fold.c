/* fold.c - constant folding through the reference kernels: one pass in program order, so a chain of constants
 * folds in one go. A result larger than the option `limit` (bytes), or a broadcast that grows, stays an op.
 * What is no constant may still be simpler than it is spelled: fold_piece.c, fold_uniform.c. */
#include "passes/fold.h"
#include "passes/passes.h"
#include "passes/rw.h"
#include "backends/ref/ref.h"

#define MAX_OPERANDS 64

static bool static_bytes(tn_module *m, tn_value v, int64_t *bytes) {
  return tn_ir_dim_is_const(m, tn_type_bytes(m, tn_rw_type(m, v)), bytes);
}

static bool constant_operand(tn_module *m, tn_value v, tn_ref_tensor *out) {
  tn_op op = tn_rw_def_as(m, v, TN_OPC_constant);
  if (!op) return false;
  tn_type_info t = tn_rw_type_info(m, v);
  tn_attr data = tn_rw_attr(m, op, "value");
  *out = (tn_ref_tensor){t.dtype, t.rank, {0}, (void *)(uintptr_t)data.u.data.ptr}; /* only read */
  for (uint32_t i = 0; i < t.rank; i++)
    if (!tn_ir_dim_is_const(m, t.dims[i], &out->dims[i])) return false;
  return true;
}

/* Result sizes are known, within the limit and, for a broadcast, not above the operand's. */
static bool worth(tn_pass_ctx *c, tn_op op) {
  int64_t limit = tn_pass_int(c, "limit", 65536), in = limit;
  if (tn_rw_is(c->m, op, TN_OPC_broadcast) && !static_bytes(c->m, tn_ir_op_operand(c->m, op, 0), &in))
    return false;
  for (uint32_t i = 0; i < tn_ir_op_nresults(c->m, op); i++) {
    int64_t bytes;
    if (!static_bytes(c->m, tn_ir_op_result(c->m, op, i), &bytes) || bytes > limit || bytes > in)
      return false;
  }
  return true;
}

static tn_status make_constant(tn_module *m, tn_op op, uint32_t i, const tn_ref_tensor *t) {
  tn_value old = tn_ir_op_result(m, op, i);
  tn_type type = tn_rw_type(m, old);
  tn_named_attr attr = {"value", {.kind = TN_ATTR_DATA, .u.data = {t->data, tn_ref_bytes(&tn_ir_table, t)}}};
  tn_loc_info l = {.kind = TN_LOC_DERIVED, .name = "fold", .a = tn_ir_op_loc(m, op)};
  tn_loc loc = tn_ir_loc_make(m, &l);
  tn_op_desc d = {"constant", NULL, 0, 1, &attr, &type, 1, loc ? loc : tn_ir_op_loc(m, op)};
  tn_op made = tn_ir_op_create(m, tn_rw_before(op), &d);
  if (!made) return TN_INTERNAL;
  const char *name = tn_ir_value_name(m, old);
  if (name) TN_TRY(tn_ir_value_set_name(m, tn_ir_op_result(m, made, 0), name));
  return tn_ir_value_replace(m, old, tn_ir_op_result(m, made, 0));
}

/* A scalar or a few numbers, as sizes are; longer counts are better left to be counted. */
static bool short_count(tn_module *m, tn_op op) {
  int64_t bytes;
  return tn_rw_is(m, op, TN_OPC_iota) && static_bytes(m, tn_ir_op_result(m, op, 0), &bytes) && bytes <= 64 &&
         tn_ir_dim_is_const(m, tn_rw_attr(m, op, "start").u.dim, &bytes);
}

static tn_status fold_op(tn_pass_ctx *c, tn_op op, tn_arena *arena) {
  tn_ref_tensor in[MAX_OPERANDS], out[TN_MAX_RESULTS];
  uint32_t n = tn_ir_op_noperands(c->m, op), flags = tn_rw_flags(c->m, op);
  if ((!n && !short_count(c->m, op)) || n > MAX_OPERANDS || !(flags & TN_F_PURE) || (flags & TN_F_REGION))
    return TN_OK;
  memset(in, 0, sizeof in);
  for (uint32_t i = 0; i < n; i++) {
    tn_value v = tn_ir_op_operand(c->m, op, i);
    if (v && !constant_operand(c->m, v, &in[i])) return TN_OK;
  }
  if (!worth(c, op)) return TN_OK;
  tn_status status = tn_ref_eval(&tn_ir_table, c->m, op, in, n, out, arena);
  if (status == TN_OOM) return status;
  if (status != TN_OK) return TN_OK; /* what the reference cannot evaluate stays */
  for (uint32_t i = 0; i < tn_ir_op_nresults(c->m, op); i++) TN_TRY(make_constant(c->m, op, i, &out[i]));
  return tn_ir_op_erase(c->m, op);
}

/* What is no constant but simpler than it was; what that is made of may be constant. */
static tn_status simplify(tn_pass_ctx *c, tn_op op, tn_arena *arena) {
  tn_module *m = c->m;
  tn_op made = 0;
  if (tn_ir_op_nresults(m, op) != 1) return TN_OK;
  tn_value old = tn_ir_op_result(m, op, 0), v = tn_fold_piece(m, op);
  if (v) made = tn_rw_def(m, v);
  if (!v) v = tn_fold_uniform(m, op, &made);
  if (!v || tn_rw_type(m, v) != tn_rw_type(m, old)) return TN_OK;
  TN_TRY(tn_ir_value_replace(m, old, v));
  TN_TRY(tn_ir_op_erase(m, op));
  return made && !tn_rw_is(m, made, TN_OPC_constant) ? fold_op(c, made, arena) : TN_OK;
}

tn_status tn_pass_fold(tn_pass_ctx *c, tn_func f) {
  tn_status status = TN_OK;
  for (tn_op op = tn_ir_first_op(c->m, f, 0), next; op && status == TN_OK; op = next) {
    tn_arena arena;
    next = tn_ir_next_op(c->m, op);
    tn_arena_init(&arena);
    status = fold_op(c, op, &arena);
    if (status == TN_OK && tn_ir_opcode(c->m, op)) status = simplify(c, op, &arena);
    tn_arena_fini(&arena);
  }
  return status;
}
