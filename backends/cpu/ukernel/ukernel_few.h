/* ukernel_few.h - micro-kernels of few rows: a packed weight passes by once, so nothing but the memory's rate
 * counts. Block formats meet rows prepared as 8-bit integers (rows_int.h), where precision allows it; floats
 * meet rows as the ordinary micro-kernel has them.
 *
 * Processors fetch best along one or two lines of addresses: a call takes its panels one after the other, or,
 * where a chain of multiply-adds would be slower than memory, two at once. */
#ifndef TN_CPU_UKERNEL_FEW_H
#define TN_CPU_UKERNEL_FEW_H
#include "backends/cpu/matmul/rows_int.h"

/* Can this type be read here where rows are few: a block format's codes, or floats? */
bool tn_cpu_few_handled(const tn_cpu_unit *u, tn_dtype dt);
/* Rows at once, and panels of a call. */
typedef struct tn_cpu_few_shape {
  uint32_t rows, panels;
} tn_cpu_few_shape;
tn_cpu_few_shape tn_cpu_few_shape_of(const tn_cpu_kernel *k, tn_dtype dt);
/* Bytes between what is read and what is fetched, `usual` unless others were found better. */
static inline uint32_t tn_cpu_few_ahead(const tn_cpu_kernel *k, uint32_t usual) {
  return k->choice.ahead ? k->choice.ahead : usual;
}
enum { TN_CPU_STREAM_CELLS = 16 }; /* of floats: vectors of sums at most */

/* Block formats: the stride of prepared rows of `depth` values. */
ll_val tn_cpu_few_row_bytes(tn_cpu_kernel *k, tn_dtype dt, ll_val depth);
void tn_cpu_few_prepare(tn_cpu_kernel *k, tn_dtype dt, ll_val depth, ll_val to, tn_cpu_row_fn get, void *ctx);
/* As tn_cpu_tile_call, of panels of the packed weight; `more` and `ahead` are not read. */
void tn_cpu_few_call(tn_cpu_kernel *k, tn_dtype dt, tn_cpu_few_shape s, ll_val rows, const tn_cpu_tile *t);

/* Writes the body of a micro-kernel for floats. */
void tn_cpu_stream_ukr(tn_cpu_kernel *k, tn_dtype dt, bool dot, tn_cpu_few_shape shape, const ll_val *p);

#endif
