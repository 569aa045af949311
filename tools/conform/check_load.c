/* check_load.c - groups load and versions: the one symbol, the tables behind it, and hosts that are older or
 * newer than the plugin. */
#include "tools/conform/conform.h"
#include <stdlib.h>
#include <unistd.h>

static void symbol(tn_subject *s, const char *arg) {
  const char *why = NULL;
  (void)arg;
  tn_subject_query(s);
  const tn_plugin *p = s->plugin;
  if (s->query(TN_ABI, &why) != p) tn_trial_fail("asked twice, it answers with two tables");
  if (p->size < offsetof(tn_plugin, table) + sizeof p->table)
    tn_trial_fail("its table has %u bytes, too few for all entries of version 0.0", p->size);
  if (p->abi >> 16 != TN_ABI_MAJOR)
    tn_trial_fail("it was made for major %u, this is %u", p->abi >> 16, TN_ABI_MAJOR);
  if (!p->id || !*p->id || !p->version || !*p->version) tn_trial_fail("it has no id or no version");
  if (!p->table) tn_trial_fail("it has no entry 'table'");
}

static void other_major(tn_subject *s, const char *arg) {
  const char *why = NULL;
  (void)arg;
  tn_subject_query(s);
  for (uint32_t major = TN_ABI_MAJOR + 1; major < TN_ABI_MAJOR + 100; major += 33) {
    why = NULL;
    if (s->query(major << 16, &why)) tn_trial_fail("it takes a host of major %u", major);
    if (!why || !*why) tn_trial_fail("it refuses a host of major %u without words", major);
  }
}

static void newer_minor(tn_subject *s, const char *arg) {
  const char *why = NULL;
  (void)arg;
  tn_subject_query(s);
  if (!s->query(TN_ABI + 7, &why)) tn_trial_fail("it refuses a host with a newer minor: %s", why ? why : "");
}

/* What a table of a kind must have: the offset of a pointer and its name. */
typedef struct entry {
  const char *kind, *name;
  size_t offset;
} entry;
static const entry entries[] = {
    {"tn.backend/1", "name", offsetof(tn_backend, name)},
    {"tn.backend/1", "targets", offsetof(tn_backend, targets)},
    {"tn.backend/1", "claim", offsetof(tn_backend, claim)},
    {"tn.backend/1", "compile", offsetof(tn_backend, compile)},
    {"tn.pass/1", "name", offsetof(tn_pass, name)},
    {"tn.pass/1", "run", offsetof(tn_pass, run)},
    {"tn.rules/1", "name", offsetof(tn_rules, name)},
    {"tn.rules/1", "text", offsetof(tn_rules, text)},
    {"tn.frontend/1", "name", offsetof(tn_frontend, name)},
    {"tn.frontend/1", "probe", offsetof(tn_frontend, probe)},
    {"tn.frontend/1", "import", offsetof(tn_frontend, import)},
};

static uint32_t check_tables(tn_subject *s, const entry *e) {
  uint32_t n = 0;
  for (const char *t; n < 1024 && (t = tn_subject_table(s, e->kind, n)); n++) {
    uint32_t size;
    void *p = NULL;
    memcpy(&size, t, sizeof size);
    if (size > 65536) tn_trial_fail("%s %u: a size of %u bytes", e->kind, n, size);
    if (size >= e->offset + sizeof p) memcpy(&p, t + e->offset, sizeof p);
    if (!p) tn_trial_fail("%s %u has no entry '%s'", e->kind, n, e->name);
  }
  if (n == 1024) tn_trial_fail("%s: the list has no end", e->kind);
  return n;
}

static void tables(tn_subject *s, const char *arg) {
  uint32_t all = 0;
  (void)arg;
  tn_subject_start(s);
  for (size_t i = 0; i < TN_COUNT(entries); i++) all += check_tables(s, &entries[i]);
  if (!all) tn_trial_fail("it has no table of any kind");
  if (tn_subject_table(s, "tn.nothing/1", 0))
    tn_trial_fail("it has a table of the unknown kind tn.nothing/1");
}

/* A backend runs its kernels itself, or has a device. */
static void run_side(tn_subject *s, const char *arg) {
  (void)arg;
  tn_subject_backend(s);
  const tn_backend *b = &s->backend;
  if (!b->device && !(b->load && b->kernel && b->unload))
    tn_trial_fail("neither load, kernel and unload nor device are there");
  if (!b->layout != !b->pack) tn_trial_fail("layout and pack come together");
}

static void twice(tn_subject *s, const char *arg) {
  (void)arg;
  for (int i = 0; i < 3; i++) {
    *s = (tn_subject){.path = s->path};
    tn_subject_start(s);
    (void)tn_subject_table(s, "tn.backend/1", 0);
    if (s->plugin->fini) s->plugin->fini(s->self);
  }
}

/* Nothing on stdout or stderr while it loads, compiles and says no. */
static void silent(tn_subject *s, const char *arg) {
  char file[] = "/tmp/tn-conform-XXXXXX";
  int fd = mkstemp(file), out = dup(1), err = dup(2);
  (void)arg;
  TN_NEED(fd >= 0);
  unlink(file);
  dup2(fd, 1), dup2(fd, 2);
  tn_subject_start(s);
  const void *theirs = tn_subject_table(s, "tn.backend/1", 0);
  if (theirs) {
    tn_trial trial;
    tn_target all[TN_SUBJECT_TARGETS];
    tn_take(&s->backend, sizeof s->backend, theirs);
    s->trial.backend = &s->backend;
    tn_subject_targets(s, all);
    s->trial.quiet = true;
    tn_subject_compile(s, &all[0], &trial);
    tn_trial_fini(&trial);
  }
  fflush(NULL);
  dup2(out, 1), dup2(err, 2);
  if (lseek(fd, 0, SEEK_END) > 0) tn_trial_fail("it prints, where words belong into host->diag");
}

/* ---- versions ---- */
/* A host whose table ends behind entry `arg`: refused in words or taken, never a crash. */
static void short_host(tn_subject *s, const char *arg) {
  static const struct {
    const char *name;
    size_t size;
  } ends[] = {{"ctx", offsetof(tn_host, alloc)},
              {"option", offsetof(tn_host, extension)},
              {"extension", offsetof(tn_host, ir)}};
  tn_subject_query(s);
  tn_trial_host(&s->trial, &s->host);
  for (size_t i = 0; i < TN_COUNT(ends); i++) {
    if (strcmp(ends[i].name, arg)) continue;
    char *lent = malloc(ends[i].size); /* reads behind it are seen by a sanitizer */
    TN_NEED(lent);
    s->host.size = (uint32_t)ends[i].size;
    memcpy(lent, &s->host, ends[i].size);
    tn_status r = s->plugin->init ? s->plugin->init((const tn_host *)(const void *)lent, &s->self) : TN_OK;
    if (r == TN_OK && s->plugin->fini) s->plugin->fini(s->self);
    free(lent);
  }
}

/* A host of a later minor: its tables are longer. */
static void long_host(tn_subject *s, const char *arg) {
  struct {
    tn_host host;
    uint64_t more[8];
  } longer;
  struct {
    tn_ir ir;
    uint64_t more[8];
  } ir;
  (void)arg;
  tn_subject_query(s);
  memset(&longer, 0xdd, sizeof longer);
  memset(&ir, 0xdd, sizeof ir);
  tn_trial_host(&s->trial, &longer.host);
  ir.ir = tn_ir_table;
  ir.ir.size = sizeof ir;
  longer.host.size = sizeof longer;
  longer.host.abi = TN_ABI + 1;
  longer.host.ir = &ir.ir;
  tn_status r = s->plugin->init ? s->plugin->init(&longer.host, &s->self) : TN_OK;
  if (r != TN_OK) tn_trial_fail("it refuses longer tables: status %d", r);
  (void)tn_subject_table(s, "tn.backend/1", 0);
}

static tn_status ignore_image(void *ctx, tn_bytes b) { return (void)ctx, (void)b, TN_OK; }
static tn_status ignore_kernel(void *ctx, const tn_kernel_info *i) { return (void)ctx, (void)i, TN_OK; }
/* Tables that the host passes in calls, as minor 0 had them. */
static void short_calls(tn_subject *s, const char *arg) {
  tn_target all[TN_SUBJECT_TARGETS];
  tn_trial trial;
  (void)arg;
  tn_subject_backend(s);
  uint32_t n = tn_subject_targets(s, all);
  tn_subject_compile(s, &all[0], &trial);
  for (uint32_t i = 0; i < n; i++) {
    tn_target t = all[i];
    t.size = offsetof(tn_target, flags);
    t.flags = 0xdddddddd;
    tn_package_sink sink;
    memset(&sink, 0xdd, sizeof sink);
    sink.size = offsetof(tn_package_sink, phase);
    sink.flags = 0;
    sink.image = ignore_image;
    sink.kernel = ignore_kernel;
    tn_status r = s->backend.compile(s->self, &t, trial.package->w.m, NULL, &sink);
    if (r != TN_OK) tn_trial_fail("target %s: status %d: %s", t.name, r, s->trial.words);
  }
}

bool tn_conform_load(tn_conform_tests *out) {
  static const tn_conform_test all[] = {
      {"load", "symbol", symbol, NULL},
      {"load", "tables", tables, NULL},
      {"load", "run_side", run_side, NULL},
      {"load", "twice", twice, NULL},
      {"load", "silent", silent, NULL},
      {"versions", "other_major", other_major, NULL},
      {"versions", "newer_minor", newer_minor, NULL},
      {"versions", "host_ends_at_ctx", short_host, "ctx"},
      {"versions", "host_ends_at_option", short_host, "option"},
      {"versions", "host_ends_at_extension", short_host, "extension"},
      {"versions", "longer_host", long_host, NULL},
      {"versions", "shorter_calls", short_calls, NULL},
  };
  bool ok = true;
  for (size_t i = 0; i < TN_COUNT(all); i++) ok &= tn_vec_push(out, all[i]);
  return ok;
}
