/* machine_loops.c - the loops behind the limits: streams of loads, and independent chains of the widest
 * product that the processor has, enough of them to fill both of its units for their latency. Each is
 * compiled for its own instructions and runs only where cpuid names them. */
#include "tools/profile/machine.h"

typedef uint64_t line __attribute__((vector_size(64)));

/* A burst of each stream in turn, so that the memory's pages stay open for a while. */
enum { BURST = 256 / sizeof(line), AHEAD = 4096 / sizeof(line) };
static inline __attribute__((always_inline)) uint64_t read_as(const line *at, uint64_t bytes,
                                                              uint32_t streams) {
  const uint64_t part = bytes / streams / sizeof(line);
  line sum[TN_MACHINE_STREAMS] = {{0}};
  for (uint64_t i = 0; i < part; i += BURST)
    for (uint32_t s = 0; s < streams; s++) {
      const line *x = at + s * part + i;
      for (uint32_t k = 0; k < BURST; k++) {
        __builtin_prefetch(x + AHEAD + k);
        sum[s] ^= x[k];
      }
    }
  uint64_t all = 0;
  for (uint32_t s = 0; s < streams; s++)
    for (uint32_t k = 0; k < sizeof(line) / sizeof all; k++) all ^= sum[s][k];
  return all;
}
uint64_t tn_machine_read(const void *p, uint64_t bytes, uint32_t streams) {
  return streams == 1 ? read_as(p, bytes, 1) : streams == 2 ? read_as(p, bytes, 2) : read_as(p, bytes, 4);
}

#if defined(__x86_64__)

/* Twelve chains a = instruction(a, x, y) side by side, in assembly: which registers and how many moves
 * is what compilers disagree on. */
#define LINKS(I)                                                                                             \
  I " %13, %12, %0\n\t" I " %13, %12, %1\n\t" I " %13, %12, %2\n\t" I " %13, %12, %3\n\t" I                  \
    " %13, %12, %4\n\t" I " %13, %12, %5\n\t" I " %13, %12, %6\n\t" I " %13, %12, %7\n\t" I                  \
    " %13, %12, %8\n\t" I " %13, %12, %9\n\t" I " %13, %12, %10\n\t" I " %13, %12, %11\n\t"
#define LOOP(NAME, TARGET, REG, VEC, INSTRUCTION, X)                                                         \
  __attribute__((target(TARGET))) static uint64_t NAME(uint64_t n) {                                         \
    VEC x = X, y = x, a = {0}, b = a, c = a, d = a, e = a, f = a, g = a, h = a, i = a, j = a, k = a, l = a;  \
    for (uint64_t r = 0; r < n; r++)                                                                         \
      __asm__ volatile(LINKS(INSTRUCTION)                                                                    \
                       : "+" REG(a), "+" REG(b), "+" REG(c), "+" REG(d), "+" REG(e), "+" REG(f), "+" REG(g), \
                         "+" REG(h), "+" REG(i), "+" REG(j), "+" REG(k), "+" REG(l)                          \
                       : REG(x), REG(y));                                                                    \
    VEC all = a + b + c + d + e + f + g + h + i + j + k + l;                                                 \
    return (uint64_t)all[0];                                                                                 \
  }

/* The sums stay finite: x is a half in f32, a small number as two bf16, ones as bytes. */
typedef float f32x16 __attribute__((vector_size(64)));
typedef float f32x8 __attribute__((vector_size(32)));
typedef uint32_t u32x16 __attribute__((vector_size(64)));
typedef uint32_t u32x8 __attribute__((vector_size(32)));
#define HALVES (f32x16){.5f, .5f, .5f, .5f, .5f, .5f, .5f, .5f, .5f, .5f, .5f, .5f, .5f, .5f, .5f, .5f}
#define BYTES8                                                                                               \
  (u32x8) { ONES, ONES, ONES, ONES, ONES, ONES, ONES, ONES }
#define BYTES16                                                                                              \
  (u32x16) { ONES, ONES, ONES, ONES, ONES, ONES, ONES, ONES, ONES, ONES, ONES, ONES, ONES, ONES, ONES, ONES }
#define ONES 0x01010101u
LOOP(f32_avx512, "avx512f", "v", f32x16, "vfmadd213ps", HALVES)
LOOP(f32_avx2, "avx2,fma", "x", f32x8, "vfmadd213ps", ((f32x8){.5f, .5f, .5f, .5f, .5f, .5f, .5f, .5f}))
LOOP(bf16_avx512, "avx512f", "v", f32x16, "vdpbf16ps", HALVES)
LOOP(int8_avx512, "avx512f", "v", u32x16, "vpdpbusd", BYTES16)

/* Without such an instruction it takes three: products in pairs, pairs of pairs, the sum. */
#define THREE_STEPS(A)                                                                                       \
  __asm__ volatile("vpmaddubsw %2, %2, %1\n\tvpmaddwd %2, %1, %1\n\tvpaddd %1, %0, %0"                       \
                   : "+x"(A), "=&x"(t)                                                                       \
                   : "x"(x))
__attribute__((target("avx2"))) static uint64_t int8_avx2(uint64_t n) {
  u32x8 x = BYTES8, a = {0}, b = a, c = a, d = a, t = a;
  for (uint64_t r = 0; r < n; r++) {
    THREE_STEPS(a);
    THREE_STEPS(b);
    THREE_STEPS(c);
    THREE_STEPS(d);
  }
  return (a + b + c + d)[0];
}

tn_machine_loop tn_machine_loop_of(tn_limit_kind kind) {
  __builtin_cpu_init();
  bool avx512 = __builtin_cpu_supports("avx512f");
  bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  switch (kind) {
  case TN_LIMIT_F32:
    if (avx512) return (tn_machine_loop){f32_avx512, 12 * 32, "fused multiply-add, avx512f"};
    if (avx2) return (tn_machine_loop){f32_avx2, 12 * 16, "fused multiply-add, avx2"};
    return (tn_machine_loop){.with = "needs avx2 and fma"};
  case TN_LIMIT_BF16:
    if (avx512 && __builtin_cpu_supports("avx512bf16"))
      return (tn_machine_loop){bf16_avx512, 12 * 64, "dot products, avx512bf16"};
    return (tn_machine_loop){.with = "needs avx512bf16"};
  case TN_LIMIT_INT8:
    if (avx512 && __builtin_cpu_supports("avx512vnni"))
      return (tn_machine_loop){int8_avx512, 12 * 128, "dot products, avx512vnni"};
    if (avx2) return (tn_machine_loop){int8_avx2, 4 * 64, "multiply and add in three steps, avx2"};
    return (tn_machine_loop){.with = "needs avx512vnni or avx2"};
  default: return (tn_machine_loop){.with = "not arithmetic"};
  }
}

#else

tn_machine_loop tn_machine_loop_of(tn_limit_kind kind) {
  (void)kind;
  return (tn_machine_loop){.with = "measured on x86-64 only"};
}

#endif
