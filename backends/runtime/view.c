/* view.c - what a checked step program says, in words and numbers: metadata, shapes as text, limits, types.
 */
#include "backends/runtime/view.h"
#include "tenon/ir.h"
#include <stdio.h>

/* Texts of expressions are cut here: a shared sub-expression may be written many times. */
enum { TEXT_DEPTH = 10, TEXT_MAX = 400 };

static const tn_dtype_info plain_types[] = {{0},
#define TN_X(name, bits, cls) {#name, bits, TN_CLASS_##cls, 1, (bits) / 8},
                                            TN_DTYPES(TN_X)
#undef TN_X
};
static const tn_dtype_info block_types[] = {
#define TN_QUANT(name, values, bytes, doc, ...)                                                              \
  {#name, ((bytes) * 8 + (values) - 1) / (values), TN_CLASS_BLOCK, values, bytes},
#include "ir/quant/quant.def"
#undef TN_QUANT
};

static const tn_dtype_info *dtype_of(uint32_t dtype) {
  if (dtype > TN_DT_NONE && dtype < TN_DT_PLAIN_END) return &plain_types[dtype];
  if (dtype >= TN_DT_BLOCK && dtype - TN_DT_BLOCK < TN_COUNT(block_types))
    return &block_types[dtype - TN_DT_BLOCK];
  return NULL;
}

const char *tn_view_dtype_name(uint32_t dtype) {
  const tn_dtype_info *d = dtype_of(dtype);
  return d ? d->name : NULL;
}

bool tn_view_bytes(uint32_t dtype, uint64_t n, uint64_t *bytes) {
  const tn_dtype_info *d = dtype_of(dtype);
  if (!d) return false;
  if (d->cls == TN_CLASS_BLOCK)
    return n % d->block_values == 0 && tn_mul_u64(n / d->block_values, d->block_bytes, bytes);
  uint64_t bits;
  if (!tn_mul_u64(n, d->bits, &bits) || !tn_add_u64(bits, 7, &bits)) return false;
  *bytes = bits / 8;
  return true;
}

const char *tn_view_meta(const tn_view *v, const char *key) {
  for (uint32_t i = 0; i < v->nmeta; i++)
    if (!strcmp(tn_view_str(v, v->meta[i].key), key)) return tn_view_str(v, v->meta[i].value);
  return NULL;
}

static void expr_text(const tn_view *v, uint32_t row, int depth, bool inner, tn_buf *out) {
  static const char *const infix[] = {
      [TN_DIM_ADD] = " + ", [TN_DIM_MUL] = " * ", [TN_DIM_FLOORDIV] = " / ", [TN_DIM_MOD] = " % "};
  const tn_prog_expr *e = &v->exprs[row];
  if (depth > TEXT_DEPTH || out->len > TEXT_MAX) {
    tn_buf_puts(out, "...");
  } else if (e->kind == TN_DIM_CONST) {
    tn_buf_printf(out, "%lld", (long long)e->value);
  } else if (e->kind == TN_DIM_SYM) {
    tn_buf_puts(out, tn_view_str(v, v->dims[e->a].name));
  } else {
    bool call = e->kind == TN_DIM_MIN || e->kind == TN_DIM_MAX;
    tn_buf_puts(out, e->kind == TN_DIM_MIN ? "min(" : e->kind == TN_DIM_MAX ? "max(" : inner ? "(" : "");
    expr_text(v, e->a, depth + 1, !call, out);
    tn_buf_puts(out, call ? ", " : infix[e->kind]);
    expr_text(v, e->b, depth + 1, !call, out);
    if (call || inner) tn_buf_puts(out, ")");
  }
}

void tn_view_expr_text(const tn_view *v, uint32_t expr, tn_buf *out) { expr_text(v, expr, 0, false, out); }

void tn_view_shape_text(const tn_view *v, uint32_t rank, uint32_t shape, tn_buf *out) {
  tn_buf_puts(out, "[");
  for (uint32_t i = 0; i < rank; i++) {
    tn_buf dim = {0};
    tn_view_expr_text(v, v->scalars[shape + i], &dim);
    tn_buf_printf(out, "%s%s", i ? ", " : "", tn_buf_cstr(&dim));
    out->failed |= dim.failed;
    tn_buf_fini(&dim);
  }
  tn_buf_puts(out, "]");
}

int64_t tn_view_limit(const tn_view *v, uint32_t dim) {
  int64_t limit = v->dims[dim].max;
  for (uint32_t i = 0; i < v->nconstraints; i++) {
    const tn_prog_expr *a = &v->exprs[v->constraints[i].a], *b = &v->exprs[v->constraints[i].b];
    if (a->kind == TN_DIM_SYM && a->a == dim && b->kind == TN_DIM_CONST && b->value < limit) limit = b->value;
  }
  return limit;
}

bool tn_view_is_setting(const tn_view *v, uint32_t state) {
  return !strcmp(tn_view_str(v, v->states[state].arg.name), TN_PROG_SETTING);
}

static bool callees_use_states(const tn_view *v, const tn_prog_step *step, const bool *stateful) {
  if (step->kind != TN_PROG_IF && step->kind != TN_PROG_LOOP) return false;
  const tn_prog_call *call = &v->calls[step->kernel];
  return stateful[call->entry] || (step->kind == TN_PROG_IF && stateful[call->otherwise]);
}

static bool variant_uses_states(const tn_view *v, const tn_prog_variant *var, const bool *stateful) {
  for (uint32_t s = 0; s < var->nsteps; s++) {
    const tn_prog_step *step = &v->steps[var->first_step + s];
    for (uint32_t o = 0; o < step->noperands; o++) {
      const tn_prog_operand *operand = &v->operands[step->first_operand + o];
      if (operand->kind == TN_PROG_STATE && !tn_view_is_setting(v, operand->index)) return true;
    }
    if (callees_use_states(v, step, stateful)) return true;
  }
  return false;
}

/* From the last entry on: calls go to entries behind their own. */
void tn_view_find_stateful(const tn_view *v, bool *out) {
  for (uint32_t e = v->nentries; e-- > 0;) {
    out[e] = false;
    for (uint32_t i = 0; i < v->entries[e].nvariants; i++)
      out[e] |= variant_uses_states(v, &v->variants[v->entries[e].first_variant + i], out);
  }
}

bool tn_view_is_dynamic(const tn_view *v, const tn_prog_entry *e) {
  for (uint32_t i = 0; i < e->nvariants; i++) {
    const tn_prog_variant *var = &v->variants[e->first_variant + i];
    for (uint32_t s = 0; s < var->nsteps; s++)
      if (tn_view_is_host(&v->steps[var->first_step + s])) return true;
  }
  return false;
}

tn_status tn_view_fail(char *error, uint64_t error_size, tn_status status, const char *fmt, ...) {
  if (!error || !error_size) return status;
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(error, error_size, fmt, ap);
  va_end(ap);
  return status;
}
