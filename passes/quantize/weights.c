/* weights.c - the pass `quantize`: plain weights that meet products become weights of a block format, which
 * are encoded while they stream (form "encode", frontend/forms). A weight is taken only if all its uses can
 * read blocks: right operands of products, and tables that rows are gathered from. */
#include "ir/quant/encode.h"
#include "passes/passes.h"
#include "passes/rw.h"

typedef struct quantizer {
  tn_module *m;
  tn_dtype type;
  int64_t least, rows; /* fewer numbers, or fewer outputs of the product: it stays */
  uint32_t made, misfits;
  const char *misfit; /* the first whose rows are not whole blocks, and their length */
  int64_t columns;
} quantizer;

/* What the uses of a weight say about it. */
typedef struct uses {
  uint32_t products, tables, turned, other;
} uses;

static uses uses_of(tn_module *m, tn_value v) {
  uses u = {0};
  for (uint32_t i = 0, n = tn_rw_nuses(m, v); i < n; i++) {
    uint32_t operand;
    tn_op op = tn_ir_value_use(m, v, i, &operand);
    bool product = operand == 1 && tn_rw_is(m, op, TN_OPC_matmul);
    if (product && tn_rw_int(m, op, "trans_b"))
      u.products++;
    else if (product)
      u.turned++;
    else if (operand == 1 && tn_rw_is(m, op, TN_OPC_expert_matmul))
      u.products++;
    else if (!operand && tn_rw_is(m, op, TN_OPC_gather) && !tn_rw_int(m, op, "axis"))
      u.tables++;
    else
      u.other++;
  }
  return u;
}

static bool is_plain(tn_dtype t) { return t == TN_DT_f32 || t == TN_DT_f16 || t == TN_DT_bf16; }

/* Sizes of the last two dims, and of all; false: not known. */
static bool sizes_of(tn_module *m, const tn_type_info *t, int64_t *rows, int64_t *columns, uint64_t *all) {
  int64_t d = 0;
  *all = 1;
  for (uint32_t i = 0; i < t->rank; i++)
    if (!tn_ir_dim_is_const(m, t->dims[i], &d) || d <= 0 || !tn_mul_u64(*all, (uint64_t)d, all)) return false;
  return tn_ir_dim_is_const(m, t->dims[t->rank - 2], rows) &&
         tn_ir_dim_is_const(m, t->dims[t->rank - 1], columns);
}

/* Whether weight w can and should become blocks. *turned: it is [k, n] and must become [n, k]. */
static bool wanted(quantizer *q, const tn_weight_info *w, const tn_type_info *t, bool *turned) {
  uses u = uses_of(q->m, w->value);
  int64_t rows, columns;
  uint64_t all;
  if (w->form || t->layout || !is_plain(t->dtype) || t->rank < 2 || u.other) return false;
  *turned = u.turned > 0;
  if (!(u.products + u.turned) || (u.turned && (u.products || u.tables || t->rank != 2))) return false;
  if (u.tables && t->rank != 2) return false;
  if (!sizes_of(q->m, t, &rows, &columns, &all)) return false;
  if (*turned) {
    int64_t swap = rows;
    rows = columns;
    columns = swap;
  }
  if (rows < q->rows || all < (uint64_t)q->least) return false;
  if (tn_encode_row_bytes(q->type, (uint64_t)columns)) return true;
  if (!q->misfits++) q->misfit = w->name, q->columns = columns;
  return false;
}

static tn_weight make(quantizer *q, const tn_weight_info *w, const tn_type_info *t, bool turned) {
  tn_module *m = q->m;
  tn_buf name = {0}, form = {0};
  tn_dim dims[TN_MAX_RANK];
  memcpy(dims, t->dims, t->rank * sizeof *dims);
  if (turned) dims[0] = t->dims[1], dims[1] = t->dims[0];
  tn_buf_printf(&name, "%s@%s", w->name, tn_ir_dtype_info(q->type)->name);
  tn_buf_printf(&form, "encode %s%s", tn_ir_dtype_info(t->dtype)->name, turned ? " turned" : "");
  tn_type type = tn_rw_type_of(m, q->type, t->rank, dims);
  tn_weight made = 0;
  if (type && !name.failed && !form.failed)
    made = tn_ir_weight_add(m, tn_buf_cstr(&name), type, w->parts, w->nparts);
  if (made && tn_ir_weight_set_form(m, made, tn_buf_cstr(&form)) != TN_OK) made = 0;
  tn_buf_fini(&name);
  tn_buf_fini(&form);
  return made;
}

/* Rows gathered from blocks are blocks; they become numbers again behind the gather. */
static tn_status retarget_table(tn_module *m, tn_op op, tn_value to, tn_dtype plain) {
  tn_value in[2] = {to, tn_ir_op_operand(m, op, 1)}, old = tn_ir_op_result(m, op, 0);
  tn_named_attr dtype = {"to", {.kind = TN_ATTR_DTYPE, .u.i = plain}};
  tn_loc loc = tn_ir_op_loc(m, op);
  tn_value rows = tn_rw_build(m, tn_rw_before(op), TN_OPC_gather, in, 2, NULL, 0, loc);
  tn_value made = rows ? tn_rw_build(m, tn_rw_before(op), TN_OPC_dequant, &rows, 1, &dtype, 1, loc) : 0;
  if (!made) return TN_INTERNAL;
  const char *name = tn_ir_value_name(m, old);
  if (name) TN_TRY(tn_ir_value_set_name(m, made, name));
  TN_TRY(tn_ir_value_replace(m, old, made));
  return tn_ir_op_erase(m, op);
}

/* Uses disappear from the old weight one by one. */
static tn_status retarget(tn_module *m, tn_value from, tn_value to, tn_dtype plain) {
  tn_attr yes = {.kind = TN_ATTR_BOOL, .u.i = 1};
  while (tn_rw_nuses(m, from)) {
    uint32_t operand;
    tn_op op = tn_ir_value_use(m, from, 0, &operand);
    if (!operand) {
      TN_TRY(retarget_table(m, op, to, plain));
      continue;
    }
    if (tn_rw_is(m, op, TN_OPC_matmul)) TN_TRY(tn_ir_op_set_attr(m, op, "trans_b", &yes));
    TN_TRY(tn_ir_op_set_operand(m, op, operand, to));
  }
  return TN_OK;
}

static tn_status quantize_one(quantizer *q, tn_weight id) {
  tn_weight_info w, n;
  tn_type_info t;
  bool turned;
  tn_ir_weight_get(q->m, id, &w);
  tn_ir_type_get(q->m, w.type, &t);
  if (!wanted(q, &w, &t, &turned)) return TN_OK;
  tn_weight made = make(q, &w, &t, turned);
  if (!made) return TN_INTERNAL;
  tn_ir_weight_get(q->m, id, &w);
  tn_ir_weight_get(q->m, made, &n);
  q->made++;
  return retarget(q->m, w.value, n.value, t.dtype);
}

tn_status tn_pass_quantize(tn_pass_ctx *c, tn_func f) {
  (void)f;
  const char *scheme = tn_pass_text(c, "scheme", tn_ir_meta_get(c->m, "quantize"));
  if (!scheme || !*scheme) return TN_OK;
  quantizer q = {.m = c->m,
                 .type = tn_ir_dtype_by_name(scheme),
                 .least = tn_pass_int(c, "least", 16384),
                 .rows = tn_pass_int(c, "rows", 32)};
  if (!tn_quant_of(q.type) || !tn_encode_can(q.type)) {
    tn_ir_report(c->m, TN_ERROR, 0, "'%s' is no block format that can be written (tenon formats lists them)",
                 scheme);
    return TN_INVALID;
  }
  for (tn_weight w = 1, n = tn_ir_weight_count(c->m); w <= n; w++) TN_TRY(quantize_one(&q, w));
  if (q.misfits)
    tn_ir_report(c->m, TN_WARNING, 0,
                 "%u weight%s as before: rows of %lld numbers ('%s') are no multiple of the %u of %s",
                 q.misfits, q.misfits > 1 ? "s stay" : " stays", (long long)q.columns, q.misfit,
                 tn_quant_of(q.type)->values, scheme);
  return TN_OK;
}
