/* target.c - the architectures. */
#include "backends/cuda/target.h"
#include <string.h>

#define TARGET(NAME, SCORE, ...)                                                                             \
  {.target = {.size = sizeof(tn_target),                                                                     \
              .score = SCORE,                                                                                \
              .name = NAME,                                                                                  \
              .triple = "nvptx64-nvidia-cuda",                                                               \
              .features = ""},                                                                               \
   .cpu = NAME,                                                                                              \
   __VA_ARGS__}

static const tn_cuda_target targets[] = {
    TARGET("sm_80", 80, .cc = 80, .ptx = 70, .shared = 163 << 10),
    TARGET("sm_89", 89, .cc = 89, .ptx = 78, .shared = 99 << 10, .fp8 = true),
    TARGET("sm_90a", 90, .cc = 90, .ptx = 80, .exact = true, .shared = 227 << 10, .tma = true, .wgmma = true,
           .fp8 = true),
    TARGET("sm_100a", 100, .cc = 100, .ptx = 86, .exact = true, .shared = 227 << 10, .tma = true,
           .fp8 = true),
    TARGET("sm_120", 120, .cc = 120, .ptx = 87, .shared = 99 << 10, .tma = true, .fp8 = true)};

const tn_cuda_target *tn_cuda_targets(uint32_t *count) {
  *count = sizeof targets / sizeof *targets;
  return targets;
}

const tn_cuda_target *tn_cuda_target_by_name(const char *name) {
  for (size_t i = 0; i < sizeof targets / sizeof *targets; i++)
    if (!strcmp(targets[i].target.name, name)) return &targets[i];
  return NULL;
}
