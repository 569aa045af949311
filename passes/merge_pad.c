/* merge_pad.c - a pad in front of a convolution or a pool becomes padding of the window: exporters write it
 * apart where it is not the same on both sides. A convolution pads with zeros, max pooling with what is never
 * the largest, a sum with zeros; a mean would count otherwise. */
#include "passes/passes.h"
#include "passes/rw.h"
#include <math.h>

/* What the window's own padding stands for; false: it cannot take any more. */
static bool window_value(tn_module *m, tn_op op, double *value) {
  *value = 0;
  if (tn_rw_is(m, op, TN_OPC_conv)) return true;
  if (!tn_rw_is(m, op, TN_OPC_pool) || tn_rw_int(m, op, "ceil")) return false;
  const char *kind = tn_rw_attr(m, op, "kind").u.s;
  if (!strcmp(kind, "max")) *value = -INFINITY;
  return strcmp(kind, "mean") != 0;
}

/* `own` plus what the pad adds at each spatial dim. */
static tn_attr sum_of(tn_module *m, tn_attr own, tn_attr pad, tn_dim *out) {
  uint32_t n = pad.count - 2;
  for (uint32_t i = 0; i < n; i++) {
    tn_dim more = tn_ir_dim_const(m, pad.u.ints[2 + i]);
    out[i] = own.count ? tn_dim_add(m, own.u.dims[i], more) : more;
  }
  return (tn_attr){.kind = TN_ATTR_DIMS, .count = n, .u.dims = out};
}

static bool spatial_only(tn_attr pad) { return pad.count > 2 && !pad.u.ints[0] && !pad.u.ints[1]; }

static tn_status merge(tn_module *m, tn_op op, tn_op pad) {
  const tn_op_spec *s = tn_op_spec_of(tn_ir_opcode(m, op));
  tn_value in[3], out = tn_ir_op_result(m, op, 0);
  tn_named_attr attrs[16];
  tn_dim low[TN_MAX_RANK], high[TN_MAX_RANK];
  uint32_t n = tn_ir_op_noperands(m, op);
  for (uint32_t i = 0; i < n; i++) in[i] = tn_ir_op_operand(m, op, i);
  in[0] = tn_ir_op_operand(m, pad, 0);
  for (uint32_t i = 0; i < s->nattrs; i++) {
    tn_attr a = tn_rw_attr(m, op, s->attrs[i].name);
    if (!strcmp(s->attrs[i].name, "low")) a = sum_of(m, a, tn_rw_attr(m, pad, "low"), low);
    if (!strcmp(s->attrs[i].name, "high")) a = sum_of(m, a, tn_rw_attr(m, pad, "high"), high);
    attrs[i] = (tn_named_attr){s->attrs[i].name, a};
  }
  tn_loc loc = tn_rw_fuse_locs(m, "merge-pad", tn_ir_op_loc(m, pad), tn_ir_op_loc(m, op));
  tn_value made = tn_rw_build(m, tn_rw_before(op), tn_ir_opcode(m, op), in, n, attrs, s->nattrs, loc);
  if (!made) return TN_INTERNAL;
  const char *name = tn_ir_value_name(m, out);
  if (name) TN_TRY(tn_ir_value_set_name(m, made, name));
  TN_TRY(tn_ir_value_replace(m, out, made));
  return tn_ir_op_erase(m, op);
}

tn_status tn_pass_merge_pad(tn_pass_ctx *c, tn_func f) {
  tn_module *m = c->m;
  double value;
  for (tn_op op = tn_ir_first_op(m, f, 0), next; op; op = next) {
    next = tn_ir_next_op(m, op);
    if (!window_value(m, op, &value)) continue;
    tn_op pad = tn_rw_def_as(m, tn_ir_op_operand(m, op, 0), TN_OPC_pad);
    if (!pad || tn_rw_float(m, pad, "value") != value) continue;
    if (!spatial_only(tn_rw_attr(m, pad, "low")) || !spatial_only(tn_rw_attr(m, pad, "high"))) continue;
    TN_TRY(merge(m, op, pad));
  }
  return TN_OK;
}
