/* encode_avx512.c - the encoders for vectors of 16 floats. */
#if defined(__x86_64__)
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"))),                  \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq")
#endif
#define TN_LANES 16
#define TN_ENCODE_NAME tn_encode_avx512
#include "ir/quant/encode_main.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
