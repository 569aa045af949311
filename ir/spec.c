/* spec.c - the op tables: mnemonics, operands, attributes and infer functions, all from ops.def. */
#include "ir/module.h"

/* clang-format off */

/* Flags as ops.def writes them. */
enum {
  PURE = TN_F_PURE, ELEMENTWISE = TN_F_ELEMENTWISE, VIEW = TN_F_VIEW, COMMUTES = TN_F_COMMUTES,
  REDUCES = TN_F_REDUCES, EFFECT = TN_F_EFFECT, REGION = TN_F_REGION, TERMINATOR = TN_F_TERMINATOR, HOST = TN_F_HOST
};

#define TN_OP(name, family, flags, nin0, nin1, nout, doc) static const tn_operand_spec in_##name[] = {
#define TN_IN(op, name, constraint, shape) {#name, shape, TN_C_##constraint, (shape)[0] == '?'},
#define TN_OUT(op, name, shape)
#define TN_ATTR(op, name, kind, def, doc)
#define TN_OP_END(op) {0}};
#include "ir/ops.def"
#undef TN_OP
#undef TN_IN
#undef TN_OUT

#define TN_OP(name, family, flags, nin0, nin1, nout, doc) static const tn_operand_spec out_##name[] = {
#define TN_IN(op, name, constraint, shape)
#define TN_OUT(op, name, shape) {#name, shape, TN_C_ANY, false},
#include "ir/ops.def"
#undef TN_OP
#undef TN_OUT
#undef TN_ATTR

#define TN_OP(name, family, flags, nin0, nin1, nout, doc) static const tn_attr_spec attrs_##name[] = {
#define TN_OUT(op, name, shape)
#define TN_ATTR(op, name, kind, def, doc) {#name, def, doc, TN_ATTR_##kind, sizeof(def) == 1},
#include "ir/ops.def"
#undef TN_OP
#undef TN_ATTR
#undef TN_OP_END

static const tn_op_spec specs[] = {
#define TN_ATTR(op, name, kind, def, doc)
#define TN_OP(name, family, flags, nin0, nin1, nout, doc)                                                    \
  [TN_OPC_##name] = {#name, #family, doc, flags, nin0, nin1, nout, in_##name, out_##name, attrs_##name,      \
                     TN_COUNT(in_##name) - 1, TN_COUNT(out_##name) - 1, TN_COUNT(attrs_##name) - 1},
#define TN_OP_END(op)
#include "ir/ops.def"
#undef TN_OP
};

static tn_status (*const infer[])(tn_infer *) = {
#define TN_OP(name, family, flags, nin0, nin1, nout, doc) [TN_OPC_##name] = tn_infer_##name,
#include "ir/ops.def"
#undef TN_OP
#undef TN_IN
#undef TN_OUT
#undef TN_ATTR
#undef TN_OP_END
};

/* clang-format on */

const tn_op_spec *tn_op_spec_of(uint32_t opcode) {
  return opcode && opcode < TN_OPC_COUNT ? &specs[opcode] : NULL;
}

uint32_t tn_ir_opcode_by_name(const char *name) {
  for (uint32_t i = 1; name && i < TN_OPC_COUNT; i++)
    if (specs[i].name[0] == name[0] && !strcmp(specs[i].name, name)) return i;
  return 0;
}

const char *tn_ir_opcode_name(uint32_t code) { return code < TN_OPC_COUNT ? specs[code].name : NULL; }

tn_status tn_op_infer(tn_infer *c) { return infer[c->opcode](c); }

tn_status tn_infer_fail(tn_infer *c, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  tn_module_report_v(c->m, TN_ERROR, c->loc, specs[c->opcode].name, fmt, ap);
  va_end(ap);
  return TN_INVALID;
}

const tn_ir tn_ir_table = {.size = sizeof(tn_ir),
#define TN_X(ret, name, args) .name = tn_ir_##name,
                           TN_IR_API(TN_X)
#undef TN_X
};
