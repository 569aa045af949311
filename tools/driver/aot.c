/* aot.c - a built model as libfoo.so and foo.h. */
#include "tools/driver/driver.h"
#include "tools/driver/header.h"
#include <sys/stat.h>

typedef struct pack_ctx {
  tn_driver *d;
  tn_module *m;
  const tn_build *b;
} pack_ctx;

static tn_status write_weights(void *ctx, const tn_link_place *out, uint64_t *hash) {
  pack_ctx *p = ctx;
  return tn_driver_pack(p->d, p->m, p->b, out, hash);
}

static void link_done(void *ctx, const char *what) { tn_driver_phase(((pack_ctx *)ctx)->d, what); }

/* One link target per target of the first backend: its image and, per program row, the symbol in it. */
static tn_status fill_target(tn_driver *d, const tn_build *b, uint32_t t, tn_arena *a, tn_link_target *out) {
  tn_bytes *object = tn_arena_alloc(a, sizeof *object);
  tn_link_kernel *kernels = tn_arena_alloc(a, (b->rows.count + 1) * sizeof *kernels);
  if (!object || !kernels) return TN_OOM;
  for (uint32_t i = 0; i < b->images.count; i++)
    if (b->images.items[i].target == t)
      *object = (tn_bytes){b->images.items[i].bytes.text, b->images.items[i].bytes.len};
  for (uint32_t i = 0; i < b->rows.count; i++)
    kernels[i] = (tn_link_kernel){b->kernels.items[b->rows.items[i]].symbols[t], 0};
  const tn_target *target = tn_driver_target(d, 0, t);
  *out = (tn_link_target){target->name, target->features, target->score, 1, object, kernels};
  return TN_OK;
}

/* Every kernel must come from one backend whose images a linker takes. */
static tn_status check_backends(tn_driver *d, const tn_build *b) {
  for (uint32_t i = 0; i < b->images.count; i++) {
    const tn_backend_ref *ref = &d->backends.items[b->images.items[i].backend];
    if (b->images.items[i].backend || !(ref->table.flags & TN_BACKEND_AOT))
      return tn_fail(d->diags, TN_UNSUPPORTED, NULL, NULL,
                     "kernels of backend '%s' cannot go into a shared library; use --backend cpu",
                     ref->table.name);
  }
  return TN_OK;
}

/* "dir/libfoo.so" -> "dir/foo.h". */
static char *header_path(tn_arena *a, const char *path) {
  const char *slash = strrchr(path, '/');
  const char *base = slash ? slash + 1 : path;
  tn_str stem = tn_str_of(tn_str_starts(tn_str_of(base), "lib") ? base + 3 : base);
  if (tn_str_ends(stem, ".so")) stem.len -= 3;
  return tn_arena_printf(a, "%.*s%.*s.h", (int)(base - path), path, (int)stem.len, stem.ptr);
}

tn_status tn_driver_aot(tn_driver *d, tn_module *m, const tn_build *b, uint32_t mode, const char *path,
                        tn_aot_result *out) {
  TN_TRY(check_backends(d, b));
  tn_link_target *targets = tn_arena_alloc(&d->arena, d->targets.items[0].count * sizeof *targets);
  if (!targets) return TN_OOM;
  for (uint32_t t = 0; t < d->targets.items[0].count; t++) TN_TRY(fill_target(d, b, t, &d->arena, &targets[t]));
  tn_buf name = {0}, header = {0};
  tn_link_identifier(path, &name);
  pack_ctx pack = {d, m, b};
  tn_link_job job = {.output = path,
                     .name = tn_buf_cstr(&name),
                     .targets = targets,
                     .ntargets = d->targets.items[0].count,
                     .weights = mode,
                     .program = {b->program.text, b->program.len},
                     .weights_bytes = b->weights_total,
                     .weights_write = write_weights,
                     .done = link_done,
                     .ctx = &pack};
  out->header = header_path(&d->arena, path);
  out->weights_bytes = b->weights_total;
  tn_status s = tn_header_write(job.program, job.name, &header, d->diags);
  tn_driver_phase(d, "header");
  if (s == TN_OK) s = tn_link_artefact(&job, d->diags);
  if (s == TN_OK) s = out->header ? tn_text_write(out->header, &header, d->diags) : TN_OOM;
  struct stat st;
  if (s == TN_OK && !stat(path, &st)) out->library_bytes = (uint64_t)st.st_size;
  tn_buf_fini(&name);
  tn_buf_fini(&header);
  return s;
}
