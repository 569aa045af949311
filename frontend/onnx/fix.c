/* fix.c - the option "fix": inputs that always have the same value become constants, "axes=0,2;ratio=0.5".
 * What a model computes from them is then known when it is compiled: ranks and axes have to be. */
#include "frontend/onnx/fix.h"
#include <stdlib.h>

enum { MAX_VALUES = 4096 };

const char *tn_ox_fix_find(tn_ox *x, const char *name) {
  size_t n = strlen(name);
  for (const char *s = x->host->option(x->options, "fix"); s && *s;) {
    size_t len = strcspn(s, ";");
    if (len > n && s[n] == '=' && !strncmp(s, name, n))
      return tn_arena_str(&x->arena, (tn_str){s + n + 1, len - n - 1});
    s += len + (s[len] == ';');
  }
  return NULL;
}

tn_status tn_ox_fix_unused(tn_ox *x, const tn_ox_graph *g) {
  for (const char *s = x->host->option(x->options, "fix"); s && *s;) {
    size_t len = strcspn(s, ";"), n = strcspn(s, "=");
    bool found = !len;
    for (size_t i = 0; i < g->n_input && !found; i++)
      found = n < len && strlen(g->input[i]->name) == n && !strncmp(g->input[i]->name, s, n);
    if (!found)
      return tn_fail(&x->diags, TN_INVALID, x->model.name, "--fix", "'%.*s': the model has no such input",
                     (int)(len < 200 ? len : 200), s);
    s += len + (s[len] == ';');
  }
  return TN_OK;
}

/* One number of an element type as bytes; 0: there is no such number of that type. */
static uint32_t put(tn_dtype t, double real, int64_t whole, void *out) {
#define PUT(T, v) return *(T *)out = (T)(v), (uint32_t)sizeof(T)
  switch (t) {
  case TN_DT_f64: PUT(double, real);
  case TN_DT_f32: PUT(float, real);
  case TN_DT_i64: PUT(int64_t, whole);
  case TN_DT_u64: PUT(uint64_t, whole);
  case TN_DT_i32: PUT(int32_t, whole);
  case TN_DT_u32: PUT(uint32_t, whole);
  case TN_DT_i16: PUT(int16_t, whole);
  case TN_DT_u16: PUT(uint16_t, whole);
  case TN_DT_i8: PUT(int8_t, whole);
  case TN_DT_u8: PUT(uint8_t, whole);
  case TN_DT_bool: PUT(uint8_t, whole != 0);
  case TN_DT_f16: PUT(uint16_t, tn_f32_to_f16((float)real));
  case TN_DT_bf16: PUT(uint16_t, tn_f32_to_bf16((float)real));
  default: return 0;
  }
#undef PUT
}

static tn_value bad(tn_ox *x, const char *name, const char *text, const char *why) {
  x->invalid = true;
  tn_fail(&x->diags, TN_INVALID, x->model.name, "--fix", "'%.100s=%.100s': %s", name, text, why);
  return 0;
}

tn_value tn_ox_fix_value(tn_ox *x, const char *name, const char *text, tn_type type) {
  tn_type_info t;
  int64_t dims[TN_MAX_RANK], count = 0, want = 1;
  x->ir->type_get(x->m, type, &t);
  uint8_t *bytes = tn_arena_alloc(&x->arena, (uint64_t)MAX_VALUES * 8);
  uint64_t at = 0;
  if (!bytes) return 0;
  for (const char *s = text; *s; count++) {
    char *end, *whole_end;
    double real = strtod(s, &end);
    int64_t whole = strtoll(s, &whole_end, 10);
    if (end == s || (*end && *end != ',')) return bad(x, name, text, "expected numbers, with commas between");
    if (count == MAX_VALUES) return bad(x, name, text, "more than 4096 numbers");
    if (whole_end != end) whole = real >= -9e18 && real <= 9e18 ? (int64_t)real : 0;
    uint32_t n = put(t.dtype, real, whole, bytes + at);
    if (!n) return bad(x, name, text, "inputs of this element type cannot be fixed");
    at += n;
    s = end + (*end == ',');
  }
  for (uint32_t i = 0; i < t.rank; i++) {
    if (!x->ir->dim_is_const(x->m, t.dims[i], &dims[i])) dims[i] = t.rank == 1 ? count : -1;
    if (dims[i] < 0) return bad(x, name, text, "a size of the input is not known; give it with --shapes");
    if (__builtin_mul_overflow(want, dims[i], &want))
      return bad(x, name, text, "too few numbers for its shape");
  }
  if (want != count) return bad(x, name, text, "the number of values is not that of its shape");
  return tn_ox_constant(x, t.dtype, dims, t.rank, bytes, at);
}
