/* partition.c - which backend runs which op: the first, in order of preference, that claims it. The choice is
 * kept beside the IR (tn_pass_ctx.assigned) until `fuse` writes it into the kernels. All ops that nobody
 * takes are reported together. */
#include "passes/passes.h"
#include "passes/partition.h"
#include "passes/rw.h"

static bool structural(tn_module *m, tn_op op) {
  uint32_t flags = tn_rw_flags(m, op);
  return (flags & (TN_F_TERMINATOR | TN_F_REGION | TN_F_HOST)) || tn_rw_is(m, op, TN_OPC_reshape);
}

const char *tn_partition_name(const tn_pass_ctx *c, uint32_t assigned) {
  const tn_pass_backends *b = c->backends;
  return b && b->name && assigned && assigned <= b->count ? b->name(b->ctx, assigned - 1) : "ref";
}

static bool assign(tn_pass_ctx *c, tn_op op, uint32_t backend) {
  while (c->assigned.count <= op)
    if (!tn_vec_push(&c->assigned, 0)) return false;
  c->assigned.items[op] = backend + 1;
  return true;
}

/* Asks all backends; an error names each one's reason. */
tn_status tn_partition_op(tn_pass_ctx *c, tn_op op) {
  const tn_pass_backends *b = c->backends;
  tn_buf reasons = {0};
  for (uint32_t i = 0; i < b->count; i++) {
    const char *why = NULL;
    if (!b->claim || b->claim(b->ctx, i, c->m, op, &why)) {
      tn_buf_fini(&reasons);
      return assign(c, op, i) ? TN_OK : TN_OOM;
    }
    tn_buf_printf(&reasons, "%s%s: %s", i ? "; " : "", b->name ? b->name(b->ctx, i) : "?",
                  why ? why : "not taken");
  }
  tn_ir_report(c->m, TN_ERROR, tn_ir_op_loc(c->m, op), "%s: no backend takes this op (%s)",
               tn_ir_opcode_name(tn_ir_opcode(c->m, op)), tn_buf_cstr(&reasons));
  tn_buf_fini(&reasons);
  return TN_UNSUPPORTED;
}

tn_status tn_partition_func(tn_pass_ctx *c, tn_func f) {
  if (!c->backends || !c->backends->count) return TN_OK;
  tn_status status = TN_OK;
  for (tn_op op = tn_ir_first_op(c->m, f, 0); op; op = tn_ir_next_op(c->m, op)) {
    if (structural(c->m, op) || (op < c->assigned.count && c->assigned.items[op])) continue;
    tn_status s = tn_partition_op(c, op);
    if (s == TN_OOM) return s;
    if (s != TN_OK) status = s; /* go on: all of them are reported */
  }
  return status;
}

tn_status tn_pass_partition(tn_pass_ctx *c, tn_func f) {
  (void)f;
  tn_status status = TN_OK;
  for (tn_func g = 1; g <= tn_ir_func_count(c->m) && status != TN_OOM; g++) {
    tn_status s = tn_partition_func(c, g);
    if (s != TN_OK) status = s; /* go on: the functions' errors are reported together */
  }
  return status;
}
