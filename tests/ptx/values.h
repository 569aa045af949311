/* values.h - numbers of every type as machine numbers and back. */
#ifndef PTX_VALUES_H
#define PTX_VALUES_H
#include "tests/ptx/inside.h"

static inline uint64_t ptx_unsigned(ptx_type t, uint64_t bits) {
  uint32_t n = ptx_type_bytes[t] * 8u;
  return n >= 64 ? bits : bits & ((1ull << n) - 1);
}
static inline int64_t ptx_signed(ptx_type t, uint64_t bits) {
  uint32_t n = ptx_type_bytes[t] * 8u;
  return n >= 64 ? (int64_t)bits : (int64_t)(bits << (64 - n)) >> (64 - n);
}
static inline bool ptx_is_signed(ptx_type t) { return ptx_type_class[t] == 'S'; }
/* The halves of a packed type; PT_none: it is none. */
ptx_type ptx_half_of(ptx_type t);
static inline bool ptx_is_float(ptx_type t) {
  return ptx_type_class[t] == 'F' || (ptx_type_class[t] == 'V' && ptx_type_class[ptx_half_of(t)] == 'F');
}
/* A number of any type but a packed one. */
static inline double ptx_number(ptx_type t, uint64_t bits) {
  return ptx_is_float(t)    ? ptx_float_get(t, bits)
         : ptx_is_signed(t) ? (double)ptx_signed(t, bits)
                            : (double)ptx_unsigned(t, bits);
}
/* Bits 4 .. of an address in shared memory are mixed with those from 7 on: 1, 2 or 3 of them for a swizzle of
 * 32, 64 or 128 bytes; 0: none. */
static inline uint64_t ptx_swizzle(uint32_t bits, uint64_t a) {
  return a ^ (a >> 7 & ((1u << bits) - 1)) << 4;
}
/* The rounding that an instruction names; PM_rn without one. */
ptx_mod ptx_rounding(const ptx_ins *i);
/* x to `digits` binary digits with exponents from `least` on. */
double ptx_round(double x, int digits, int least, ptx_mod how);
/* A subnormal of the type becomes 0 with its sign. */
double ptx_flush(ptx_type t, double x);

/* Runs fn on the numbers of the operands, on both halves of packed types. */
typedef uint64_t (*ptx_scalar)(const ptx_ins *i, ptx_type t, const uint64_t *in);
void ptx_apply(ptx_warp *w, const ptx_ins *i, uint32_t mask, uint32_t nin, ptx_scalar fn);
#endif
