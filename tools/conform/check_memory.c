/* check_memory.c - group memory: every allocation that the plugin's own code makes fails once. Its calls of
 * malloc, calloc, realloc and host->alloc are counted, the n-th gives NULL; what comes of it is a status,
 * never a crash, and without a failure all works again.
 *
 * The calls are caught in the plugin's table of imports (its GOT); libraries that it links are left alone. */
#include "tools/conform/conform.h"
#include <errno.h>
#include <link.h>
#include <stdlib.h>
#include <sys/mman.h>

/* Of a test's process, which has one plugin and here one thread that counts. */
static struct {
  long left; /* calls until one fails; negative: none does */
  long calls;
} counter = {-1, 0};

static bool fails(void) {
  __atomic_add_fetch(&counter.calls, 1, __ATOMIC_RELAXED);
  if (counter.left < 0) return false;
  return __atomic_fetch_sub(&counter.left, 1, __ATOMIC_RELAXED) == 0;
}
static void *failing_malloc(size_t n) { return fails() ? NULL : malloc(n); }
static void *failing_calloc(size_t n, size_t size) { return fails() ? NULL : calloc(n, size); }
static void *failing_realloc(void *p, size_t n) { return fails() ? NULL : realloc(p, n); }
static void *failing_host(void *ctx, void *old, uint64_t old_size, uint64_t n) {
  (void)ctx, (void)old_size;
  if (!n) return free(old), NULL;
  return fails() ? NULL : realloc(old, n);
}

/* ---- the table of imports ---- */
typedef struct imports {
  ElfW(Addr) base;
  const ElfW(Sym) * symbols;
  const char *names;
  const ElfW(Rela) * rela[2];
  size_t bytes[2];
} imports;

static void read_dynamic(const struct link_map *map, imports *i) {
  i->base = map->l_addr;
  for (const ElfW(Dyn) *d = map->l_ld; d->d_tag != DT_NULL; d++) switch (d->d_tag) {
    case DT_SYMTAB: i->symbols = (const void *)d->d_un.d_ptr; break;
    case DT_STRTAB: i->names = (const void *)d->d_un.d_ptr; break;
    case DT_RELA: i->rela[0] = (const void *)d->d_un.d_ptr; break;
    case DT_RELASZ: i->bytes[0] = d->d_un.d_val; break;
    case DT_JMPREL: i->rela[1] = (const void *)d->d_un.d_ptr; break;
    case DT_PLTRELSZ: i->bytes[1] = d->d_un.d_val; break;
    default: break;
    }
}

static void set_import(const imports *i, const ElfW(Rela) * r) {
  static const struct {
    const char *name;
    uintptr_t fn;
  } ours[] = {{"malloc", (uintptr_t)failing_malloc},
              {"calloc", (uintptr_t)failing_calloc},
              {"realloc", (uintptr_t)failing_realloc}};
  const char *name = i->names + i->symbols[ELF64_R_SYM(r->r_info)].st_name;
  uintptr_t *at = (uintptr_t *)(i->base + r->r_offset), page = (uintptr_t)at & ~(uintptr_t)4095;
  for (size_t k = 0; k < TN_COUNT(ours); k++)
    if (!strcmp(name, ours[k].name) && ELF64_R_SYM(r->r_info) && !r->r_addend) {
      if (mprotect((void *)page, 4096, PROT_READ | PROT_WRITE))
        tn_trial_skip("its imports cannot be changed");
      *at = ours[k].fn;
    }
}

static void catch_calls(tn_subject *s) {
  struct link_map *map = NULL;
  imports i = {0};
  if (dlinfo(s->library, RTLD_DI_LINKMAP, &map) || !map) tn_trial_skip("its table of imports is not found");
  read_dynamic(map, &i);
  for (int t = 0; t < 2; t++)
    for (size_t k = 0; k < i.bytes[t] / sizeof(ElfW(Rela)); k++) set_import(&i, &i.rela[t][k]);
}

/* ---- what is tried ---- */
enum { MOST = 100 }; /* failing calls of one kind */

static tn_status try_init(tn_subject *s) {
  tn_status r = s->plugin->init ? s->plugin->init(&s->host, &s->self) : TN_OK;
  if (r == TN_OK && s->plugin->fini) s->plugin->fini(s->self);
  return r;
}

typedef struct work {
  tn_trial trial;
  tn_target target;
  tn_buf image;
} work;
static tn_status take_image(void *ctx, tn_bytes b) {
  tn_buf *image = &((work *)ctx)->image;
  image->len = 0;
  tn_buf_put(image, b.ptr, b.len);
  return TN_OK;
}
static tn_status ignore_kernel(void *ctx, const tn_kernel_info *i) { return (void)ctx, (void)i, TN_OK; }

static tn_status try_compile(tn_subject *s, work *w) {
  tn_package_sink sink = {.size = sizeof sink, .ctx = w, .image = take_image, .kernel = ignore_kernel};
  return s->backend.compile(s->self, &w->target, w->trial.package->w.m, NULL, &sink);
}
static tn_status try_load(tn_subject *s, work *w) {
  tn_bytes image = {w->image.text, w->image.len};
  if (s->backend.device) {
    tn_device *d;
    char error[512];
    tn_status r = tn_subject_open(s, image, &d, error);
    if (r == TN_OK) s->backend.device(s->self)->close(d);
    return r;
  }
  tn_exec *x;
  tn_status r = s->backend.load(s->self, &w->target, image, &x);
  if (r == TN_OK) s->backend.unload(x);
  return r;
}

static tn_status try_step(tn_subject *s, work *w, const char *step) {
  return *step == 'i' ? try_init(s) : *step == 'c' ? try_compile(s, w) : try_load(s, w);
}
/* Fails one call after the other of those that `step` makes, at most MOST of them. */
static void each_call(tn_subject *s, work *w, const char *step) {
  s->trial.quiet = true;
  counter.calls = 0;
  tn_status r = try_step(s, w, step);
  if (r != TN_OK) tn_trial_fail("%s: status %d: %s", step, r, s->trial.words);
  long all = counter.calls;
  for (long n = 0; n < all; n += all / MOST + 1) {
    counter.left = n;
    (void)try_step(s, w, step);
    counter.left = -1;
  }
  r = try_step(s, w, step);
  if (r != TN_OK)
    tn_trial_fail("%s: status %d behind the failures, with memory again: %s", step, r, s->trial.words);
  if (!all) tn_trial_skip("its code allocates nothing");
}

static void init(tn_subject *s, const char *arg) {
  tn_subject_query(s);
  tn_trial_host(&s->trial, &s->host);
  s->host.alloc = failing_host;
  catch_calls(s);
  each_call(s, NULL, arg);
}

static void backend(tn_subject *s, const char *arg) {
  work w = {0};
  tn_subject_backend(s);
  if (*arg == 'l' && s->backend.device) (void)tn_subject_device(s);
  if (*arg == 'l') {
    w.target = tn_subject_target(s);
  } else {
    tn_target all[TN_SUBJECT_TARGETS];
    tn_subject_targets(s, all);
    w.target = all[0];
  }
  tn_subject_compile(s, &w.target, &w.trial);
  TN_NEED(try_compile(s, &w) == TN_OK);
  catch_calls(s);
  each_call(s, &w, arg);
}

bool tn_conform_memory(tn_conform_tests *out) {
  return tn_vec_push(out, ((tn_conform_test){"memory", "init", init, "init"})) &&
         tn_vec_push(out, ((tn_conform_test){"memory", "compile", backend, "compile"})) &&
         tn_vec_push(out, ((tn_conform_test){"memory", "load", backend, "load"}));
}
