/* split.c - convolutions whose k is cut into parts: how many, where their sums are kept, and the launch that
 * takes them together, always in the same order. */
#include "backends/cuda/conv/conv.h"
#include "backends/llvm/convert.h"

enum { THREADS = 256, MOST = 8, LEAST = 128 /* k of a part */, UNIT = 32 };

void tn_cuda_conv_split(tn_cuda_conv *v, tn_dim when) {
  tn_cuda_kernel *k = v->k;
  int64_t channels;
  v->parts = 0;
  if (!tn_ll_dim_const(&k->body, v->channels_dim, &channels) || channels > INT32_MAX / v->taps) return;
  int64_t depth = channels * v->taps, parts = depth / LEAST < MOST ? depth / LEAST : MOST;
  if (parts < 2) return;
  v->part_depth = (int64_t)tn_align_up((uint64_t)((depth + parts - 1) / parts), UNIT);
  v->parts = (uint32_t)((depth + v->part_depth - 1) / v->part_depth);
  int64_t each = v->parts * v->groups * v->phases * tn_ll_dtype_of(v->acc).bytes;
  tn_dim sums = tn_cuda_dim_mul(k, v->outputs_dim, v->positions_dim);
  v->scratch = tn_cuda_scratch(k, tn_cuda_dim_mul(k, tn_cuda_dim_mul(k, sums, tn_cuda_dim_k(k, each)), when));
}

ll_val tn_cuda_conv_part(tn_cuda_conv *v, ll_val part, ll_val o, const tn_cuda_conv_place *p) {
  tn_ll *e = v->k->e;
  ll_val row = ll_iadd(e, tn_conv_mul(v, part, v->groups * v->phases), v->which);
  row = ll_iadd(e, ll_imul(e, row, v->outputs), o);
  ll_val at = ll_imul(e, tn_cuda_i64(v->k, row), tn_cuda_i64(v->k, v->positions));
  at = ll_iadd(e, at, tn_cuda_i64(v->k, p->position));
  return ll_at(e, tn_cuda_scratch_at(v->k, v->scratch),
               ll_imul(e, at, ll_k(e, tn_ll_dtype_of(v->acc).bytes)));
}

void tn_cuda_conv_join(tn_cuda_conv *v, tn_dim when) {
  tn_ll *e = v->k->e;
  uint32_t parts = v->parts;
  ll_val o, column;
  v->parts = 0;
  tn_cuda_shape shape = {.threads = THREADS,
                         .grid = {tn_cuda_dim_mul(v->k, tn_cuda_conv_blocks(v, 1, THREADS), when)}};
  tn_cuda_launch_begin(v->k, &shape);
  tn_cuda_conv_open(v);
  tn_cuda_conv_tile(v, 1, THREADS, &o, &column);
  tn_cuda_conv_place p = tn_cuda_conv_place_of(v, ll_iadd(e, column, tn_cuda_thread(v->k)));
  ll_if inside;
  ll_if_begin(e, &inside, p.ok);
  for (uint32_t i = 0; i < parts; i++) {
    ll_val sum = ll_load(e, tn_ll_register_type(e, v->acc), tn_cuda_conv_part(v, tn_conv_k(v, i), o, &p),
                         tn_ll_dtype_of(v->acc).bytes);
    v->sum = i ? ll_fadd(e, v->sum, sum) : sum;
  }
  tn_cuda_conv_put(v, o, &p, 1);
  ll_if_end(e, &inside);
  tn_cuda_launch_end(v->k);
}
