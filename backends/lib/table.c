/* table.c - the kernels by the name of their op: how the cpu backend's plugin finds what its code calls. */
#include "backends/lib/lib.h"

static const tn_lib_row rows[] = {
#define TN_X(op) {#op, "tn_lib_" #op, tn_lib_##op},
    TN_LIB_KERNELS(TN_X)
#undef TN_X
};

const tn_lib_row *tn_lib_rows(void) { return rows; }

const tn_lib_row *tn_lib_find(const char *op) {
  for (size_t i = 0; i < TN_COUNT(rows); i++)
    if (!strcmp(rows[i].op, op)) return &rows[i];
  return NULL;
}
