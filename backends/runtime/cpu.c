/* cpu.c - cpuid names to bits. A vector feature counts only if the system saves its registers (XCR0); the
 * names are LLVM's without "-". Bits: Intel SDM volume 2A, CPUID. */
#include "backends/runtime/cpu.h"
#include "ir/base/x86.h"

#if defined(__x86_64__)

enum { EAX, EBX, ECX, EDX };
enum { NO_STATE = 0, YMM = TN_X86_YMM, ZMM = TN_X86_ZMM, TILE = TN_X86_TILE }; /* what XCR0 must hold */
/* clang-format off */
static const struct { const char *name; uint32_t leaf, sub, reg, bit, state; } bits[] = {
    {"sse3", 1, 0, ECX, 0, NO_STATE},         {"ssse3", 1, 0, ECX, 9, NO_STATE},
    {"sse4.1", 1, 0, ECX, 19, NO_STATE},      {"sse4.2", 1, 0, ECX, 20, NO_STATE},
    {"popcnt", 1, 0, ECX, 23, NO_STATE},      {"movbe", 1, 0, ECX, 22, NO_STATE},
    {"bmi", 7, 0, EBX, 3, NO_STATE},          {"bmi2", 7, 0, EBX, 8, NO_STATE},
    {"lzcnt", 0x80000001, 0, ECX, 5, NO_STATE},
    {"avx", 1, 0, ECX, 28, YMM},              {"fma", 1, 0, ECX, 12, YMM},
    {"f16c", 1, 0, ECX, 29, YMM},             {"avx2", 7, 0, EBX, 5, YMM},
    {"avxvnni", 7, 1, EAX, 4, YMM},
    {"avx512f", 7, 0, EBX, 16, ZMM},          {"avx512dq", 7, 0, EBX, 17, ZMM},
    {"avx512ifma", 7, 0, EBX, 21, ZMM},       {"avx512cd", 7, 0, EBX, 28, ZMM},
    {"avx512bw", 7, 0, EBX, 30, ZMM},         {"avx512vl", 7, 0, EBX, 31, ZMM},
    {"avx512vbmi", 7, 0, ECX, 1, ZMM},        {"avx512vbmi2", 7, 0, ECX, 6, ZMM},
    {"avx512vnni", 7, 0, ECX, 11, ZMM},       {"avx512bitalg", 7, 0, ECX, 12, ZMM},
    {"avx512vpopcntdq", 7, 0, ECX, 14, ZMM},  {"avx512fp16", 7, 0, EDX, 23, ZMM},
    {"avx512bf16", 7, 1, EAX, 5, ZMM},
    {"amxbf16", 7, 0, EDX, 22, TILE},         {"amxtile", 7, 0, EDX, 24, TILE},
    {"amxint8", 7, 0, EDX, 25, TILE},
};
/* clang-format on */

static bool has(tn_str name) {
  if (tn_x86_assumed(name.ptr, name.len)) return true;
  for (size_t i = 0; i < TN_COUNT(bits); i++) {
    if (!tn_str_is(name, bits[i].name)) continue;
    unsigned r[4] = {0};
    if (!__get_cpuid_count(bits[i].leaf, bits[i].sub, &r[EAX], &r[EBX], &r[ECX], &r[EDX])) return false;
    if (!(r[bits[i].reg] >> bits[i].bit & 1)) return false;
    if (bits[i].state == TILE) return tn_x86_tiles_permitted();
    return (tn_x86_states() & bits[i].state) == bits[i].state;
  }
  return tn_str_is(name, "sse") || tn_str_is(name, "sse2");
}
#else
static bool has(tn_str name) { return !name.len; }
#endif

bool tn_cpu_has(const char *features, tn_str *missing) {
  for (const char *p = features; p && *p;) {
    size_t n = strcspn(p, ",");
    tn_str name = {p, n};
    while (name.len && *name.ptr == ' ') name.ptr++, name.len--;
    if (name.len && *name.ptr == '+') name.ptr++, name.len--;
    if (name.len && !has(name)) return *missing = name, false;
    p += n + (p[n] == ',');
  }
  return true;
}
