/* check_compile.c - groups claim, compile and errors: answers that do not change, code that does not change,
 * and what is wrong is a status and words. */
#include "tools/conform/conform.h"

/* ---- claim ---- */
/* Does `each` for every op of every case, in modules as they are before the passes. */
static void each_op(tn_subject *s, void (*each)(tn_subject *s, tn_module *m, tn_op op)) {
  for (const tn_embedded_page *p = tn_conform_cases; p->name; p++) {
    tn_diags d;
    tn_diags_init(&d);
    tn_module *m = tn_module_new(&d);
    if (tn_module_parse(m, p->name, (tn_str){(const char *)p->text, p->size}) == TN_OK &&
        tn_module_verify(m) == TN_OK)
      for (tn_func f = 1; f <= tn_ir_func_count(m); f++)
        for (tn_op op = tn_ir_first_op(m, f, 0); op; op = tn_ir_next_op(m, op)) each(s, m, op);
    tn_module_free(m);
    tn_diags_fini(&d);
  }
}

static void ask(tn_subject *s, tn_module *m, tn_op op) {
  tn_target all[TN_SUBJECT_TARGETS];
  uint32_t n = tn_subject_targets(s, all);
  const char *name = tn_ir_opcode_name(tn_ir_opcode(m, op));
  for (uint32_t i = 0; i < n; i++) {
    const char *why = NULL, *again = NULL;
    uint32_t first = s->backend.claim(s->self, &all[i], m, op, &why);
    uint32_t second = s->backend.claim(s->self, &all[i], m, op, &again);
    if (first > 1 || first != second)
      tn_trial_fail("%s for %s: claim answers %u, then %u", name, all[i].name, first, second);
    if (!first && why && !*why) tn_trial_fail("%s for %s: refused with empty words", name, all[i].name);
    if (s->backend.flags & TN_BACKEND_EMBED && first != s->backend.claim(s->self, &all[0], m, op, &why))
      tn_trial_fail("%s: claimed for one of %s and %s, and one graph serves both", name, all[0].name,
                    all[i].name);
  }
}
static void answers(tn_subject *s, const char *arg) {
  (void)arg;
  tn_subject_backend(s);
  each_op(s, ask);
}

static void ask_pairs(tn_subject *s, tn_module *m, tn_op op) {
  tn_target all[TN_SUBJECT_TARGETS];
  tn_subject_targets(s, all);
  for (tn_op root = tn_ir_first_op(m, tn_ir_func_count(m), 0); root; root = tn_ir_next_op(m, root))
    for (uint32_t role = TN_FUSE_PROLOGUE; role <= TN_FUSE_LOOP; role++) {
      uint32_t first = s->backend.fuse(s->self, &all[0], m, root, op, role);
      if (first != s->backend.fuse(s->self, &all[0], m, root, op, role))
        tn_trial_fail("fuse of %s into %s answers in two ways", tn_ir_opcode_name(tn_ir_opcode(m, op)),
                      tn_ir_opcode_name(tn_ir_opcode(m, root)));
    }
}
static void fuse(tn_subject *s, const char *arg) {
  (void)arg;
  tn_subject_backend(s);
  if (!s->backend.fuse) tn_trial_skip("it fuses nothing");
  each_op(s, ask_pairs);
}

/* ---- compile ---- */
typedef struct package {
  tn_buf image;
  tn_status image_status, kernel_status; /* what its functions answer */
  uint32_t images, kernels;
} package;
static tn_status take_image(void *ctx, tn_bytes b) {
  package *p = ctx;
  p->images++;
  tn_buf_put(&p->image, b.ptr, b.len);
  return p->image_status;
}
static tn_status take_kernel(void *ctx, const tn_kernel_info *i) {
  package *p = ctx;
  p->kernels++;
  if (!i->symbol || !*i->symbol) tn_trial_fail("a kernel without a symbol");
  return p->kernel_status;
}
static tn_status compile(tn_subject *s, const tn_target *t, tn_module *m, package *p) {
  tn_package_sink sink = {.size = sizeof sink, .ctx = p, .image = take_image, .kernel = take_kernel};
  return s->backend.compile(s->self, t, m, NULL, &sink);
}

static void same_bytes(tn_subject *s, const char *arg) {
  tn_target all[TN_SUBJECT_TARGETS];
  tn_trial trial;
  (void)arg;
  tn_subject_backend(s);
  uint32_t n = tn_subject_targets(s, all);
  tn_subject_compile(s, &all[0], &trial);
  for (uint32_t i = 0; i < n; i++) {
    package a = {0}, b = {0};
    tn_status r = compile(s, &all[i], trial.package->w.m, &a);
    if (r == TN_OK) r = compile(s, &all[i], trial.package->w.m, &b);
    if (r != TN_OK) tn_trial_fail("target %s: status %d: %s", all[i].name, r, s->trial.words);
    if (a.images != 1) tn_trial_fail("target %s: %u images, wants 1", all[i].name, a.images);
    if (a.kernels != trial.package->rows.count)
      tn_trial_fail("target %s: %u kernels, for %s they are %u", all[i].name, a.kernels, all[0].name,
                    trial.package->rows.count);
    if (a.image.len != b.image.len || (a.image.len && memcmp(a.image.text, b.image.text, a.image.len)))
      tn_trial_fail("target %s: compiled twice, the images differ", all[i].name);
  }
}

/* A module of which the backend got nothing. */
static void nothing(tn_subject *s, const char *arg) {
  static const tn_case c = {.text = "module @m { func @f(%x: f32[2]) -> f32[2] { return %x } }"};
  tn_target all[TN_SUBJECT_TARGETS];
  tn_world w;
  package p = {0};
  (void)arg;
  tn_subject_backend(s);
  tn_subject_targets(s, all);
  tn_world_init(&w, &c);
  tn_status r = compile(s, &all[0], w.m, &p);
  if (r != TN_OK) tn_trial_fail("status %d: %s", r, s->trial.words);
  if (p.kernels) tn_trial_fail("%u kernels of nothing", p.kernels);
}

/* ---- errors ---- */
static void wants_words(tn_subject *s, uint32_t before, const char *what) {
  const char *w = s->trial.words;
  size_t n = strlen(w);
  if (s->trial.said == before) tn_trial_fail("%s: no words through host->diag", what);
  if (!n || w[n - 1] == '.' || strchr(w, '\n'))
    tn_trial_fail("%s: '%s' is empty, or ends in a full stop", what, w);
}

static void unknown_target(tn_subject *s, const char *arg) {
  static const tn_target other = {sizeof other, 1, "no-such-target", "none", "", 0, 0};
  tn_target all[TN_SUBJECT_TARGETS];
  tn_trial trial;
  package p = {0};
  (void)arg;
  tn_subject_backend(s);
  if (tn_subject_targets(s, all) == 1) tn_trial_skip("it has one target, whose name need not matter");
  tn_subject_compile(s, &all[0], &trial);
  uint32_t before = s->trial.said;
  if (compile(s, &other, trial.package->w.m, &p) == TN_OK) tn_trial_fail("it compiles for '%s'", other.name);
  wants_words(s, before, "an unknown target");
}

/* What the sink answers is what compile answers. */
static void sink_fails(tn_subject *s, const char *arg) {
  tn_target all[TN_SUBJECT_TARGETS];
  tn_trial trial;
  package p = {0};
  tn_subject_backend(s);
  tn_subject_targets(s, all);
  tn_subject_compile(s, &all[0], &trial);
  *(*arg == 'i' ? &p.image_status : &p.kernel_status) = TN_CANCELLED;
  if (*arg == 'k' && !trial.package->rows.count) tn_trial_skip("it takes none of add, sub and mul");
  tn_status r = compile(s, &all[0], trial.package->w.m, &p);
  if (r != TN_CANCELLED) tn_trial_fail("the sink answers %d, compile answers %d", TN_CANCELLED, r);
}

bool tn_conform_compile(tn_conform_tests *out) {
  static const tn_conform_test all[] = {
      {"claim", "answers", answers, NULL},
      {"claim", "fuse", fuse, NULL},
      {"compile", "same_bytes", same_bytes, NULL},
      {"compile", "nothing", nothing, NULL},
      {"errors", "unknown_target", unknown_target, NULL},
      {"errors", "image_refused", sink_fails, "image"},
      {"errors", "kernel_refused", sink_fails, "kernel"},
  };
  bool ok = true;
  for (size_t i = 0; i < TN_COUNT(all); i++) ok &= tn_vec_push(out, all[i]);
  return ok;
}
