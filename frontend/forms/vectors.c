/* vectors.c - small plain tensors that go with packed weights: scales of rows, orders of columns. */
#include "frontend/forms/form.h"

/* f32 numbers from as many f32 numbers. */
tn_status form_check_vector(tn_form *f) {
  if (f->s.dtype != TN_DT_f32) return form_fail(f, TN_INVALID, "makes f32 numbers");
  TN_TRY(form_parts(f, 1));
  return form_expect(f, 0, f->rows, f->k * 4);
}

static tn_status read_numbers(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, uint8_t *dst) {
  return form_strip(f, item, 0, f->k * 4, first, rows, 0, f->k * 4, dst);
}

tn_status form_reciprocal(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, uint8_t *dst) {
  TN_TRY(read_numbers(f, item, first, rows, dst));
  for (uint64_t i = 0; i < rows * f->k; i++) {
    float x;
    memcpy(&x, dst + i * 4, 4);
    x = 1 / x;
    memcpy(dst + i * 4, &x, 4);
  }
  return TN_OK;
}

tn_status form_over127(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, uint8_t *dst) {
  TN_TRY(read_numbers(f, item, first, rows, dst));
  for (uint64_t i = 0; i < rows * f->k; i++) {
    float x;
    memcpy(&x, dst + i * 4, 4);
    x /= 127;
    memcpy(dst + i * 4, &x, 4);
  }
  return TN_OK;
}

/* ---- order: the columns sorted by the group that each belongs to ---- */

tn_status form_read_order(tn_form *f, uint32_t part) {
  int32_t *of = tn_arena_alloc(&f->arena, f->k * sizeof *of);
  uint32_t *next = tn_arena_alloc(&f->arena, (f->groups + 1) * sizeof *next);
  f->order = tn_arena_alloc(&f->arena, f->k * sizeof *f->order);
  if (!of || !next || !f->order) return form_fail(f, TN_OOM, "out of memory");
  if (f->items != 1)
    return form_fail(f, TN_UNSUPPORTED, "stacks of weights with sorted columns are not supported");
  TN_TRY(form_expect(f, part, f->k, 4));
  TN_TRY(form_strip(f, 0, part, 4, 0, f->k, 0, 4, of));
  for (uint64_t g = 0; g < f->groups; g++) next[g] = (uint32_t)(g * f->group);
  for (uint64_t i = 0; i < f->k; i++) {
    uint64_t g = (uint64_t)of[i];
    if (of[i] < 0 || g >= f->groups || next[g] >= (g + 1) * f->group)
      return form_fail(f, TN_INVALID, "column %llu is in group %d: of %llu groups each has %llu columns",
                       (unsigned long long)i, of[i], (unsigned long long)f->groups,
                       (unsigned long long)f->group);
    f->order[next[g]++] = (uint32_t)i;
  }
  return TN_OK;
}

/* "order group=128": i32 [k]. */
tn_status form_check_order(tn_form *f) {
  double group = form_number(f, "group");
  if (f->s.dtype != TN_DT_i32 || f->rows != 1 || !(group >= 1) || group > (double)f->k)
    return form_fail(f, TN_INVALID, "makes i32 numbers for groups of at most %llu", (unsigned long long)f->k);
  f->group = (uint64_t)group;
  f->groups = f->k / f->group;
  TN_TRY(form_parts(f, 1));
  return form_read_order(f, 0);
}

tn_status form_order(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, uint8_t *dst) {
  (void)item, (void)first, (void)rows;
  memcpy(dst, f->order, f->k * sizeof *f->order);
  return TN_OK;
}
