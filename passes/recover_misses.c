/* recover_misses.c - what the pass recover left: square roots of a mean, and error functions, that look like
 * a part of a norm or GELU but matched no rule. Each is reported as a near miss with the op that is in the
 * way. */
#include "passes/recover.h"

static tn_value operand(tn_module *m, tn_op op, uint32_t i) { return tn_ir_op_operand(m, op, i); }

/* x * x, or x; sub(x, mean) inside means that it is a variance. */
static const char *norm_of(tn_module *m, tn_op mean) {
  tn_op square = tn_rw_def_as(m, operand(m, mean, 0), TN_OPC_mul);
  if (!square || operand(m, square, 0) != operand(m, square, 1)) return NULL;
  tn_op centred = tn_rw_def_as(m, operand(m, square, 0), TN_OPC_sub);
  return centred && tn_rw_def_as(m, operand(m, centred, 1), TN_OPC_reduce_mean) ? "layer_norm" : "rms_norm";
}

static bool over_last_axis(tn_module *m, tn_op mean) {
  tn_attr axes = tn_rw_attr(m, mean, "axes");
  int64_t last = (int64_t)tn_rw_type_info(m, operand(m, mean, 0)).rank - 1;
  return axes.count == 1 && (axes.u.ints[0] == last || axes.u.ints[0] == -1);
}

/* sqrt or rsqrt of mean(x x) + eps */
static void root_missed(tn_pass_ctx *c, tn_op root) {
  tn_module *m = c->m;
  tn_op add = tn_rw_def_as(m, operand(m, root, 0), TN_OPC_add), mean = 0;
  for (uint32_t i = 0; add && i < 2 && !mean; i++)
    mean = tn_rw_def_as(m, operand(m, add, i), TN_OPC_reduce_mean);
  const char *norm = mean ? norm_of(m, mean) : NULL;
  double eps;
  if (!norm) return;
  if (!over_last_axis(m, mean))
    tn_pass_near_miss(c, norm, tn_ir_op_loc(m, root), mean, "the mean is not over the last axis alone");
  else if (!tn_rw_splat(m, operand(m, add, 0), &eps) && !tn_rw_splat(m, operand(m, add, 1), &eps))
    tn_pass_near_miss(c, norm, tn_ir_op_loc(m, root), add, "what is added to the mean is no constant");
  else if (!tn_rw_int(m, mean, "keep"))
    tn_pass_near_miss(c, norm, tn_ir_op_loc(m, root), mean, "the mean drops its axis");
  else {
    uint32_t at;
    tn_value out = tn_ir_op_result(m, root, 0);
    tn_pass_near_miss(c, norm, tn_ir_op_loc(m, root),
                      tn_rw_nuses(m, out) ? tn_ir_value_use(m, out, 0, &at) : root,
                      "what is divided by the root is not what the mean was taken of");
  }
}

static void erf_missed(tn_pass_ctx *c, tn_op erf) {
  tn_pass_near_miss(c, "gelu", tn_ir_op_loc(c->m, erf), erf,
                    "the products around it are not x / 2 (1 + erf(x / sqrt 2))");
}

void tn_recover_misses(tn_pass_ctx *c) {
  for (tn_func f = 1; f <= tn_ir_func_count(c->m); f++)
    for (tn_op op = tn_ir_first_op(c->m, f, 0); op; op = tn_ir_next_op(c->m, op))
      switch (tn_ir_opcode(c->m, op)) {
      case TN_OPC_sqrt:
      case TN_OPC_rsqrt: root_missed(c, op); break;
      case TN_OPC_erf: erf_missed(c, op); break;
      }
}
