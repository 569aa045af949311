/* rows_int.c - see rows_int.h. A value is rounded by adding 1.5 * 2^23, which leaves the integer in the low
 * bits of the sum; magnitudes are compared as integers, where NaN is the largest. */
#include "backends/cpu/matmul/rows_int.h"

#define MAGIC 12582912.0      /* 1.5 * 2^23 */
#define MAGIC_BITS 0x4b400000 /* the same as f32 bits */
#define TINY 0x1p-100         /* below, a block counts as zeros: 127 / amax must be finite */
#define MAX_VECTORS (TN_CPU_INT_LONG_BLOCK / 8) /* of a block */

static ll_val lines(tn_ll *e, ll_val bytes) {
  return ll_and(e, ll_iadd(e, bytes, ll_k(e, 63)), ll_k(e, -64));
}

tn_cpu_int_rows tn_cpu_int_rows_of(tn_cpu_kernel *k, ll_val depth, uint32_t block, uint32_t run,
                                   int32_t times) {
  tn_ll *e = k->e;
  tn_cpu_int_rows r = {.block = block, .run = run, .times = times};
  ll_val sums = lines(e, ll_imul(e, ll_udiv(e, depth, ll_k(e, run)), ll_k(e, 4)));
  r.d = lines(e, depth);
  r.isum = ll_iadd(e, r.d, lines(e, ll_udiv(e, depth, ll_k(e, block / 4))));
  r.fsum = ll_iadd(e, r.isum, sums);
  /* an odd number of lines: rows do not fall into the same sets of the cache */
  ll_val end = ll_iadd(e, ll_iadd(e, r.fsum, sums), ll_k(e, 63));
  r.bytes = ll_iadd(e, ll_and(e, end, ll_k(e, -128)), ll_k(e, 64));
  return r;
}

tn_dim tn_cpu_int_row_dim(tn_cpu_kernel *k, tn_dim depth) {
  return tn_cpu_dim_add(k, tn_cpu_dim_mul(k, depth, tn_cpu_dim_k(k, 2)), tn_cpu_dim_k(k, 320));
}

/* The scale of a block and what its values are multiplied by, from its vectors. */
static ll_val scale_of(tn_ll *e, const ll_val *x, uint32_t n, ll_val *inverse) {
  ll_val most = NULL;
  for (uint32_t i = 0; i < n; i++) {
    ll_val bits = ll_cast_bits(e, x[i], ll_vec(e, e->i32));
    bits = ll_and(e, bits, ll_i(e, bits, INT32_MAX));
    most = most ? ll_imax(e, most, bits) : bits;
  }
  ll_val amax = ll_cast_bits(e, ll_reduce_with(e, most, ll_imax), e->f32);
  ll_val by = ll_fdiv(e, ll_f(e, amax, 127), amax);
  *inverse = ll_select(e, ll_fcmp(e, LLVMRealOGT, amax, ll_f(e, amax, TINY)), by, ll_f(e, amax, 0));
  return ll_fdiv(e, amax, ll_f(e, amax, 127));
}

/* Sums of `run` values each of the block at position `at`. */
static void store_sums(tn_cpu_kernel *k, const tn_cpu_int_rows *r, const ll_val *q, ll_val d, ll_val at,
                       ll_val to) {
  tn_ll *e = k->e;
  uint32_t per = r->run / e->lanes;
  for (uint32_t i = 0; i < r->block / r->run; i++) {
    ll_val sum = q[i * per];
    for (uint32_t v = 1; v < per; v++) sum = ll_add(e, sum, q[i * per + v]);
    sum = ll_reduce_with(e, sum, ll_add);
    ll_val run = ll_udiv(e, ll_iadd(e, at, ll_k(e, (int64_t)i * r->run)), ll_k(e, r->run));
    ll_val off = ll_imul(e, run, ll_k(e, 4)), fsum = LLVMBuildSIToFP(e->b, sum, e->f32, "");
    ll_store(e, ll_imul(e, sum, ll_i(e, sum, r->times)), ll_at(e, to, ll_iadd(e, r->isum, off)), 4);
    ll_store(e, ll_fmul(e, d, fsum), ll_at(e, to, ll_iadd(e, r->fsum, off)), 4);
  }
}

void tn_cpu_int_prepare(tn_cpu_kernel *k, const tn_cpu_int_rows *r, ll_val depth, ll_val to,
                        tn_cpu_row_fn get, void *ctx) {
  tn_ll *e = k->e;
  uint32_t n = r->block / e->lanes;
  ll_val x[MAX_VECTORS], q[MAX_VECTORS], inverse;
  ll_loop l;
  ll_loop_begin(e, &l, ll_k(e, 0), depth, ll_k(e, r->block), NULL, 0);
  tn_ll_body_forget(&k->body);
  for (uint32_t i = 0; i < n; i++)
    x[i] = get(k, ctx, tn_ll_ix_lanes(ll_iadd(e, l.iv, ll_k(e, (int64_t)i * e->lanes)), true));
  ll_val d = scale_of(e, x, n, &inverse), by = ll_splat(e, inverse);
  for (uint32_t i = 0; i < n; i++) {
    ll_val f = ll_fma(e, x[i], by, ll_f(e, x[i], MAGIC));
    q[i] = ll_cast_bits(e, f, ll_vec(e, e->i32));
    ll_val at = ll_at(e, to, ll_iadd(e, l.iv, ll_k(e, (int64_t)i * e->lanes)));
    ll_store(e, LLVMBuildTrunc(e->b, q[i], ll_vec(e, e->i8), ""), at, 1);
    q[i] = ll_sub(e, q[i], ll_i(e, q[i], MAGIC_BITS));
  }
  ll_val scale_at = ll_iadd(e, r->d, ll_udiv(e, l.iv, ll_k(e, r->block / 4)));
  ll_store(e, d, ll_at(e, to, scale_at), 4);
  store_sums(k, r, q, d, l.iv, to);
  ll_loop_end(e, &l, NULL);
  tn_ll_body_forget(&k->body);
}
