/* encode_avx2.c - the encoders for vectors of 8 floats. */
#if defined(__x86_64__)
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC target("avx2")
#endif
#define TN_LANES 8
#define TN_ENCODE_NAME tn_encode_avx2
#include "ir/quant/encode_main.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
