/* convert.h - how values of each element type look in registers, and how they turn into each other.
 *
 * In registers f64, f32, f16 and integers are themselves, bool is i1, bf16 and the narrower floats are their
 * bits as i16 and i8, integers of 4 and 2 bits are extended to i8; an element of a block format is its value
 * in f32. Arithmetic happens in the compute
 * form: f32 for every float but f64. Nothing here may become a library call. */
#ifndef TN_LLVM_CONVERT_H
#define TN_LLVM_CONVERT_H
#include "backends/llvm/emit.h"

typedef struct tn_ll_dtype {
  uint32_t bytes, cls; /* bytes: in registers, and in memory unless packed */
  uint32_t packed;     /* bits of an element that shares bytes with others; else 0 */
  bool known;          /* a type that can be loaded */
} tn_ll_dtype;
tn_ll_dtype tn_ll_dtype_of(tn_dtype t);
ll_type tn_ll_memory_type(tn_ll *e, tn_dtype t);   /* scalar; bool is i8 */
ll_type tn_ll_register_type(tn_ll *e, tn_dtype t); /* scalar; bool is i1 */
ll_val tn_ll_from_memory(tn_ll *e, tn_dtype t, ll_val v);
ll_val tn_ll_to_memory(tn_ll *e, tn_dtype t, ll_val v);
/* Float types only: to f32 (f64 stays f64) and back, to nearest even. */
ll_val tn_ll_to_compute(tn_ll *e, tn_dtype t, ll_val v);
ll_val tn_ll_from_compute(tn_ll *e, tn_dtype t, ll_val v);
/* The cast op, any to any. */
ll_val tn_ll_convert(tn_ll *e, tn_dtype from, tn_dtype to, ll_val v);
/* The same with the op's attributes `overflow` and `round`. */
ll_val tn_ll_cast(tn_ll *e, tn_dtype from, tn_dtype to, ll_val v, const char *overflow, const char *round);
/* An i8 cut to the bits of a packed type and extended again; other types as they are. */
ll_val tn_ll_wrap(tn_ll *e, tn_dtype t, ll_val v);
/* f32 to the bits of bf16 in one instruction, on a target that has it (AVX512-BF16): to nearest even, what is
 * not normal to zero. */
ll_val tn_ll_round_bf16(tn_ll *e, ll_val v);
/* To f32 from any type, and from f32 to any float type. */
ll_val tn_ll_to_f32(tn_ll *e, tn_dtype t, ll_val v);

#endif
