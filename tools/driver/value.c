/* value.c - what a dim expression comes to when its symbols have values. */
#include "tools/driver/driver.h"
#include <math.h>

static double symbol_value(tn_module *m, const char *symbol, const double *values, uint32_t n) {
  for (uint32_t i = 0; i < n && i < tn_dim_symbols(m); i++)
    if (!strcmp(tn_dim_symbol(m, i), symbol)) return values[i];
  return 0;
}

double tn_dim_value(tn_module *m, tn_dim d, const double *values, uint32_t n) {
  tn_dim_info i;
  tn_ir_dim_get(m, d, &i);
  if (i.kind == TN_DIM_CONST) return (double)i.value;
  if (i.kind == TN_DIM_SYM) return symbol_value(m, i.symbol, values, n);
  if (i.kind == TN_DIM_UNKNOWN) return 0;
  double a = tn_dim_value(m, i.a, values, n), b = tn_dim_value(m, i.b, values, n);
  switch (i.kind) {
  case TN_DIM_ADD: return a + b;
  case TN_DIM_MUL: return a * b;
  case TN_DIM_FLOORDIV: return b > 0 ? floor(a / b) : 0;
  case TN_DIM_MOD: return b > 0 ? a - b * floor(a / b) : 0;
  case TN_DIM_MIN: return a < b ? a : b;
  default: return a > b ? a : b;
  }
}
