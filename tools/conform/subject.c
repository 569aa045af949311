/* subject.c - the plugin under test: how a test's process loads it and gets at its tables. */
#include "tools/conform/conform.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void tn_trial_skip(const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  vfprintf(stderr, fmt, ap);
  va_end(ap);
  fputc('\n', stderr);
  fflush(NULL);
  _exit(77);
}

void tn_subject_query(tn_subject *s) {
  const char *why = NULL, *slash = strchr(s->path, '/') ? "" : "./";
  char path[4096];
  snprintf(path, sizeof path, "%s%s", slash, s->path);
  s->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!s->library) tn_trial_fail("cannot load the plugin: %s", dlerror());
  *(void **)&s->query = dlsym(s->library, "tn_plugin_query");
  if (!s->query) tn_trial_fail("it has no symbol tn_plugin_query");
  s->plugin = s->query(TN_ABI, &why);
  if (!s->plugin) tn_trial_fail("it refuses this host: %s", why ? why : "no reason given");
}

static void *host_alloc(void *ctx, void *old, uint64_t old_size, uint64_t new_size) {
  (void)ctx, (void)old_size;
  if (!new_size) return free(old), NULL;
  return realloc(old, new_size);
}

void tn_subject_start(tn_subject *s) {
  tn_subject_query(s);
  s->trial.file = s->path;
  tn_trial_host(&s->trial, &s->host);
  s->host.alloc = host_alloc;
  /* Worth nothing when init returns, as everything that is passed in; it stays, so that its use is seen. */
  tn_host *lent = malloc(sizeof *lent);
  TN_NEED(lent);
  *lent = s->host;
  tn_status r = s->plugin->init ? s->plugin->init(lent, &s->self) : TN_OK;
  memset(lent, 0xdd, sizeof *lent);
  if (r != TN_OK) tn_trial_fail("init gives status %d: %s", r, s->trial.words);
  s->trial.self = s->self;
}

const void *tn_subject_table(tn_subject *s, const char *kind, uint32_t index) {
  return s->plugin->table ? s->plugin->table(s->self, kind, index) : NULL;
}

void tn_subject_backend(tn_subject *s) {
  tn_subject_start(s);
  const void *theirs = tn_subject_table(s, "tn.backend/1", 0);
  if (!theirs) tn_trial_skip("it has no backend");
  tn_take(&s->backend, sizeof s->backend, theirs);
  s->trial.backend = &s->backend;
}

typedef struct list {
  tn_target *items;
  uint32_t count;
} list;
static void add_target(void *user, const tn_target *t) {
  list *l = user;
  if (l->count < TN_SUBJECT_TARGETS) tn_take(&l->items[l->count++], sizeof(tn_target), t);
}
uint32_t tn_subject_targets(tn_subject *s, tn_target out[TN_SUBJECT_TARGETS]) {
  list l = {out, 0};
  tn_status r = s->backend.targets(s->self, add_target, &l);
  if (r != TN_OK) tn_trial_fail("targets gives status %d: %s", r, s->trial.words);
  if (!l.count) tn_trial_fail("it has no target");
  return l.count;
}

/* What the device of `api` opens: an image of which target, found by trying. */
static bool opens(tn_subject *s, const tn_target *t) {
  tn_trial trial;
  tn_device *d;
  char error[512];
  tn_subject_compile(s, t, &trial);
  tn_bytes image = {trial.package->image.text, trial.package->image.len};
  bool ok = tn_subject_open(s, image, &d, error) == TN_OK;
  if (ok) s->backend.device(s->self)->close(d);
  tn_trial_fini(&trial);
  return ok;
}

tn_target tn_subject_target(tn_subject *s) {
  tn_target all[TN_SUBJECT_TARGETS];
  uint32_t n = tn_subject_targets(s, all), best = n;
  for (uint32_t i = 0; i < n; i++) {
    bool better = best == n || all[i].score > all[best].score;
    if (!better || (all[i].flags & TN_TARGET_OPT_IN)) continue;
    if (s->backend.device ? opens(s, &all[i])
                          : !s->backend.runs_here || s->backend.runs_here(s->self, &all[i]) == TN_OK)
      best = i;
  }
  if (best == n) tn_trial_skip("none of its targets runs on this machine");
  return all[best];
}

tn_status tn_subject_open(tn_subject *s, tn_bytes image, tn_device **out, char error[512]) {
  const tn_device_api *api = s->backend.device(s->self);
  error[0] = 0;
  return api->open(&image, 1, api->name, out, error, 512);
}

const tn_device_api *tn_subject_device(tn_subject *s) {
  tn_subject_backend(s);
  if (!s->backend.device) tn_trial_skip("its kernels run on the host");
  const tn_device_api *api = s->backend.device(s->self);
  if (!api) tn_trial_fail("device gives no table");
  tn_subject_target(s);
  return api;
}

/* ---- a small module ---- */
const char tn_conform_sample[] =
    "module @m { dims N\n func @f(%x: f32[N, 8], %y: f32[N, 8]) -> (a: f32[N, 8], "
    "b: f32[N, 8], c: f32[N, 8]) {\n"
    " %a = add %x, %y\n %b = sub %a, %y\n %c = mul %b, %x\n return %a, %b, %c } }";
static bool any(const char *mnemonic) { return (void)mnemonic, true; }

void tn_subject_compile(tn_subject *s, const tn_target *t, tn_trial *out) {
  static const tn_case c = {.text = tn_conform_sample, .dims = {{"N", 5}}};
  s->trial.left = any;
  tn_trial_init(out, &s->trial, t, &c, "partition, fuse{max=1}", NULL);
}
