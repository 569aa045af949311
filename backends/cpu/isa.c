/* isa.c - the targets. Register budget of the micro-kernel: mr * panels * (16 / lanes) accumulators, one row
 * of the panels and one broadcast: 14 * 2 + 2 + 1 = 31 of 32 registers, 6 * 1 * 2 + 2 + 1 = 15 of 16. */
#include "backends/cpu/isa.h"
#include "ir/base/x86.h"

/* AVX-512 with narrow products, which only precision "fast" (and exact integer products) use. */
#define AVX512_WITH(NAME, SCORE, FEATURES, LLVM_FEATURES, ...)                                               \
  {.target = {.size = sizeof(tn_target),                                                                     \
              .score = SCORE,                                                                                \
              .name = NAME,                                                                                  \
              .triple = "x86_64-linux-gnu",                                                                  \
              .features = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq" FEATURES,                       \
              .flags = TN_TARGET_FAST},                                                                      \
   .llvm_cpu = "x86-64-v4",                                                                                  \
   .llvm_features = "+fma,+f16c" LLVM_FEATURES,                                                              \
   .llvm_plain = "+fma,+f16c",                                                                               \
   .vector_width = "512",                                                                                    \
   .lanes = 16,                                                                                              \
   .mr = 14,                                                                                                 \
   .panels = 2,                                                                                              \
   .stream_rows = 4,                                                                                         \
   .block_rows = 4,                                                                                          \
   .block_panels = 4,                                                                                        \
   .scalef = true,                                                                                           \
   __VA_ARGS__}

static const tn_cpu_isa isas[] = {{.target = {.size = sizeof(tn_target),
                                              .score = 20,
                                              .name = "avx512",
                                              .triple = "x86_64-linux-gnu",
                                              .features = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq"},
                                   .llvm_cpu = "x86-64-v4",
                                   .llvm_features = "+fma,+f16c",
                                   .vector_width = "512",
                                   .lanes = 16,
                                   .mr = 14,
                                   .panels = 2,
                                   .stream_rows = 4,
                                   .block_rows = 4,
                                   .block_panels = 4,
                                   .scalef = true},
                                  AVX512_WITH("avx512vnni", 30, ",avx512vnni", ",+avx512vnni", .vnni = true),
                                  AVX512_WITH("avx512bf16", 40, ",avx512vnni,avx512bf16",
                                              ",+avx512vnni,+avx512bf16", .vnni = true, .bf16 = true),
                                  AVX512_WITH("amx", 50, ",avx512vnni,avx512bf16,amxtile,amxbf16,amxint8",
                                              ",+avx512vnni,+avx512bf16,+amx-tile,+amx-bf16,+amx-int8",
                                              .vnni = true, .bf16 = true, .amx = true),
                                  {.target = {.size = sizeof(tn_target),
                                              .score = 10,
                                              .name = "avx2",
                                              .triple = "x86_64-linux-gnu",
                                              .features = "avx2,fma,f16c"},
                                   .llvm_cpu = "x86-64-v3",
                                   .llvm_features = "+fma,+f16c",
                                   .vector_width = "256",
                                   .lanes = 8,
                                   .mr = 6,
                                   .panels = 1,
                                   .stream_rows = 1,
                                   .block_rows = 2,
                                   .block_panels = 2}};

const tn_cpu_isa *tn_cpu_isas(uint32_t *count) {
  *count = sizeof isas / sizeof *isas;
  return isas;
}

const tn_cpu_isa *tn_cpu_isa_by_name(const char *name) {
  for (size_t i = 0; i < sizeof isas / sizeof *isas; i++)
    if (!strcmp(isas[i].target.name, name)) return &isas[i];
  return NULL;
}

#if defined(__x86_64__)
/* A bit of cpuid's leaf 7, and the system's word on it. */
static bool has_tiles(uint32_t bit) {
  unsigned a, b, c, d;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> bit & 1) && tn_x86_tiles_permitted();
}
#endif

static bool has_one(const char *name, size_t n) {
#if defined(__x86_64__)
  enum { AMX_BF16 = 22, AMX_TILE = 24, AMX_INT8 = 25 };
  if (tn_x86_assumed(name, n)) return true;
  if (n == 7 && !strncmp(name, "amxbf16", n)) return has_tiles(AMX_BF16);
  if (n == 7 && !strncmp(name, "amxtile", n)) return has_tiles(AMX_TILE);
  if (n == 7 && !strncmp(name, "amxint8", n)) return has_tiles(AMX_INT8);
  static const char *const names[] = {"avx2",     "fma",      "f16c",       "avx512f",   "avx512bw",
                                      "avx512vl", "avx512dq", "avx512vnni", "avx512bf16"};
  const bool have[] = {__builtin_cpu_supports("avx2"),      __builtin_cpu_supports("fma"),
                       __builtin_cpu_supports("f16c"),      __builtin_cpu_supports("avx512f"),
                       __builtin_cpu_supports("avx512bw"),  __builtin_cpu_supports("avx512vl"),
                       __builtin_cpu_supports("avx512dq"),  __builtin_cpu_supports("avx512vnni"),
                       __builtin_cpu_supports("avx512bf16")};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (strlen(names[i]) == n && !strncmp(names[i], name, n)) return have[i];
#endif
  (void)name;
  (void)n;
  return false;
}

bool tn_cpu_has(const char *features) {
  while (*features) {
    size_t n = strcspn(features, ",");
    if (n && !has_one(features, n)) return false;
    features += n + (features[n] == ',');
  }
  return true;
}
