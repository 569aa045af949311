/* cse.c - merges pure ops that are equal: same op, operands, attributes and result types. One walk in program
 * order with a table of what was seen; the first of equals stays, so every use still comes behind it. */
#include "passes/passes.h"
#include "passes/rw.h"

static void put_u32(tn_buf *b, uint32_t v) { tn_buf_put(b, &v, sizeof v); }

static void key_of(tn_module *m, tn_op op, tn_buf *key) {
  const tn_op_spec *s = tn_op_spec_of(tn_ir_opcode(m, op));
  uint32_t n = tn_ir_op_noperands(m, op);
  bool swap = (s->flags & TN_F_COMMUTES) && n == 2 && tn_ir_op_operand(m, op, 0) > tn_ir_op_operand(m, op, 1);
  key->len = 0;
  put_u32(key, tn_ir_opcode(m, op));
  put_u32(key, n);
  for (uint32_t i = 0; i < n; i++) put_u32(key, tn_ir_op_operand(m, op, swap ? 1 - i : i));
  for (uint32_t i = 0; i < tn_ir_op_nresults(m, op); i++)
    put_u32(key, tn_rw_type(m, tn_ir_op_result(m, op, i)));
  for (uint32_t i = 0; i < s->nattrs; i++) {
    tn_attr a = tn_rw_attr(m, op, s->attrs[i].name);
    tn_rw_attr_key(&a, key);
  }
}

static tn_status merge(tn_module *m, tn_op op, tn_op first) {
  for (uint32_t i = 0; i < tn_ir_op_nresults(m, op); i++)
    TN_TRY(tn_ir_value_replace(m, tn_ir_op_result(m, op, i), tn_ir_op_result(m, first, i)));
  return tn_ir_op_erase(m, op);
}

/* A state's contents depend on when they are read. */
static bool reads_state(tn_module *m, tn_op op) {
  for (uint32_t i = 0; i < tn_ir_op_noperands(m, op); i++)
    if (tn_rw_kind(m, tn_ir_op_operand(m, op, i)) == TN_VALUE_STATE) return true;
  return false;
}

static tn_status visit(tn_module *m, tn_op op, tn_map *seen, tn_buf *key) {
  uint32_t flags = tn_rw_flags(m, op);
  uint64_t first;
  if (!(flags & TN_F_PURE) || (flags & TN_F_REGION) || reads_state(m, op)) return TN_OK;
  key_of(m, op, key);
  if (key->failed) return TN_OOM;
  tn_str k = {key->text, key->len};
  if (tn_map_get(seen, k, &first)) return merge(m, op, (tn_op)first);
  return tn_map_put(seen, k, op, NULL);
}

tn_status tn_pass_cse(tn_pass_ctx *c, tn_func f) {
  tn_map seen;
  tn_buf key = {0};
  tn_status status = TN_OK;
  tn_map_init(&seen);
  for (tn_op op = tn_ir_first_op(c->m, f, 0), next; op && status == TN_OK; op = next) {
    next = tn_ir_next_op(c->m, op);
    status = visit(c->m, op, &seen, &key);
  }
  tn_map_fini(&seen);
  tn_buf_fini(&key);
  return status;
}
