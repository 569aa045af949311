/* test_ref.c - the reference kernels against the case files of tests/ops: outputs of NumPy, PyTorch and the
 * gguf package, made by tests/ops/make_goldens.py. Each case is a module of one function, which is parsed,
 * verified and run op by op. */
#include "backends/ref/ref.h"
#include "ir/ir.h"
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#ifndef TN_SOURCE_DIR
#define TN_SOURCE_DIR "."
#endif

enum { MAX_TENSORS = 16 };
typedef struct golden {
  char name[64];
  double atol, rtol;
  struct {
    char name[16];
    int64_t value;
  } dims[8];
  uint32_t ndims, nin, nout;
  tn_str ir;
  tn_ref_tensor in[MAX_TENSORS], out[MAX_TENSORS];
  tn_arena arena;
} golden;

/* ---- reading
 * ------------------------------------------------------------------------------------------------- */
static void read_bytes(golden *g, tn_ref_tensor *t, const char *hex, size_t n) {
  uint64_t bytes = tn_ref_bytes(&tn_ir_table, t);
  if (n == 1 && *hex == '-') n = 0;
  ck_assert_msg(n == 2 * bytes, "%s: %zu digits for %llu bytes", g->name, n, (unsigned long long)bytes);
  uint8_t *p = t->data = tn_arena_alloc(&g->arena, bytes + 1);
  for (uint64_t i = 0; i < bytes; i++) {
    char pair[3] = {hex[2 * i], hex[2 * i + 1], 0};
    p[i] = (uint8_t)strtoul(pair, NULL, 16);
  }
}

/* "f32[2, 3] HEX" */
static tn_ref_tensor read_tensor(golden *g, tn_str line) {
  tn_ref_tensor t = {0};
  char name[16] = {0};
  const char *open = memchr(line.ptr, '[', line.len), *close = memchr(line.ptr, ']', line.len);
  memcpy(name, line.ptr, (size_t)(open - line.ptr));
  t.dtype = tn_ir_dtype_by_name(name);
  ck_assert_msg(t.dtype != 0, "%s: no type '%s'", g->name, name);
  for (const char *p = open + 1; p < close; p++) {
    char *end;
    t.dims[t.rank++] = strtoll(p, &end, 10);
    p = end;
  }
  read_bytes(g, &t, close + 2, (size_t)(line.ptr + line.len - close - 2));
  return t;
}

static bool next_line(tn_str *text, tn_str *line) {
  if (!text->len) return false;
  const char *nl = memchr(text->ptr, '\n', text->len);
  uint64_t n = nl ? (uint64_t)(nl - text->ptr) : text->len, skip = nl ? n + 1 : n;
  *line = (tn_str){text->ptr, n};
  *text = (tn_str){text->ptr + skip, text->len - skip};
  return true;
}

static bool read_golden(tn_str *text, golden *g) {
  tn_str line;
  memset(g, 0, sizeof *g);
  while (next_line(text, &line) && line.len) {
    char word[80];
    snprintf(word, sizeof word, "%.*s", (int)(line.len < 79 ? line.len : 79), line.ptr);
    if (sscanf(word, "case %63s", g->name) == 1 || sscanf(word, "tol %lf %lf", &g->atol, &g->rtol) == 2)
      continue;
    if (tn_str_starts(line, "dim ")) {
      long long v;
      ck_assert_int_eq(sscanf(word, "dim %15s %lld", g->dims[g->ndims].name, &v), 2);
      g->dims[g->ndims++].value = v;
    } else if (tn_str_is(line, "ir")) {
      g->ir.ptr = text->ptr;
      while (next_line(text, &line) && !tn_str_is(line, "end")) {}
      g->ir.len = (uint64_t)(line.ptr - g->ir.ptr);
    } else if (tn_str_starts(line, "in ")) {
      ck_assert_uint_lt(g->nin, MAX_TENSORS);
      g->in[g->nin++] = read_tensor(g, (tn_str){line.ptr + 3, line.len - 3});
    } else if (tn_str_starts(line, "out ")) {
      ck_assert_uint_lt(g->nout, MAX_TENSORS);
      g->out[g->nout++] = read_tensor(g, (tn_str){line.ptr + 4, line.len - 4});
    } else
      ck_abort_msg("%s: cannot read '%s'", g->name, word);
  }
  return g->name[0] != 0;
}

/* ---- running
 * ------------------------------------------------------------------------------------------------- */
typedef struct machine {
  golden *g;
  tn_module *m;
  struct {
    tn_value value;
    tn_ref_tensor tensor;
  } values[64];
  uint32_t count;
} machine;

static int64_t dim_value(void *ctx, tn_dim d) {
  const machine *x = ctx;
  for (uint32_t i = 0; i < x->g->ndims; i++)
    if (tn_ir_dim_sym(x->m, x->g->dims[i].name) == d) return x->g->dims[i].value;
  return INT64_MIN;
}

static int64_t evaluate(machine *x, tn_dim d) {
  for (uint32_t i = 0; i < x->g->ndims; i++)
    d = tn_dim_substitute(x->m, d, x->g->dims[i].name, tn_ir_dim_const(x->m, x->g->dims[i].value));
  int64_t v;
  ck_assert_msg(tn_ir_dim_is_const(x->m, d, &v), "%s: a dim has no value", x->g->name);
  return v;
}

static tn_ref_tensor look_up(machine *x, tn_value v) {
  for (uint32_t i = 0; v && i < x->count; i++)
    if (x->values[i].value == v) return x->values[i].tensor;
  return (tn_ref_tensor){0};
}

static void define(machine *x, tn_value v, tn_ref_tensor t) {
  ck_assert_uint_lt(x->count, TN_COUNT(x->values));
  x->values[x->count].value = v;
  x->values[x->count++].tensor = t;
}

static void run_op(machine *x, tn_op op) {
  tn_ref_tensor in[8] = {0}, out[8] = {0};
  const char *name = tn_ir_opcode_name(tn_ir_opcode(x->m, op));
  tn_ref_call c = {.ir = &tn_ir_table,
                   .m = x->m,
                   .op = op,
                   .in = in,
                   .nin = tn_ir_op_noperands(x->m, op),
                   .out = out,
                   .nout = tn_ir_op_nresults(x->m, op),
                   .dim = dim_value,
                   .ctx = x,
                   .scratch = &x->g->arena};
  for (uint32_t i = 0; i < c.nin; i++) in[i] = look_up(x, tn_ir_op_operand(x->m, op, i));
  for (uint32_t i = 0; i < c.nout; i++) {
    tn_value_info v;
    tn_type_info t;
    tn_ir_value_get(x->m, tn_ir_op_result(x->m, op, i), &v);
    tn_ir_type_get(x->m, v.type, &t);
    out[i].dtype = t.dtype;
    out[i].rank = t.rank;
    for (uint32_t d = 0; d < t.rank; d++) out[i].dims[d] = evaluate(x, t.dims[d]);
    uint64_t bytes = tn_ref_bytes(&tn_ir_table, &out[i]);
    out[i].data = tn_arena_alloc(&x->g->arena, bytes + 1);
    memset(out[i].data, 0xa5, bytes); /* what a kernel does not write shows */
    define(x, tn_ir_op_result(x->m, op, i), out[i]);
  }
  tn_ref_fn fn = tn_ref_of(name);
  ck_assert_msg(fn != NULL, "%s: no kernel of '%s'", x->g->name, name);
  tn_status s = fn(&c);
  ck_assert_msg(s == TN_OK, "%s: %s failed: %s", x->g->name, name, c.error);
}

/* ---- comparing
 * ------------------------------------------------------------------------------------------------ */
static bool is_float(tn_dtype t) { return tn_ir_dtype_info(t)->cls == TN_CLASS_FLOAT; }

static int compare(const golden *g, uint32_t k, const tn_ref_tensor *got) {
  const tn_ref_tensor *want = &g->out[k];
  bool same = got->dtype == want->dtype && got->rank == want->rank;
  for (uint32_t i = 0; same && i < got->rank; i++) same = got->dims[i] == want->dims[i];
  if (!same) return fprintf(stderr, "%s: result %u has another type\n", g->name, k), 1;
  const tn_dtype_info *e = tn_ir_dtype_info(got->dtype);
  if (e->bits < 8 && e->cls != TN_CLASS_BLOCK) { /* the bits behind the last element mean nothing */
    for (int64_t i = 0; i < tn_ref_count(got); i++)
      if (tn_ref_get_int(got, i) != tn_ref_get_int(want, i))
        return fprintf(stderr, "%s: result %u, element %lld differs\n", g->name, k, (long long)i), 1;
    return 0;
  }
  if (!is_float(got->dtype)) {
    if (!memcmp(got->data, want->data, tn_ref_bytes(&tn_ir_table, got))) return 0;
    return fprintf(stderr, "%s: result %u differs\n", g->name, k), 1;
  }
  for (int64_t i = 0; i < tn_ref_count(got); i++) {
    double a = tn_ref_get(got, i), b = tn_ref_get(want, i);
    if (a == b || (isnan(a) && isnan(b)) || fabs(a - b) <= g->atol + g->rtol * fabs(b)) continue;
    return fprintf(stderr, "%s: result %u, element %lld: %.17g, wanted %.17g\n", g->name, k, (long long)i, a,
                   b),
           1;
  }
  return 0;
}

static int run_case(golden *g) {
  tn_diags diags;
  tn_diags_init(&diags);
  machine x = {.g = g, .m = tn_module_new(&diags)};
  int bad = 0;
  if (tn_module_parse(x.m, g->name, g->ir) != TN_OK || tn_module_verify(x.m) != TN_OK) {
    tn_buf text = {0};
    tn_diags_text(&diags, &text, false);
    fprintf(stderr, "%s: %s\n", g->name, tn_buf_cstr(&text));
    tn_buf_fini(&text);
    bad = 1;
  } else {
    tn_func_info f;
    tn_ir_func_get(x.m, 1, &f);
    for (uint32_t i = 0; i < g->nin; i++) {
      tn_state_info s = {0};
      if (i >= f.nargs) tn_ir_state_get(x.m, i - f.nargs + 1, &s);
      define(&x, i < f.nargs ? f.args[i] : s.value, g->in[i]);
    }
    tn_op last = tn_ir_last_op(x.m, 1, 0);
    for (tn_op op = tn_ir_first_op(x.m, 1, 0); op != last; op = tn_ir_next_op(x.m, op)) run_op(&x, op);
    if (tn_ir_op_noperands(x.m, last) != g->nout)
      bad = fprintf(stderr, "%s: another number of results\n", g->name) > 0;
    for (uint32_t k = 0; !bad && k < g->nout; k++) {
      tn_ref_tensor got = look_up(&x, tn_ir_op_operand(x.m, last, k));
      bad = compare(g, k, &got);
    }
  }
  tn_module_free(x.m);
  tn_diags_fini(&diags);
  return bad;
}

static const struct {
  const char *file;
  int least;
} files[] = {{"unary", 100},    {"cast", 150},   {"binary", 120}, {"compare", 40}, {"leaf", 20},
             {"view", 70},      {"reduce", 100}, {"axis", 50},    {"linear", 60},  {"quant", 20},
             {"attention", 45}, {"cache", 30},   {"scan", 5},     {"expert", 12},
             {"narrow", 200},   {"spatial", 40},   {"irregular", 170}, {"recurrent", 30}};

START_TEST(goldens) {
  char path[512];
  const char *why = "";
  tn_file f;
  snprintf(path, sizeof path, "%s/tests/ops/%s.cases", TN_SOURCE_DIR, files[_i].file);
  ck_assert_msg(tn_file_map(&f, path, &why) == TN_OK, "%s: %s", path, why);
  tn_str text = {(const char *)f.data, f.size};
  golden g;
  int n = 0, bad = 0;
  for (; text.len && read_golden(&text, &g); n++) {
    bad += run_case(&g);
    tn_arena_fini(&g.arena);
  }
  tn_file_unmap(&f);
  ck_assert_msg(n >= files[_i].least, "%s: only %d cases", path, n);
  ck_assert_msg(!bad, "%s: %d of %d cases failed", path, bad, n);
}
END_TEST

/* Every op that is computed has a kernel, the structural ones have none. */
START_TEST(every_op_has_a_kernel) {
  for (uint32_t i = 1; i < TN_OPC_COUNT; i++) {
    const tn_op_spec *s = tn_op_spec_of(i);
    bool structural = !strcmp(s->family, "structure");
    ck_assert_msg((tn_ref_of(s->name) == NULL) == structural, "%s", s->name);
  }
  ck_assert_ptr_null(tn_ref_of("no_such_op"));
}
END_TEST

int main(void) {
  Suite *s = suite_create("ref");
  TCase *t = tcase_create("goldens");
  tcase_set_timeout(t, 60);
  tcase_add_loop_test(t, goldens, 0, (int)TN_COUNT(files));
  tcase_add_test(t, every_op_has_a_kernel);
  suite_add_tcase(s, t);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_NORMAL);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
