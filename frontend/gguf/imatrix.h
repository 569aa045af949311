/* imatrix.h - importance matrices: for every matrix the sum of squared inputs per column, over the tokens of
 * a text. Read and written in llama.cpp's formats: GGUF (general.type imatrix; tensors NAME.in_sum2 [experts,
 * columns] and NAME.counts [experts, 1]) and the older .dat. Names are those of GGUF tensors. */
#ifndef TN_IMATRIX_H
#define TN_IMATRIX_H
#include "ir/base/diag.h"

typedef struct tn_imatrix_entry {
  const char *name;
  uint32_t experts, columns; /* experts: 1 of plain matrices */
  float *sums;               /* [experts, columns] of squares */
  float *counts;             /* [experts]: rows that were summed */
} tn_imatrix_entry;
typedef struct tn_imatrix {
  tn_arena arena;
  TN_VEC(tn_imatrix_entry) entries;
  tn_map by_name;
  uint32_t chunks, chunk_tokens;
  const char *dataset; /* NULL: not said */
} tn_imatrix;

void tn_imatrix_init(tn_imatrix *m);
void tn_imatrix_fini(tn_imatrix *m);
tn_imatrix_entry *tn_imatrix_find(const tn_imatrix *m, const char *name); /* NULL: none */
/* The entry of that name, made with zeros if there is none. NULL: no memory, or another size before. */
tn_imatrix_entry *tn_imatrix_add(tn_imatrix *m, const char *name, uint32_t experts, uint32_t columns);
/* Adds a file's entries; several files add up. A .dat file does not say how many experts a matrix has: then
 * the entry has 1, and the columns of all. */
tn_status tn_imatrix_read(tn_imatrix *m, const char *path, tn_diags *diags);
/* GGUF, or .dat where the path ends so. */
tn_status tn_imatrix_write(const tn_imatrix *m, const char *path, tn_diags *diags);
#endif
