/* conform.h - tests of a plugin's manners (tenon conform): each runs in a process of its own, in which the
 * plugin is loaded afresh, so a crash is an outcome like any other. */
#ifndef TN_CONFORM_H
#define TN_CONFORM_H
#include "tools/conform/cases.h"
#include "tools/conform/run.h"

/* The plugin under test, in a test's process. */
typedef struct tn_subject {
  const char *path;
  void *library;
  tn_plugin_query_fn query;
  const tn_plugin *plugin; /* its own table */
  tn_host host;            /* as it was started with */
  void *self;
  tn_trial_plugin trial; /* with its first backend, if it has one */
  tn_backend backend;    /* its table, copied */
} tn_subject;
/* dlopen and tn_plugin_query; fails the test. */
void tn_subject_query(tn_subject *s);
/* That, then init with tenon's own host table. */
void tn_subject_start(tn_subject *s);
/* That; skips the test when it has no backend. */
void tn_subject_backend(tn_subject *s);
/* Its table of a kind ("tn.pass/1"), or NULL. */
const void *tn_subject_table(tn_subject *s, const char *kind, uint32_t index);
/* The targets, whose count is returned. */
enum { TN_SUBJECT_TARGETS = 64 };
uint32_t tn_subject_targets(tn_subject *s, tn_target out[TN_SUBJECT_TARGETS]);
/* A target that this machine runs, of a backend with a device any; skips the test when there is none. */
tn_target tn_subject_target(tn_subject *s);
/* The device table; skips the test where the backend has none or no device opens. */
const tn_device_api *tn_subject_device(tn_subject *s);
/* Opens a device with the package of `c`, or fails. */
tn_status tn_subject_open(tn_subject *s, tn_bytes image, tn_device **out, char error[512]);

/* add, sub and mul of f32[N, 8]; compiled for `t` as far as the backend takes them, in out->package. */
extern const char tn_conform_sample[];
void tn_subject_compile(tn_subject *s, const tn_target *t, tn_trial *out);
_Noreturn void tn_trial_skip(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

typedef struct tn_conform_test {
  const char *group, *name;
  void (*run)(tn_subject *s, const char *arg); /* fails by tn_trial_fail */
  const char *arg;
} tn_conform_test;
typedef TN_VEC(tn_conform_test) tn_conform_tests;
/* One per group's file: appends its tests. */
bool tn_conform_load(tn_conform_tests *out);
bool tn_conform_memory(tn_conform_tests *out);
bool tn_conform_compile(tn_conform_tests *out);
bool tn_conform_numerics(tn_conform_tests *out);
bool tn_conform_images(tn_conform_tests *out);
bool tn_conform_device(tn_conform_tests *out);
bool tn_conform_tables(tn_conform_tests *out);

typedef enum tn_outcome { TN_PASS, TN_FAIL, TN_CRASH, TN_SKIP, TN_XFAIL, TN_XPASS } tn_outcome;
extern const char *const tn_outcome_names[];
typedef struct tn_conform_options {
  const char *only;     /* NULL, or a part of the names of the tests that run */
  const char *expected; /* NULL, or a file: names of tests that fail, one a line, # begins a comment */
  void *user;
  void (*each)(void *user, const char *name, tn_outcome outcome, const char *words, double seconds);
} tn_conform_options;
/* Runs all tests. counts: by outcome. TN_NOT_FOUND, TN_INVALID: the file of expectations. */
tn_status tn_conform_run(const char *plugin, const tn_conform_options *o, uint32_t counts[6], tn_diags *d);
#endif
