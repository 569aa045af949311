/* world.c - see world.h. */
#include "tools/conform/world.h"
#include "ir/quant/quant.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

void tn_trial_fail(const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  vfprintf(stderr, fmt, ap);
  va_end(ap);
  fputc('\n', stderr);
  fflush(NULL);
  _exit(1);
}

/* ---- memory that ends at a wall ---- */
tn_wall tn_wall_new(uint64_t bytes) {
  size_t page = 4096, n = (size_t)tn_align_up(bytes ? bytes : 1, page) + 2 * page;
  tn_wall w = {.size = n, .map = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)};
  TN_NEED(w.map != MAP_FAILED);
  TN_NEED(mprotect((char *)w.map + n - page, page, PROT_NONE) == 0);
  memset(w.map, 0xcd, n - page);
  w.data = (char *)w.map + n - page - bytes;
  return w;
}
void tn_wall_free(tn_wall *w) {
  if (w->map) munmap(w->map, w->size);
  *w = (tn_wall){0};
}

/* ---- values ---- */
int64_t tn_world_dim(tn_module *m, const tn_case *c, tn_dim d) {
  tn_dim_info i;
  tn_ir_dim_get(m, d, &i);
  if (i.kind == TN_DIM_CONST) return i.value;
  if (i.kind == TN_DIM_SYM) {
    for (int k = 0; k < 8 && c->dims[k].name; k++)
      if (!strcmp(c->dims[k].name, i.symbol)) return c->dims[k].value;
    tn_trial_fail("dim %s has no value", i.symbol);
  }
  int64_t a = tn_world_dim(m, c, i.a), b = tn_world_dim(m, c, i.b);
  switch (i.kind) {
  case TN_DIM_ADD: return a + b;
  case TN_DIM_MUL: return a * b;
  case TN_DIM_FLOORDIV: return a / b - (a % b < 0);
  case TN_DIM_MOD: return (a % b + b) % b;
  case TN_DIM_MIN: return a < b ? a : b;
  default: return a > b ? a : b;
  }
}

static int64_t dim_of(void *ctx, tn_dim d) {
  const tn_world *w = ctx;
  return tn_world_dim(w->m, w->c, d);
}

tn_held *tn_world_slot(tn_world *w, tn_value v) {
  tn_held none = {0};
  while (w->values.count <= v) TN_NEED(tn_vec_push(&w->values, none));
  return &w->values.items[v];
}
tn_held *tn_world_make(tn_world *w, tn_value v) {
  tn_held *x = tn_world_slot(w, v);
  tn_value_info i;
  tn_type_info t;
  tn_ir_value_get(w->m, v, &i);
  tn_ir_type_get(w->m, i.type, &t);
  x->t = (tn_ref_tensor){.dtype = t.dtype, .rank = t.rank};
  for (uint32_t k = 0; k < t.rank; k++) x->t.dims[k] = dim_of(w, t.dims[k]);
  x->bytes = tn_ref_bytes(&tn_ir_table, &x->t);
  x->mem = tn_wall_new(x->bytes);
  x->t.data = x->mem.data;
  return x;
}

static uint64_t next_random(uint64_t *s) {
  uint64_t z = (*s += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}
/* A number in (-1, 1) of a kind TN_QN_*, as it is stored at p. */
static void put_number(uint8_t kind, uint8_t *p, uint64_t *s) {
  float f = (float)(next_random(s) % 1000) / 500 - 1;
  uint16_t half = kind == TN_QN_BF16 ? tn_f32_to_bf16(f) : tn_f32_to_f16(f);
  if (kind == TN_QN_F16 || kind == TN_QN_BF16) memcpy(p, &half, 2);
  if (kind == TN_QN_F32) memcpy(p, &f, 4);
  if (kind == TN_QN_E8M0_HALF) *p = (uint8_t)(next_random(s) % 8 + 120);
  for (int i = 0; kind == TN_QN_F16_SPLIT && i < 4; i++)
    p[2 * i + 1] = (uint8_t)((p[2 * i + 1] & 15) | (half >> 4 * i & 15) << 4);
}
/* Any bits are codes and whole inner scales; stored floats must be tame. */
static void fill_blocks(tn_ref_tensor *t, uint64_t *s) {
  const tn_quant *q = tn_quant_of(t->dtype);
  uint64_t n = tn_ref_bytes(&tn_ir_table, t);
  bool halves = q->inner == TN_QI_F16 || q->inner == TN_QI_BF16;
  for (uint64_t i = 0; i < n; i++) {
    uint8_t *p = (uint8_t *)t->data + i;
    *p = (uint8_t)next_random(s);
    if (q->level == TN_QL_F8E4M3 && (*p & 0x7f) == 0x7f) *p = 0; /* no NaN */
  }
  for (uint64_t i = 0; i < n; i += q->bytes) {
    uint8_t *p = (uint8_t *)t->data + i;
    put_number(q->d, p + q->d_at, s);
    put_number(q->m, p + q->m_at, s);
    for (uint32_t j = 0; halves && j < q->values / q->sub; j++)
      put_number(q->inner == TN_QI_F16 ? TN_QN_F16 : TN_QN_BF16, p + q->inner_at + 2 * j, s);
  }
}
static void fill(tn_world *w, tn_held *x, const char *name, uint64_t salt) {
  const tn_case *c = w->c;
  uint64_t s = c->seed + salt * 1000003u;
  double lo = c->lo, hi = c->hi;
  int64_t a = c->int_lo, b = c->int_hi;
  if (lo == 0 && hi == 0) lo = -2, hi = 2;
  if (a == 0 && b == 0) b = 5;
  const tn_dtype_info *info = tn_ir_dtype_info(x->t.dtype);
  if (info->cls == TN_CLASS_BLOCK) {
    fill_blocks(&x->t, &s);
    return;
  }
  for (int64_t i = 0; i < tn_ref_count(&x->t); i++) {
    double u = (double)(next_random(&s) >> 11) * 0x1p-53;
    if (info->cls == TN_CLASS_FLOAT)
      tn_ref_set(&x->t, i, lo + u * (hi - lo));
    else if (info->cls == TN_CLASS_BOOL)
      tn_ref_set_int(&x->t, i, u < 0.7);
    else
      tn_ref_set_int(&x->t, i, a + (int64_t)(u * (double)(b - a)));
  }
  if (c->fill) c->fill(name, x->t.dtype, x->t.data, tn_ref_count(&x->t));
}

void tn_world_init(tn_world *w, const tn_case *c) {
  *w = (tn_world){.c = c};
  tn_diags_init(&w->diags);
  w->m = tn_module_new(&w->diags);
  tn_status s = tn_module_parse(w->m, "case.tir", tn_str_of(c->text));
  if (s == TN_OK) s = tn_module_verify(w->m);
  if (s != TN_OK) {
    tn_buf text = {0};
    tn_diags_text(&w->diags, &text, false);
    tn_trial_fail("%s\n%s", tn_buf_cstr(&text), c->text);
  }
  w->f = c->func ? c->func : tn_ir_func_count(w->m);
  tn_func_info f;
  tn_ir_func_get(w->m, w->f, &f);
  for (uint32_t i = 0; i < f.nargs; i++) {
    (void)tn_world_slot(w, f.args[i]);
    fill(w, tn_world_make(w, f.args[i]), f.arg_names[i], i + 1);
  }
  for (uint32_t i = 1; i <= tn_ir_weight_count(w->m); i++) {
    tn_weight_info info;
    tn_ir_weight_get(w->m, i, &info);
    fill(w, tn_world_make(w, info.value), info.name, 100 + i);
  }
  for (uint32_t i = 1; i <= tn_ir_state_count(w->m); i++) {
    tn_state_info info;
    tn_ir_state_get(w->m, i, &info);
    fill(w, tn_world_make(w, info.value), info.name, 200 + i);
  }
}
void tn_world_fini(tn_world *w) {
  for (uint32_t i = 0; i < w->values.count; i++) tn_wall_free(&w->values.items[i].mem);
  tn_vec_fini(&w->values);
  tn_module_free(w->m);
  tn_diags_fini(&w->diags);
}

/* ---- reference: op by op ---- */
static tn_status ref_op(tn_world *w, tn_op op, tn_arena *a, char error[256]) {
  const char *name = tn_ir_opcode_name(tn_ir_opcode(w->m, op));
  tn_ref_tensor in[16] = {{0}}, out[16];
  tn_ref_call c = {
      .ir = &tn_ir_table, .m = w->m, .op = op, .in = in, .out = out, .dim = dim_of, .ctx = w, .scratch = a};
  tn_ref_fn fn = tn_ref_of(name);
  c.nin = tn_ir_op_noperands(w->m, op);
  c.nout = tn_ir_op_nresults(w->m, op);
  snprintf(error, 256, "no reference for %s", name);
  if (!fn || c.nin > TN_COUNT(in) || c.nout > TN_COUNT(out)) return TN_UNSUPPORTED;
  for (uint32_t i = 0; i < c.nout; i++) (void)tn_world_make(w, tn_ir_op_result(w->m, op, i));
  for (uint32_t i = 0; i < c.nin; i++) {
    tn_value v = tn_ir_op_operand(w->m, op, i);
    if (v) in[i] = tn_world_slot(w, v)->t;
  }
  for (uint32_t i = 0; i < c.nout; i++) out[i] = tn_world_slot(w, tn_ir_op_result(w->m, op, i))->t;
  bool updates = !strcmp(name, "kv_update");
  if (updates) memcpy(out[0].data, in[0].data, tn_ref_bytes(&tn_ir_table, &in[0]));
  tn_status s = fn(&c);
  if (s == TN_OK && updates) memcpy(in[0].data, out[0].data, tn_ref_bytes(&tn_ir_table, &in[0]));
  snprintf(error, 256, "reference %s: %s", name, c.error);
  return s;
}
tn_status tn_world_try_reference(tn_world *w, tn_op *ret, char error[256]) {
  tn_arena a;
  tn_status s = TN_OK;
  tn_arena_init(&a);
  for (tn_op op = tn_ir_first_op(w->m, w->f, 0); op && s == TN_OK; op = tn_ir_next_op(w->m, op)) {
    *ret = op;
    if (strcmp(tn_ir_opcode_name(tn_ir_opcode(w->m, op)), "return")) s = ref_op(w, op, &a, error);
  }
  tn_arena_fini(&a);
  return s;
}
tn_op tn_world_reference(tn_world *w) {
  char error[256];
  tn_op ret = 0;
  if (tn_world_try_reference(w, &ret, error) != TN_OK) tn_trial_fail("%s", error);
  return ret;
}

/* ---- comparing ---- */
/* The error's energy as a part of the result's. */
static void compare_whole(const tn_case *c, const tn_ref_tensor *want, const tn_ref_tensor *got,
                          const char *where) {
  double error = 0, all = 0;
  for (int64_t i = 0; i < tn_ref_count(want); i++) {
    double a = tn_ref_get(want, i), d = tn_ref_get(got, i) - a;
    error += d * d;
    all += a * a;
  }
  if (!(error <= c->nmse * all))
    tn_trial_fail("%s: NMSE is %g, at most %g is allowed\n%s", where, error / all, c->nmse, c->text);
}
static void compare(const tn_case *c, const tn_ref_tensor *want, const tn_ref_tensor *got,
                    const char *where) {
  double atol = c->atol, rtol = c->rtol;
  bool f = tn_ir_dtype_info(want->dtype)->cls == TN_CLASS_FLOAT;
  if (atol == 0 && rtol == 0) {
    bool half = want->dtype == TN_DT_f16, brain = want->dtype == TN_DT_bf16;
    atol = half ? 2.5e-3 : brain ? 2e-2 : f ? 1e-5 : 0;
    rtol = half ? 1e-3 : brain ? 1e-2 : f ? 1e-4 : 0;
    if (want->dtype == TN_DT_f64) atol = rtol = 1e-12;
    if (want->dtype == TN_DT_f8e4m3 || want->dtype == TN_DT_f8e5m2) atol = rtol = 0;
  }
  TN_NEED(tn_ref_count(want) == tn_ref_count(got));
  if (f && c->nmse > 0) {
    compare_whole(c, want, got, where);
    return;
  }
  for (int64_t i = 0; i < tn_ref_count(want); i++) {
    if (!f) {
      int64_t a = tn_ref_get_int(want, i), b = tn_ref_get_int(got, i);
      if (a != b)
        tn_trial_fail("%s: element %lld is %lld, wants %lld\n%s", where, (long long)i, (long long)b,
                      (long long)a, c->text);
      continue;
    }
    double a = tn_ref_get(want, i), b = tn_ref_get(got, i);
    bool same = (isnan(a) && isnan(b)) || a == b || fabs(a - b) <= atol + rtol * fabs(a);
    if (!same) tn_trial_fail("%s: element %lld is %.9g, wants %.9g\n%s", where, (long long)i, b, a, c->text);
  }
}

/* Blocks bit by bit, all else as numbers. */
static void compare_any(const tn_case *c, const tn_ref_tensor *want, const tn_ref_tensor *got,
                        const char *where) {
  int64_t bytes = (int64_t)tn_ref_bytes(&tn_ir_table, want);
  tn_ref_tensor a = {TN_DT_u8, 1, {bytes}, want->data}, b = {TN_DT_u8, 1, {bytes}, got->data};
  bool blocks = want->dtype >= TN_DT_BLOCK;
  compare(c, blocks ? &a : want, blocks ? &b : got, where);
}

static void compare_states(const tn_case *c, tn_world *ref, tn_world *got, const char *where) {
  for (uint32_t i = 1; i <= tn_ir_state_count(ref->m); i++) {
    tn_state_info info;
    char name[160];
    tn_ir_state_get(ref->m, i, &info);
    snprintf(name, sizeof name, "%s, state %s", where, info.name);
    compare_any(c, &tn_world_slot(ref, info.value)->t, &tn_world_slot(got, info.value)->t, name);
  }
}

/* The results, and what lies in the states. */
void tn_world_compare(tn_world *want, tn_op want_return, tn_world *got, tn_op got_return, const char *where) {
  compare_states(want->c, want, got, where);
  for (uint32_t i = 0; i < tn_ir_op_noperands(want->m, want_return); i++) {
    char name[160];
    snprintf(name, sizeof name, "%s, result %u", where, i);
    compare_any(want->c, &tn_world_slot(want, tn_ir_op_operand(want->m, want_return, i))->t,
                &tn_world_slot(got, tn_ir_op_operand(got->m, got_return, i))->t, name);
  }
}
