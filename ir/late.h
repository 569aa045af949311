/* late.h - sizes that a function does not know when it is called: which of its ops (let_dim, if, loop) gives
 * each symbol its value. */
#ifndef TN_LATE_H
#define TN_LATE_H
#include "ir/ir.h"

typedef struct tn_late_symbol {
  tn_dim dim;
  tn_op op;       /* that gives it its value */
  uint32_t place; /* of that op in the function's body, counted from 1 */
} tn_late_symbol;
typedef struct tn_late {
  tn_module *m;
  TN_VEC(tn_late_symbol) symbols;
  TN_VEC(uint32_t) known; /* by dim: 1 + its place; 0: not asked yet */
  bool oom;
} tn_late;

/* `late` is zeroed first. False: no memory. */
bool tn_late_find(tn_module *m, tn_func f, tn_late *late);
void tn_late_fini(tn_late *late);
/* The place of the last op that gives d one of its symbols; 0: known from the start. */
uint32_t tn_late_place(tn_late *late, tn_dim d);
/* The row of a symbol that an op of the function gives its value; NULL: none does. */
const tn_late_symbol *tn_late_symbol_of(const tn_late *late, tn_dim symbol);

#endif
