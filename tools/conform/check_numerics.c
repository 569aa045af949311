/* check_numerics.c - group numerics: the ops of every case that the backend takes, against the reference: in
 * every float type that the op allows, for several classes of sizes, alone and fused, and on several numbers
 * of threads. One test per op. */
#include "tools/conform/conform.h"
#include <stdio.h>
#include <stdlib.h>

enum { SYMBOLS = 8, TRIES = 300 };
/* Classes of sizes: what a symbol may be. */
static const int64_t classes[][6] = {
    {3, 5, 8, 2, 9, 4}, {1, 1, 1, 2, 8, 9}, {16, 17, 33, 8, 24, 40}, {0, 0, 1, 5, 8, 16}};

/* The text with every `from` as a whole word as `to`. */
static bool replace(char *out, size_t room, const char *text, const char *from, const char *to) {
  size_t n = strlen(from), len = 0;
  for (const char *at = text; *at;) {
    bool word = !strncmp(at, from, n) && at[n] == '[';
    const char *put = word ? to : at;
    size_t k = word ? strlen(to) : 1;
    if (len + k >= room) return false;
    memcpy(out + len, put, k);
    len += k;
    at += word ? n : 1;
  }
  out[len] = 0;
  return true;
}

static bool holds(tn_module *m, const tn_case *c) {
  for (uint32_t i = 0; i < tn_dim_constraints(m); i++) {
    tn_dim a, b;
    tn_dim_constraint(m, i, &a, &b);
    if (tn_world_dim(m, c, a) > tn_world_dim(m, c, b)) return false;
  }
  return true;
}
static bool value_fits(tn_module *m, const tn_case *c, tn_value v, int64_t *elements) {
  tn_value_info i;
  tn_type_info t;
  int64_t n = 1;
  if (!v) return true;
  tn_ir_value_get(m, v, &i);
  tn_ir_type_get(m, i.type, &t);
  for (uint32_t k = 0; k < t.rank; k++) {
    tn_dim_info d;
    tn_ir_dim_get(m, t.dims[k], &d);
    if (d.kind == TN_DIM_UNKNOWN) return false;
    int64_t size = tn_world_dim(m, c, t.dims[k]);
    if (size < 0) return false;
    n *= size;
  }
  *elements += n;
  return true;
}
/* No size is negative, none is unknown, and it is small. */
static bool sizes_fit(tn_module *m, const tn_case *c) {
  tn_func_info f;
  int64_t elements = 0;
  bool ok = true;
  tn_ir_func_get(m, c->func, &f);
  for (uint32_t i = 0; i < f.nargs; i++) ok &= value_fits(m, c, f.args[i], &elements);
  for (tn_op op = tn_ir_first_op(m, c->func, 0); op && ok; op = tn_ir_next_op(m, op)) {
    for (uint32_t i = 0; i < tn_ir_op_noperands(m, op); i++)
      ok &= value_fits(m, c, tn_ir_op_operand(m, op, i), &elements);
    for (uint32_t i = 0; i < tn_ir_op_nresults(m, op); i++)
      ok &= value_fits(m, c, tn_ir_op_result(m, op, i), &elements);
  }
  return ok && elements < 200000;
}

/* Values for the symbols out of a class; false: none were found. */
static bool choose_sizes(tn_module *m, tn_case *c, uint32_t class) {
  uint64_t random = 12345 + class;
  uint32_t n = tn_dim_symbols(m);
  if (n > SYMBOLS) return false;
  for (int i = 0; i < TRIES; i++) {
    for (uint32_t k = 0; k < n; k++) {
      random = random * 6364136223846793005u + 1442695040888963407u;
      c->dims[k] =
          (tn_case_dim){tn_dim_symbol(m, k), classes[class][(random >> 33) % (i < TRIES / 2 ? 3 : 6)]};
    }
    if (holds(m, c) && sizes_fit(m, c)) return true;
  }
  return false;
}

static bool only_plain_ops(tn_module *m, tn_func f) {
  for (tn_op op = tn_ir_first_op(m, f, 0); op; op = tn_ir_next_op(m, op)) {
    const char *name = tn_ir_opcode_name(tn_ir_opcode(m, op));
    if (strcmp(name, "return") && strcmp(name, "reshape") && !tn_ref_of(name)) return false;
  }
  return true;
}

/* ---- running ---- */
static void same_results(const tn_host_run *a, const tn_host_run *b, const char *text) {
  for (uint32_t i = 0; i < a->trial.w.values.count; i++) {
    const tn_held *x = &a->trial.w.values.items[i], *y = &b->trial.w.values.items[i];
    if (x->bytes && x->t.data && memcmp(x->t.data, y->t.data, x->bytes))
      tn_trial_fail("on 3 threads value %u is not what it is on one\n%s", i, text);
  }
}
/* A module of which the backend takes nothing proves nothing. */
static void on_host(tn_subject *s, const tn_target *t, tn_world *ref, tn_op ret, const char *pipeline) {
  tn_host_run r[2];
  char where[128];
  for (uint32_t i = 0; i < 2; i++) {
    uint32_t before = s->trial.taken;
    tn_host_run_init(&r[i], &s->trial, t, ref->c, pipeline);
    if (s->trial.taken == before) {
      tn_host_run_fini(&r[i]);
      return;
    }
    tn_host_run_threads(&r[i], 1 + 2 * i);
    snprintf(where, sizeof where, "%s, %s, %u threads", t->name, pipeline, 1 + 2 * i);
    tn_world_compare(ref, ret, &r[i].trial.w, r[i].ret, where);
  }
  same_results(&r[0], &r[1], ref->c->text);
  for (int i = 0; i < 2; i++) tn_host_run_fini(&r[i]);
}
static void on_device(tn_subject *s, const tn_target *t, tn_world *ref, tn_op ret, const char *pipeline) {
  tn_device_run r;
  char where[128];
  uint32_t before = s->trial.taken;
  tn_device_run_init(&r, &s->trial, t, ref->c, pipeline);
  if (s->trial.taken == before) {
    tn_device_run_fini(&r);
    return;
  }
  tn_device_run_all(&r);
  snprintf(where, sizeof where, "%s, %s", t->name, pipeline);
  tn_world_compare(ref, ret, &r.trial.w, r.ret, where);
  tn_device_run_fini(&r);
}

static bool has_blocks(const tn_case *c) {
  return strstr(c->text, ": q") || strstr(c->text, ": s8_") || strstr(c->text, ": iq");
}
/* One function with one choice of sizes. Inputs that the reference refuses prove nothing. */
static void run_case(tn_subject *s, const tn_target *t, const tn_case *c) {
  static const char *const pipelines[] = {"partition, fuse{max=1}", "partition, fuse"};
  tn_world ref;
  tn_op ret = 0;
  char error[256];
  tn_case with = *c;
  if (has_blocks(c)) with.nmse = strstr(c->text, "f16[") ? 1e-5 : 1e-9; /* large numbers cancel */
  tn_world_init(&ref, &with);
  if (tn_world_try_reference(&ref, &ret, error) == TN_OK)
    for (int i = s->backend.device != NULL; i < 2; i++) /* devices may be interpreters: fused only */
      (s->backend.device ? on_device : on_host)(s, t, &ref, ret, pipelines[i]);
  tn_world_fini(&ref);
}

static void run_text(tn_subject *s, const tn_target *t, const char *text) {
  tn_diags d;
  tn_diags_init(&d);
  tn_module *m = tn_module_new(&d);
  bool good = tn_module_parse(m, "case.tir", tn_str_of(text)) == TN_OK && tn_module_verify(m) == TN_OK;
  for (tn_func f = 1; good && f <= tn_ir_func_count(m); f++)
    for (uint32_t class = 0; class < TN_COUNT(classes) && only_plain_ops(m, f); class++) {
      tn_case c = {
          .text = text, .func = f, .lo = 0.25, .hi = 1.5, .int_hi = class == 1 ? 1 : 3, .seed = class};
      if (choose_sizes(m, &c, class)) run_case(s, t, &c);
    }
  tn_module_free(m);
  tn_diags_fini(&d);
}

static bool any(const char *mnemonic) { return (void)mnemonic, true; }
static void run_types(tn_subject *s, const char *whole) {
  static const char *const types[] = {"f32", "f16", "bf16", "f64"};
  static char text[32768];
  tn_subject_backend(s);
  if (s->backend.device) (void)tn_subject_device(s);
  tn_target t = tn_subject_target(s);
  s->trial.left = any;
  s->trial.taken = 0;
  for (size_t i = 0; i < TN_COUNT(types); i++)
    if (replace(text, sizeof text, whole, "f32", types[i])) run_text(s, &t, strdup(text));
  if (!s->trial.taken) tn_trial_skip("no op of the case is taken");
}
static void op(tn_subject *s, const char *arg) {
  static char whole[32768];
  const tn_embedded_page *p = tn_conform_cases;
  while (p->name != arg) p++;
  TN_NEED(p->size < sizeof whole);
  memcpy(whole, p->text, p->size);
  run_types(s, whole);
}
static void equal_shapes(tn_subject *s, const char *arg) {
  (void)arg;
  run_types(s, tn_conform_sample);
}

bool tn_conform_numerics(tn_conform_tests *out) {
  bool ok = tn_vec_push(out, ((tn_conform_test){"numerics", "equal_shapes", equal_shapes, NULL}));
  for (const tn_embedded_page *p = tn_conform_cases; p->name; p++)
    ok &= tn_vec_push(out, ((tn_conform_test){"numerics", p->name, op, p->name}));
  return ok;
}
