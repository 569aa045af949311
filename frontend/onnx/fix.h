/* fix.h - the option "fix": inputs with a value that never changes. */
#ifndef TN_ONNX_FIX_H
#define TN_ONNX_FIX_H
#include "frontend/onnx/import.h"

/* The text of an input's value; NULL: it is not fixed. */
const char *tn_ox_fix_find(tn_ox *x, const char *name);
/* Fails on names that no input has. */
tn_status tn_ox_fix_unused(tn_ox *x, const tn_ox_graph *g);
/* The constant of an input's type; 0: reported. A size that the type leaves open is the number of values. */
tn_value tn_ox_fix_value(tn_ox *x, const char *name, const char *text, tn_type type);
#endif
