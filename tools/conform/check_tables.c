/* check_tables.c - groups pass, rules and frontend: what a plugin may bring besides a backend. */
#include "passes/pass.h"
#include "tools/conform/conform.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static tn_module *case_module(const tn_embedded_page *p, tn_diags *d) {
  tn_diags_init(d);
  tn_module *m = tn_module_new(d);
  if (tn_module_parse(m, p->name, (tn_str){(const char *)p->text, p->size}) == TN_OK &&
      tn_module_verify(m) == TN_OK)
    return m;
  tn_module_free(m);
  tn_diags_fini(d);
  return NULL;
}
static void must_verify(tn_module *m, tn_diags *d, const char *what, const char *name) {
  if (tn_module_verify(m) == TN_OK) return;
  tn_buf text = {0};
  tn_diags_text(d, &text, false);
  tn_trial_fail("behind %s '%s' the module is broken:\n%s", what, name, tn_buf_cstr(&text));
}

/* Every pass with its default options over every case: the module stays right. */
static void passes(tn_subject *s, const char *arg) {
  uint32_t n = 0;
  (void)arg;
  tn_subject_start(s);
  for (const void *theirs; (theirs = tn_subject_table(s, "tn.pass/1", n)); n++) {
    tn_pass pass;
    tn_take(&pass, sizeof pass, theirs);
    for (const tn_embedded_page *p = tn_conform_cases; p->name; p++) {
      tn_diags d;
      tn_module *m = case_module(p, &d);
      for (tn_func f = 1; m && f <= tn_ir_func_count(m); f++) {
        tn_status r = pass.run(s->self, m, f, (const tn_options *)"");
        if (r != TN_OK)
          tn_trial_fail("pass '%s' on %s: status %d: %s", pass.name, p->name, r, s->trial.words);
      }
      if (!m) continue;
      must_verify(m, &d, "pass", pass.name);
      tn_module_free(m);
      tn_diags_fini(&d);
    }
  }
  if (!n) tn_trial_skip("it has no pass");
}

static void rules(tn_subject *s, const char *arg) {
  uint32_t n = 0;
  (void)arg;
  tn_subject_start(s);
  for (const void *theirs; (theirs = tn_subject_table(s, "tn.rules/1", n)); n++) {
    tn_rules r;
    tn_take(&r, sizeof r, theirs);
    for (const tn_embedded_page *p = tn_conform_cases; p->name; p++) {
      tn_diags d;
      tn_module *m = case_module(p, &d);
      if (!m) continue;
      tn_pipeline_run run = {.pipeline = "rules", .nrule_texts = 1, .rule_texts = &r.text};
      tn_status status = tn_pipeline_exec(m, &run);
      tn_pipeline_fini(&run);
      if (status != TN_OK) must_verify(m, &d, "rules", r.name);
      if (status != TN_OK) {
        tn_buf text = {0};
        tn_diags_text(&d, &text, false);
        tn_trial_fail("rules '%s' on %s: status %d\n%s", r.name, p->name, status, tn_buf_cstr(&text));
      }
      must_verify(m, &d, "rules", r.name);
      tn_module_free(m);
      tn_diags_fini(&d);
    }
  }
  if (!n) tn_trial_skip("it has no rules");
}

/* Paths where nothing, nothing of sense, or no file is. */
static void frontends(tn_subject *s, const char *arg) {
  char folder[] = "/tmp/tn-conform-XXXXXX", file[64];
  static const char *const names[] = {"absent", "empty", "garbage"};
  uint32_t n = 0;
  (void)arg;
  tn_subject_start(s);
  TN_NEED(mkdtemp(folder));
  for (const void *theirs; (theirs = tn_subject_table(s, "tn.frontend/1", n)); n++) {
    tn_frontend f;
    tn_take(&f, sizeof f, theirs);
    for (size_t i = 0; i < TN_COUNT(names); i++) {
      tn_diags d;
      tn_diags_init(&d);
      tn_module *m = tn_module_new(&d);
      snprintf(file, sizeof file, "%s/%s", folder, names[i]);
      int fd = i ? open(file, O_CREAT | O_WRONLY, 0600) : -1;
      if (i == 2) TN_NEED(write(fd, "\x93garbage\0\xff\n", 11) == 11);
      if (fd >= 0) close(fd);
      uint32_t sure = f.probe(s->self, file);
      tn_status r = f.import(s->self, file, m, NULL);
      unlink(file);
      if (sure > 100) tn_trial_fail("frontend '%s': probe gives %u, at most 100", f.name, sure);
      if (r == TN_OK) tn_trial_fail("frontend '%s' imports the file '%s'", f.name, names[i]);
      tn_module_free(m);
      tn_diags_fini(&d);
    }
  }
  rmdir(folder);
  if (!n) tn_trial_skip("it has no frontend");
}

bool tn_conform_tables(tn_conform_tests *out) {
  return tn_vec_push(out, ((tn_conform_test){"pass", "cases", passes, NULL})) &&
         tn_vec_push(out, ((tn_conform_test){"rules", "cases", rules, NULL})) &&
         tn_vec_push(out, ((tn_conform_test){"frontend", "nonsense", frontends, NULL}));
}
