/* toy_late.h - a second program built by hand (toy.h): one whose sizes only the run makes known.
 *
 *   main(x[B] f32, n[] i64, c[] bool) -> head[N] f32, some[M] f32, grown[L] f32
 *     head: the first n of x; some: x if c, else its first element; grown: n times one more element, each
 * what was there plus 1, then the iteration's number
 *
 * N <= B, L <= 100. All work is done by late_copy and late_grow. */
#ifndef TN_TEST_TOY_LATE_H
#define TN_TEST_TOY_LATE_H
#include "tests/unit/toy.h"

enum { LATE_KERNELS = 2 };

static void late_copy(const tn_kcall *c) { /* from, to; n */
  const float *from = c->bufs[0];
  float *to = c->bufs[1];
  for (int64_t i = c->thread; i < c->dims[0]; i += c->nthreads) to[i] = from[i];
}

static void late_grow(const tn_kcall *c) { /* i, from, again, to; n */
  const float *from = c->bufs[1];
  float *to = c->bufs[3];
  *(uint8_t *)c->bufs[2] = 1;
  for (int64_t i = 0; i < c->dims[0]; i++) to[i] = from[i] + 1;
  to[c->dims[0]] = (float)*(const int64_t *)c->bufs[0];
}

static void late_nothing(const tn_kcall *c) { (void)c; } /* leaves zeros */

typedef struct late_rows {
  uint32_t b, n, m, l, a, d, k, zero, bytes_n; /* expressions */
} late_rows;

static inline late_rows late_dims(toy_blob *t) {
  static const char *const names[] = {"B", "N", "M", "L", "A", "D", "K"};
  uint32_t rows[7];
  for (uint32_t i = 0; i < 7; i++) {
    uint32_t at = toy_str(t, names[i]);
    TOY_ROW(t, dims, tn_prog_dim, {at, TN_PROG_DIM_INPUT, i == 3 ? 100 : INT64_MAX});
    rows[i] = toy_sym(t, i);
  }
  TOY_ROW(t, constraints, tn_prog_constraint, {rows[1], rows[0]});
  return (late_rows){rows[0], rows[1], rows[2], rows[3], rows[4], rows[5], rows[6], toy_const(t, 0), 0};
}

static inline void late_host(toy_blob *t, uint32_t kind, uint32_t row, const tn_prog_operand *o, uint32_t n) {
  uint32_t first = toy_operands(t, o, n);
  TOY_ROW(t, steps, tn_prog_step,
          {row, first, n, 0, 0, TN_PROG_NONE, 0, toy_str(t, "late.model:3"), 0, kind});
}

/* One entry with one variant of the steps and slots since `step` and `slot`. */
static inline void late_entry(toy_blob *t, const char *name, uint32_t in, uint32_t nin, uint32_t nout,
                              uint32_t step, uint32_t slot) {
  uint32_t nsteps = (uint32_t)(t->steps.len / sizeof(tn_prog_step)),
           nslots = (uint32_t)(t->slots.len / sizeof(tn_prog_slot)),
           nvariants = (uint32_t)(t->variants.len / sizeof(tn_prog_variant)), at = toy_str(t, name);
  TOY_ROW(t, entries, tn_prog_entry, {at, in, nin, in + nin, nout, nvariants, 1});
  TOY_ROW(t, variants, tn_prog_variant, {TN_PROG_NONE, step, nsteps - step, slot, nslots - slot, 0, 0});
}

static inline tn_buf late_program(void) {
  toy_blob t = {.nprivate = 3};
  t.name = toy_str(&t, "late");
  late_rows r = late_dims(&t);
  static const char *const kernels[LATE_KERNELS] = {"late_copy", "late_grow"};
  for (int i = 0; i < LATE_KERNELS; i++) {
    uint32_t symbol = toy_str(&t, kernels[i]), backend = toy_str(&t, "toy");
    TOY_ROW(&t, kernels, tn_prog_kernel, {symbol, backend});
  }
  uint32_t one = toy_const(&t, 1), more = toy_op(&t, TN_DIM_ADD, r.k, one);
  uint32_t sb = TOY_SCALARS(&t, r.b), sn = TOY_SCALARS(&t, r.n), sm = TOY_SCALARS(&t, r.m),
           sl = TOY_SCALARS(&t, r.l), sa = TOY_SCALARS(&t, r.a), sd = TOY_SCALARS(&t, r.d),
           sk = TOY_SCALARS(&t, r.k), s1 = TOY_SCALARS(&t, one), sg = TOY_SCALARS(&t, more);
  toy_arg(&t, "x", TN_DT_f32, 1, sb), toy_arg(&t, "n", TN_DT_i64, 0, 0), toy_arg(&t, "c", TN_DT_bool, 0, 0);
  toy_arg(&t, "head", TN_DT_f32, 1, sn), toy_arg(&t, "some", TN_DT_f32, 1, sm);
  toy_arg(&t, "grown", TN_DT_f32, 1, sl);
  toy_arg(&t, "all.x", TN_DT_f32, 1, sa), toy_arg(&t, "all.y", TN_DT_f32, 1, sa);     /* 6 */
  toy_arg(&t, "first.x", TN_DT_f32, 1, sd), toy_arg(&t, "first.y", TN_DT_f32, 1, s1); /* 8 */
  toy_arg(&t, "i", TN_DT_i64, 0, 0), toy_arg(&t, "from", TN_DT_f32, 1, sk);           /* 10 */
  toy_arg(&t, "again", TN_DT_bool, 0, 0), toy_arg(&t, "to", TN_DT_f32, 1, sg);
  toy_arg(&t, "", TN_DT_f32, 1, sb), toy_arg(&t, "m", TN_DT_f32, 1, sm),
      toy_arg(&t, "l", TN_DT_f32, 1, sl); /* 14 */
  TOY_ROW(&t, binds, tn_prog_bind, {1, TN_DT_i64, r.b, 0});
  TOY_ROW(&t, calls, tn_prog_call, {1, 2, 14, 1, 15, 1, 0, 0});
  TOY_ROW(&t, calls, tn_prog_call, {3, TN_PROG_NONE, 14, 1, 16, 1, 1, TN_DT_i64});
  TOY_ROW(&t, slots, tn_prog_slot, {TN_PROG_NONE, 3});
  TOY_ROW(&t, slots, tn_prog_slot, {TN_PROG_NONE, 5});
  late_host(&t, TN_PROG_BIND, 0, TOY_OPERANDS({TN_PROG_INPUT, 1}));
  toy_step(&t, 0, TOY_OPERANDS({TN_PROG_INPUT, 0}, {TN_PROG_OUTPUT, 0}), sn, 1, TN_PROG_NONE, 0);
  late_host(&t, TN_PROG_IF, 0, TOY_OPERANDS({TN_PROG_INPUT, 2}, {TN_PROG_INPUT, 0}, {TN_PROG_SLOT, 0}));
  toy_step(&t, 0, TOY_OPERANDS({TN_PROG_SLOT, 0}, {TN_PROG_OUTPUT, 1}), sm, 1, TN_PROG_NONE, 0);
  late_host(&t, TN_PROG_LOOP, 1,
            TOY_OPERANDS({TN_PROG_INPUT, 1}, {TN_PROG_ABSENT, 0}, {TN_PROG_INPUT, 0}, {TN_PROG_SLOT, 1}));
  toy_step(&t, 0, TOY_OPERANDS({TN_PROG_SLOT, 1}, {TN_PROG_OUTPUT, 2}), sl, 1, TN_PROG_NONE, 0);
  late_entry(&t, "main", 0, 3, 3, 0, 0);
  toy_step(&t, 0, TOY_OPERANDS({TN_PROG_INPUT, 0}, {TN_PROG_OUTPUT, 0}), sa, 1, TN_PROG_NONE, 0);
  late_entry(&t, "all", 6, 1, 1, 6, 2);
  toy_step(&t, 0, TOY_OPERANDS({TN_PROG_INPUT, 0}, {TN_PROG_OUTPUT, 0}), s1, 1, TN_PROG_NONE,
           TN_KERNEL_SINGLE);
  late_entry(&t, "first", 8, 1, 1, 7, 2);
  toy_step(&t, 1,
           TOY_OPERANDS({TN_PROG_INPUT, 0}, {TN_PROG_INPUT, 1}, {TN_PROG_OUTPUT, 0}, {TN_PROG_OUTPUT, 1}), sk,
           1, TN_PROG_NONE, TN_KERNEL_SINGLE);
  late_entry(&t, "body", 10, 2, 2, 8, 2);
  return toy_finish(&t);
}

#endif
