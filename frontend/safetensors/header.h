/* header.h - between the two halves of the reader: one file's header, and the folder. */
#ifndef TN_ST_HEADER_H
#define TN_ST_HEADER_H
#include "frontend/safetensors/safetensors.h"

/* As tn_st_read, but leaves the order and the index to tn_st_sort. */
tn_status tn_st_header(tn_st_files *s, const char *file, tn_bytes data, tn_diags *diags);
/* Sorts the tensors and rebuilds by_name; a name in two files is an error. */
tn_status tn_st_sort(tn_st_files *s, tn_diags *diags);
#endif
