/* fold.c - one op on known operands: what constant folding and tests call. */
#include "kernels.h"

tn_status tn_ref_eval(const tn_ir *ir, tn_module *m, tn_op op, const tn_ref_tensor *in, uint32_t nin,
                      tn_ref_tensor *out, tn_arena *a) {
  tn_ref_fn fn = tn_ref_of(ir->opcode_name(ir->opcode(m, op)));
  if (!fn) return TN_UNSUPPORTED;
  tn_arena scratch;
  tn_ref_call c = {
      .ir = ir, .m = m, .op = op, .in = in, .nin = nin, .out = out, .nout = ir->op_nresults(m, op)};
  for (uint32_t i = 0; i < c.nout; i++) {
    if (tn_ref_shape(ir, m, ir->op_result(m, op, i), NULL, NULL, &out[i]) != TN_OK) return TN_PRECONDITION;
    out[i].data = tn_arena_alloc(a, tn_ref_bytes(ir, &out[i]) + 1);
    if (!out[i].data) return TN_OOM;
  }
  tn_arena_init(&scratch);
  c.scratch = &scratch;
  tn_status s = fn(&c);
  tn_arena_fini(&scratch);
  return s;
}
