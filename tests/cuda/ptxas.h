/* ptxas.h - what NVIDIA's assembler thinks of the kernels: it must take them without spilled registers,
 * without a stack and without its warnings about warp-specialised code. Needs no driver. */
#ifndef TN_TESTS_CUDA_PTXAS_H
#define TN_TESTS_CUDA_PTXAS_H
#include "tenon/plugin.h"

/* Has the PTX of a package (as compile gave it) for `target` assembled by the program that TENON_TEST_PTXAS
 * names, at the latest when the process ends: many in one go. PTX that was seen before is left out. Ends the
 * test with ptxas' words and the text of the case. Does nothing where the variable is not set. */
void ptxas_check(tn_bytes package, const char *target, const char *text);
#endif
