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

/* The backends of an artefact: one whose images a linker takes, one whose images are data for a device. */
typedef struct aot_parts {
  uint32_t here, there; /* backends.count: none */
} aot_parts;

static tn_status find_parts(tn_driver *d, const tn_build *b, aot_parts *p) {
  *p = (aot_parts){d->backends.count, d->backends.count};
  for (uint32_t i = 0; i < b->images.count; i++) {
    uint32_t backend = b->images.items[i].backend;
    const tn_backend *t = &d->backends.items[backend].table;
    uint32_t *part = t->flags & TN_BACKEND_AOT ? &p->here : &p->there;
    if (!(t->flags & (TN_BACKEND_AOT | TN_BACKEND_EMBED)) || (*part < d->backends.count && *part != backend))
      return tn_fail(d->diags, TN_UNSUPPORTED, NULL, NULL,
                     "kernels of backend '%s' cannot go into a shared library; use --backend cpu", t->name);
    *part = backend;
  }
  return TN_OK;
}

/* One link target per target: its image and, per program row, the symbol in it. */
static tn_status fill_target(tn_driver *d, const tn_build *b, const aot_parts *p, uint32_t t,
                             tn_link_target *out) {
  tn_bytes *object = tn_arena_alloc(&d->arena, sizeof *object);
  tn_link_kernel *kernels = tn_arena_alloc(&d->arena, (b->rows.count + 1) * sizeof *kernels);
  bool here = p->here < d->backends.count;
  if (!object || !kernels) return TN_OOM;
  for (uint32_t i = 0; i < b->images.count; i++)
    if (b->images.items[i].backend == p->here && b->images.items[i].target == t)
      *object = (tn_bytes){b->images.items[i].bytes.text, b->images.items[i].bytes.len};
  for (uint32_t i = 0; i < b->rows.count; i++) {
    const tn_build_kernel *k = &b->kernels.items[b->rows.items[i]];
    kernels[i] = (tn_link_kernel){k->backend == p->here ? k->symbols[t] : NULL, 0};
  }
  const tn_target *target = here ? tn_driver_target(d, p->here, t) : NULL;
  *out = (tn_link_target){.name = target ? target->name : "device",
                          .features = target ? target->features : "",
                          .score = target ? target->score : 0,
                          .nobjects = here,
                          .objects = object,
                          .kernels = kernels};
  return TN_OK;
}

/* The runtime of every artefact has the table of the backend, under a name that follows from its own. */
static tn_status fill_device(tn_driver *d, const tn_build *b, const aot_parts *p, tn_link_device *out) {
  if (p->there >= d->backends.count) return TN_OK;
  tn_bytes *images = tn_arena_alloc(&d->arena, b->images.count * sizeof *images);
  out->api = tn_arena_printf(&d->arena, "tn_%s_device_api", d->backends.items[p->there].table.name);
  if (!images || !out->api) return TN_OOM;
  for (uint32_t i = 0; i < b->images.count; i++)
    if (b->images.items[i].backend == p->there)
      images[out->nimages++] = (tn_bytes){b->images.items[i].bytes.text, b->images.items[i].bytes.len};
  out->images = images;
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
  aot_parts parts;
  tn_link_device device = {0};
  TN_TRY(find_parts(d, b, &parts));
  uint32_t ntargets = parts.here < d->backends.count ? tn_driver_ntargets(d, parts.here) : 1;
  tn_link_target *targets = tn_arena_alloc(&d->arena, ntargets * sizeof *targets);
  if (!targets) return TN_OOM;
  for (uint32_t t = 0; t < ntargets; t++) TN_TRY(fill_target(d, b, &parts, t, &targets[t]));
  TN_TRY(fill_device(d, b, &parts, &device));
  tn_buf name = {0}, header = {0};
  tn_link_identifier(path, &name);
  pack_ctx pack = {d, m, b};
  tn_link_job job = {.output = path,
                     .name = tn_buf_cstr(&name),
                     .targets = targets,
                     .ntargets = ntargets,
                     .device = device,
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
