/* imatrix_dat.h - the older format of importance matrices, .dat: no magic number, no experts, means times the
 * number of chunks instead of sums. */
#ifndef TN_IMATRIX_DAT_H
#define TN_IMATRIX_DAT_H
#include "frontend/gguf/imatrix.h"

tn_status tn_imatrix_dat_read(tn_imatrix *m, const char *path, tn_bytes file, tn_diags *diags);
/* `order`: of the entries. */
tn_status tn_imatrix_dat_write(const tn_imatrix *m, const uint32_t *order, const char *path, tn_diags *diags);

/* Why tn_imatrix_add gave NULL, as an error. */
tn_status tn_imatrix_fail_size(const tn_imatrix *m, tn_diags *d, const char *path, const char *name,
                               uint32_t experts, uint32_t columns);
/* The entries by name; freed with tn_mem_free. */
tn_status tn_imatrix_order(const tn_imatrix *m, uint32_t **order);
#endif
