/* write.h - a case that ran, as a file for `replay`. */
#ifndef TN_TESTS_CUDA_WRITE_H
#define TN_TESTS_CUDA_WRITE_H
#include "tools/conform/run.h"

/* Writes FOLDER/HASH.case with the run's packages, its inputs, and the reference's results. Cases of which
 * the reference does a part are left out. */
void case_write(const char *folder, const tn_device_run *r, const tn_world *ref, tn_op ref_return,
                const char *where);
#endif
