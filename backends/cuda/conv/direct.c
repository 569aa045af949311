/* direct.c - convolutions with few outputs per group, depthwise ones among them: each thread sums up one
 * result. The weights are the same for all of a block; windows of neighbours overlap in the cache. */
#include "backends/cuda/conv/conv.h"
#include "backends/llvm/convert.h"

enum { THREADS = 256, UNROLLED = 49 /* taps of a window written one by one */ };

static ll_val sum_up(tn_cuda_conv *v, ll_val o, const tn_cuda_conv_place *p) {
  tn_ll *e = v->k->e;
  ll_val zero = ll_zero(tn_ll_register_type(e, v->acc));
  bool unrolled = v->taps <= UNROLLED;
  ll_loop l;
  ll_loop_begin(e, &l, tn_conv_k(v, 0), v->depth, tn_conv_k(v, unrolled ? v->taps : 1), &zero, 1);
  ll_val sum = l.phi[0];
  for (int64_t i = 0; i < (unrolled ? v->taps : 1); i++) {
    tn_cuda_conv_tap t = tn_cuda_conv_tap_of(v, unrolled ? tn_conv_k(v, i) : l.iv);
    if (unrolled) t.channel = tn_conv_div(v, l.iv, v->taps);
    if (unrolled && !v->transposed) t.ok = LLVMConstInt(e->i1, 1, 0);
    sum = ll_fma(e, tn_cuda_conv_weight(v, o, &t), tn_cuda_conv_input(v, p, &t), sum);
  }
  ll_loop_end(e, &l, &sum);
  return l.out[0];
}

void tn_cuda_conv_direct(tn_cuda_conv *v) {
  tn_ll *e = v->k->e;
  tn_cuda_shape shape = {.threads = THREADS, .grid = {tn_cuda_conv_blocks(v, 1, THREADS)}};
  ll_val o, column;
  tn_cuda_launch_begin(v->k, &shape);
  tn_cuda_conv_open(v);
  tn_cuda_conv_tile(v, 1, THREADS, &o, &column);
  tn_cuda_conv_place p = tn_cuda_conv_place_of(v, ll_iadd(e, column, tn_cuda_thread(v->k)));
  v->sum = sum_up(v, o, &p);
  tn_cuda_conv_put(v, o, &p, 1);
  tn_cuda_launch_end(v->k);
}
