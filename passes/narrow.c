/* narrow.c - at precision "fast" products round what they read to bf16. What only such a product reads is
 * stored as bf16 by whoever makes it: the same numbers in half the memory, and the product reads them where
 * they are. Between kernels stand then a cast to bf16, which goes with the maker, and one back, which the
 * backend must take into the product (fuse.c keeps the two apart). */
#include "passes/passes.h"
#include "passes/rw.h"

static tn_value cast(tn_module *m, tn_point at, tn_value v, tn_dtype to, tn_loc loc) {
  tn_named_attr attr = {"to", {.kind = TN_ATTR_DTYPE, .u.i = to}};
  return tn_rw_build(m, at, TN_OPC_cast, &v, 1, &attr, 1, loc);
}

/* A product of f32 rows with a weight that is not packed in blocks. */
static bool is_product(tn_module *m, tn_op op) {
  if (!tn_rw_is(m, op, TN_OPC_matmul) || tn_rw_int(m, op, "trans_a")) return false;
  tn_value lhs = tn_ir_op_operand(m, op, 0), rhs = tn_ir_op_operand(m, op, 1);
  tn_dtype type = tn_rw_type_info(m, rhs).dtype;
  return tn_rw_kind(m, rhs) == TN_VALUE_WEIGHT && (type == TN_DT_f32 || type == TN_DT_bf16) &&
         tn_rw_type_info(m, lhs).dtype == TN_DT_f32 && lhs != rhs;
}

/* Is it worth storing: something that arithmetic makes? */
static bool is_maker(tn_module *m, tn_op op) {
  return op && !tn_rw_is(m, op, TN_OPC_cast) &&
         (tn_rw_is(m, op, TN_OPC_attention) || (tn_rw_flags(m, op) & TN_F_ELEMENTWISE));
}

static uint32_t assigned(const tn_pass_ctx *c, tn_op op) {
  return op < c->assigned.count ? c->assigned.items[op] : 0;
}
static bool fuses(const tn_pass_ctx *c, tn_op root, tn_op op, uint32_t role) {
  const tn_pass_backends *b = c->backends;
  uint32_t backend = assigned(c, root);
  return b && b->fuse && backend && b->fuse(b->ctx, backend - 1, c->m, root, op, role);
}

typedef struct narrowing {
  tn_op maker, cast;
} narrowing;

/* v as bf16, made where v is; a reshape between is made again. 0: somebody else reads it, or nobody made it.
 */
static tn_value narrowed(tn_module *m, tn_value v, narrowing *n) {
  tn_op def = tn_rw_def(m, v), next;
  if (!def || tn_rw_nuses(m, v) != 1 || tn_ir_op_nresults(m, def) != 1) return 0;
  if (tn_rw_is(m, def, TN_OPC_reshape)) {
    tn_value from = narrowed(m, tn_ir_op_operand(m, def, 0), n);
    tn_named_attr shape = {"shape", tn_rw_attr(m, def, "shape")};
    if (!from) return 0;
    return tn_rw_build(m, tn_rw_before(def), TN_OPC_reshape, &from, 1, &shape, 1, tn_ir_op_loc(m, def));
  }
  if (!is_maker(m, def) || !(next = tn_ir_next_op(m, def))) return 0;
  tn_value made = cast(m, tn_rw_before(next), v, TN_DT_bf16, tn_ir_op_loc(m, def));
  *n = (narrowing){def, tn_rw_def(m, made)};
  return made;
}

/* Do the backend's kernels store and read it so? An elementwise maker is stored by whichever kernel it ends
 * up in. */
static bool is_taken(const tn_pass_ctx *c, const narrowing *n, tn_op product, tn_op back) {
  bool root = tn_rw_is(c->m, n->maker, TN_OPC_attention);
  return assigned(c, n->maker) == assigned(c, product) && fuses(c, product, back, TN_FUSE_PROLOGUE) &&
         (!root || fuses(c, n->maker, n->cast, TN_FUSE_EPILOGUE));
}

static tn_status narrow(tn_pass_ctx *c, tn_op op) {
  tn_module *m = c->m;
  tn_value lhs = tn_ir_op_operand(m, op, 0);
  narrowing n = {0};
  tn_value half = narrowed(m, lhs, &n);
  if (!half) return TN_OK;
  tn_value back = cast(m, tn_rw_before(op), half, TN_DT_f32, tn_ir_op_loc(m, n.maker));
  if (!back) return TN_INTERNAL;
  TN_TRY(tn_ir_op_set_operand(m, op, 0, back));
  if (is_taken(c, &n, op, tn_rw_def(m, back))) return TN_OK;
  return tn_ir_op_set_operand(m, op, 0, lhs); /* nobody uses the casts then */
}

tn_status tn_pass_narrow(tn_pass_ctx *c, tn_func f) {
  tn_module *m = c->m;
  const char *precision = tn_ir_meta_get(m, "precision");
  if (!precision || strcmp(precision, "fast") != 0) return TN_OK;
  for (tn_op op = tn_ir_first_op(m, f, 0); op; op = tn_ir_next_op(m, op))
    if (is_product(m, op)) TN_TRY(narrow(c, op));
  return TN_OK;
}
