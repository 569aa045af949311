/* cpu.h - what this processor and its system can execute. */
#ifndef TN_CPU_H
#define TN_CPU_H
#include "ir/base/base.h"

/* True if the machine has every feature of the list ("avx2,fma"; "" is always true). Otherwise *missing is
 * the first that it lacks, a part of the list. */
bool tn_cpu_has(const char *features, tn_str *missing);

#endif
