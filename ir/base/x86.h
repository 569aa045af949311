/* x86.h - what cpuid alone does not tell: which registers the system saves, whether it lets this process use
 * tiles, and what TENON_CPU_ASSUME claims. For the compiler and for the runtime in an artefact alike. */
#ifndef TN_X86_H
#define TN_X86_H
#if defined(__x86_64__)
#include <cpuid.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { TN_X86_YMM = 0x06, TN_X86_ZMM = 0xe6, TN_X86_TILE = 0x60000 }; /* states of XCR0 */

/* Register states that the system saves; 0 without xgetbv. */
static inline uint64_t tn_x86_states(void) {
  unsigned a, b, c, d;
  enum { OSXSAVE = 1 << 27 };
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & OSXSAVE)) return 0;
  uint32_t lo, hi;
  __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
  return (uint64_t)hi << 32 | lo;
}

/* Linux saves tiles only for a process that asked; asking again changes nothing, and threads that are there
 * already may use tiles as well. */
static inline bool tn_x86_tiles_permitted(void) {
  enum { ARCH_REQ_XCOMP_PERM = 0x1023, XTILEDATA = 18 };
  return (tn_x86_states() & TN_X86_TILE) == TN_X86_TILE &&
         !syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA);
}

/* Is the feature in the list TENON_CPU_ASSUME? Where instructions are emulated, cpuid does not know them. */
static inline bool tn_x86_assumed(const char *name, size_t len) {
  const char *p = secure_getenv("TENON_CPU_ASSUME");
  while (p && *p) {
    size_t n = strcspn(p, ",");
    if (len && n == len && !memcmp(p, name, n)) return true;
    p += n + (p[n] == ',');
  }
  return false;
}

#endif
#endif
