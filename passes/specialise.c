/* specialise.c - a variant of each function for one value of a dim: @next gets @next.s1 for S = 1, the shape
 * of decoding, where matmuls are bandwidth kernels and many views disappear. The clone says in attributes
 * when to take it; the driver makes both one entry point. */
#include "passes/passes.h"
#include "passes/rw.h"
#include <ctype.h>

static bool mentions(tn_module *m, tn_dim d, const char *symbol) {
  tn_dim_info i;
  tn_ir_dim_get(m, d, &i);
  if (i.kind == TN_DIM_SYM) return !strcmp(i.symbol, symbol);
  if (i.kind == TN_DIM_CONST || i.kind == TN_DIM_UNKNOWN) return false;
  return mentions(m, i.a, symbol) || mentions(m, i.b, symbol);
}

static bool args_mention(tn_module *m, const tn_func_info *f, const char *symbol) {
  for (uint32_t i = 0; i < f->nargs; i++) {
    tn_type_info t = tn_rw_type_info(m, f->args[i]);
    for (uint32_t d = 0; d < t.rank; d++)
      if (mentions(m, t.dims[d], symbol)) return true;
  }
  return false;
}

static bool name_taken(tn_module *m, const char *name) {
  for (tn_func f = 1; f <= tn_ir_func_count(m); f++) {
    tn_func_info i;
    tn_ir_func_get(m, f, &i);
    if (!strcmp(i.name, name)) return true;
  }
  return false;
}

static tn_status specialise(tn_pass_ctx *c, tn_func f, const char *symbol, int64_t value) {
  tn_module *m = c->m;
  tn_func_info i;
  tn_attr a;
  tn_ir_func_get(m, f, &i);
  if (tn_ir_func_attr(m, f, "variant_of", &a) || !args_mention(m, &i, symbol)) return TN_OK;
  char *of = tn_arena_str(c->arena, tn_str_of(i.name));
  char *name =
      tn_arena_printf(c->arena, "%s.%c%lld", i.name, tolower((unsigned char)symbol[0]), (long long)value);
  if (!of || !name) return TN_OOM;
  if (name_taken(m, name)) return TN_OK; /* the pass has been here before */
  tn_func clone = tn_func_clone(m, f, name, symbol, tn_ir_dim_const(m, value));
  if (!clone) return TN_INTERNAL;
  tn_attr attrs[3] = {{.kind = TN_ATTR_STR, .u.s = of},
                      {.kind = TN_ATTR_STR, .u.s = symbol},
                      {.kind = TN_ATTR_INT, .u.i = value}};
  TN_TRY(tn_ir_func_set_attr(m, clone, "variant_of", &attrs[0]));
  TN_TRY(tn_ir_func_set_attr(m, clone, "when_dim", &attrs[1]));
  return tn_ir_func_set_attr(m, clone, "when_value", &attrs[2]);
}

tn_status tn_pass_specialise(tn_pass_ctx *c, tn_func f) {
  (void)f;
  const char *symbol = tn_pass_text(c, "dim", "S");
  int64_t value = tn_pass_int(c, "value", 1);
  uint32_t n = tn_ir_func_count(c->m);
  if (!tn_ir_state_count(c->m) && !tn_pass_int(c, "all", 0)) return TN_OK;
  for (tn_func g = 1; g <= n; g++) TN_TRY(specialise(c, g, symbol, value));
  return TN_OK;
}
