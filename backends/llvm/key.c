/* key.c - canonical text of a kernel. Attribute names come from ops.def, since the table of the host reads
 * attributes by name only. */
#include "backends/llvm/key.h"

typedef struct attr_row {
  const char *op, *name;
} attr_row;
static const attr_row attr_rows[] = {
#define TN_OP(name, family, flags, nin0, nin1, nout, doc)
#define TN_IN(op, name, constraint, shape)
#define TN_OUT(op, name, shape)
#define TN_ATTR(op, name, kind, def, doc) {#op, #name},
#define TN_OP_END(op)
#include "ir/ops.def"
#undef TN_OP
#undef TN_IN
#undef TN_OUT
#undef TN_ATTR
#undef TN_OP_END
};

typedef struct key {
  const tn_ir *ir;
  tn_module *m;
  tn_op kernel;
  tn_buf *out;
  TN_VEC(tn_value) values; /* results of the body so far; the position is the number */
} key;

static void put_dim(key *k, tn_dim d) {
  static const char *const signs[] = {"", "", "", "+", "*", "/", "%", "min", "max", "?"};
  tn_dim_info i;
  k->ir->dim_get(k->m, d, &i);
  if (i.kind == TN_DIM_CONST) {
    tn_buf_printf(k->out, "%lld", (long long)i.value);
  } else if (i.kind == TN_DIM_SYM) {
    tn_buf_puts(k->out, i.symbol);
  } else if (i.kind < TN_COUNT(signs) && i.kind != TN_DIM_UNKNOWN) {
    tn_buf_puts(k->out, "(");
    put_dim(k, i.a);
    tn_buf_puts(k->out, signs[i.kind]);
    put_dim(k, i.b);
    tn_buf_puts(k->out, ")");
  } else {
    tn_buf_puts(k->out, "?");
  }
}

static void put_type(key *k, tn_type type) {
  tn_type_info t;
  k->ir->type_get(k->m, type, &t);
  tn_buf_printf(k->out, ":%u[", t.dtype);
  for (uint32_t i = 0; i < t.rank; i++) {
    if (i) tn_buf_puts(k->out, ",");
    put_dim(k, t.dims[i]);
  }
  tn_buf_printf(k->out, "]@%s", t.layout ? t.layout : "");
}

static void put_data(key *k, tn_bytes b) {
  tn_sha256 s;
  char hex[65];
  tn_sha256_init(&s);
  tn_sha256_add(&s, b.ptr, b.len);
  tn_sha256_hex(&s, hex);
  tn_buf_puts(k->out, hex);
}

static void put_attr(key *k, const tn_attr *a) {
  double f = a->u.f;
  uint64_t bits;
  switch (a->kind) {
  case TN_ATTR_STR: tn_buf_puts(k->out, a->u.s ? a->u.s : ""); break;
  case TN_ATTR_FLOAT:
    memcpy(&bits, &f, sizeof bits);
    tn_buf_printf(k->out, "%llx", (unsigned long long)bits);
    break;
  case TN_ATTR_INTS:
    for (uint32_t i = 0; i < a->count; i++) tn_buf_printf(k->out, "%lld,", (long long)a->u.ints[i]);
    break;
  case TN_ATTR_DIM: put_dim(k, a->u.dim); break;
  case TN_ATTR_DIMS:
    for (uint32_t i = 0; i < a->count; i++) {
      put_dim(k, a->u.dims[i]);
      tn_buf_puts(k->out, ",");
    }
    break;
  case TN_ATTR_DATA: put_data(k, a->u.data); break;
  default: tn_buf_printf(k->out, "%lld", (long long)a->u.i);
  }
}

static void put_value(key *k, tn_value v) {
  tn_value_info i;
  if (!v) {
    tn_buf_puts(k->out, " -");
    return;
  }
  k->ir->value_get(k->m, v, &i);
  if (i.kind == TN_VALUE_ARG && i.op == k->kernel) {
    tn_buf_printf(k->out, " a%u", i.index);
    return;
  }
  for (uint32_t n = 0; n < k->values.count; n++)
    if (k->values.items[n] == v) tn_buf_printf(k->out, " v%u", n);
}

static void put_op(key *k, tn_op op) {
  const char *name = k->ir->opcode_name(k->ir->opcode(k->m, op));
  tn_buf_puts(k->out, name);
  for (uint32_t i = 0; i < k->ir->op_noperands(k->m, op); i++) put_value(k, k->ir->op_operand(k->m, op, i));
  for (size_t i = 0; i < TN_COUNT(attr_rows); i++) {
    tn_attr a = {0};
    if (strcmp(attr_rows[i].op, name) || !k->ir->op_attr(k->m, op, attr_rows[i].name, &a)) continue;
    tn_buf_printf(k->out, " %s=", attr_rows[i].name);
    put_attr(k, &a);
  }
  for (uint32_t i = 0; i < k->ir->op_nresults(k->m, op); i++) {
    tn_value v = k->ir->op_result(k->m, op, i);
    tn_value_info info;
    k->ir->value_get(k->m, v, &info);
    put_type(k, info.type);
    if (!tn_vec_push(&k->values, v)) k->out->failed = true;
  }
  tn_buf_puts(k->out, "\n");
}

void tn_ll_key(const tn_ir *ir, tn_module *m, tn_op op, tn_buf *out) {
  key k = {.ir = ir, .m = m, .kernel = op, .out = out};
  tn_attr root = {0};
  ir->op_attr(m, op, "root", &root);
  tn_buf_printf(out, "root %s", root.u.s ? root.u.s : "");
  for (uint32_t i = 0; i < ir->op_noperands(m, op); i++) {
    tn_value_info info;
    ir->value_get(m, ir->op_operand(m, op, i), &info);
    put_type(&k, info.type);
  }
  tn_buf_puts(out, "\n");
  for (tn_op o = ir->first_op(m, 0, op); o; o = ir->next_op(m, o)) put_op(&k, o);
  tn_vec_fini(&k.values);
}
