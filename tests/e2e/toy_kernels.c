/* toy_kernels.c - the toy model's kernels as an object for the link step, as a backend would hand it over. */
#define TOY_LINKAGE
#include "tests/unit/toy_kernels.h"
