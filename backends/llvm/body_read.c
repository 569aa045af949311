/* body_read.c - what a skeleton has to know of a kernel before it writes a line: the root, what is yielded,
 * and the symbolic sizes that anything in it may read. All sizes are noted, used or not: every target then
 * reads the same ones. */
#include "backends/llvm/body.h"

static void note_dim(tn_ll_body *b, tn_dim d) {
  tn_dim_info i;
  if (!d) return;
  b->ir->dim_get(b->m, d, &i);
  if (i.kind == TN_DIM_CONST || i.kind == TN_DIM_UNKNOWN) return;
  if (i.kind != TN_DIM_SYM) {
    note_dim(b, i.a);
    note_dim(b, i.b);
    return;
  }
  for (uint32_t s = 0; s < b->nsyms; s++)
    if (b->syms[s] == d) return;
  if (b->nsyms == TN_LL_MAX_SYMS)
    tn_ll_fail(b->e, "a kernel reads more than %d symbolic sizes", TN_LL_MAX_SYMS);
  else
    b->syms[b->nsyms++] = d;
}
static void note_value(tn_ll_body *b, tn_value v) {
  if (!v) return;
  tn_type_info t = tn_ll_type(b, v);
  for (uint32_t i = 0; i < t.rank; i++) note_dim(b, t.dims[i]);
}
static const char *const dim_attrs[] = {"shape", "start", "stop", "sizes", "k",    "q",     "keys",
                                        "pos",   "low",   "high", "n",     "rows", "total", "pieces"};

static void note_op(tn_ll_body *b, tn_op op) {
  const tn_ir *ir = b->ir;
  for (uint32_t i = 0; i < ir->op_noperands(b->m, op); i++) note_value(b, ir->op_operand(b->m, op, i));
  for (uint32_t i = 0; i < ir->op_nresults(b->m, op); i++) note_value(b, ir->op_result(b->m, op, i));
  for (size_t i = 0; i < TN_COUNT(dim_attrs); i++) {
    tn_attr a = {0};
    if (!ir->op_attr(b->m, op, dim_attrs[i], &a)) continue;
    if (a.kind == TN_ATTR_DIM) note_dim(b, a.u.dim);
    for (uint32_t j = 0; a.kind == TN_ATTR_DIMS && j < a.count; j++) note_dim(b, a.u.dims[j]);
  }
}

static void take_yields(tn_ll_body *b, tn_op op, tn_ll_outline *o) {
  o->nyields = b->ir->op_noperands(b->m, op);
  if (o->nyields > TN_LL_MAX_OUT) {
    tn_ll_fail(b->e, "a kernel has %u results, at most %d are handled", o->nyields, TN_LL_MAX_OUT);
    o->nyields = 0;
  }
  for (uint32_t i = 0; i < o->nyields; i++) o->yields[i] = b->ir->op_operand(b->m, op, i);
}

void tn_ll_body_read(tn_ll_body *b, tn_ll_outline *o) {
  const tn_ir *ir = b->ir;
  tn_attr root = {0};
  *o = (tn_ll_outline){0};
  ir->op_attr(b->m, b->kernel, "root", &root);
  o->root_name = root.u.s ? root.u.s : "";
  note_op(b, b->kernel);
  for (tn_op op = ir->first_op(b->m, 0, b->kernel); op; op = ir->next_op(b->m, op)) {
    const char *name = ir->opcode_name(ir->opcode(b->m, op));
    note_op(b, op);
    if (!o->root && !strcmp(name, o->root_name)) o->root = op;
    if (!strcmp(name, "yield")) take_yields(b, op, o);
  }
}
