/* link.c - makes libfoo.so: kernels, their table and the runtime through the system's linker, then the
 * program, the packed weights and the trailer behind the ELF image (backends/runtime/trailer.h), so that
 * gigabytes of weights never pass through a linker. */
#include "tools/driver/link.h"
#include "backends/runtime/trailer.h"
#include "backends/runtime/view.h"
#include "tools/driver/elf.h"
#include "tools/driver/linker.h"
#include <ctype.h>
#include <stdio.h>
#include <unistd.h>

typedef struct linking {
  const tn_link_job *job;
  tn_diags *diags;
  tn_arena arena;
  tn_tempdir temp;
  tn_view view;
  TN_VEC(const char *) args;
  const char *image; /* the linked ELF file */
} linking;

static void done(linking *l, const char *what) {
  if (l->job->done) l->job->done(l->job->ctx, what);
}

static tn_status no_memory(linking *l) {
  return tn_fail(l->diags, TN_OOM, l->job->output, NULL, "no memory to link");
}

static const char *base_name(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

/* ---- names --------------------------------------------------------------------------------------------- */

void tn_link_identifier(const char *path, tn_buf *out) {
  tn_str s = tn_str_of(base_name(path));
  if (tn_str_starts(s, "lib") && s.len > 3) s.ptr += 3, s.len -= 3;
  const char *dot = memchr(s.ptr, '.', s.len);
  if (dot && tn_str_ends(s, ".so")) s.len -= 3;
  uint64_t begin = out->len;
  for (uint64_t i = 0; i < s.len; i++) {
    unsigned char c = (unsigned char)s.ptr[i];
    bool word = c < 128 && isalnum(c);
    if (i == 0 && (!word || isdigit(c))) tn_buf_puts(out, "m");
    tn_buf_put(out, word ? (const char *)&s.ptr[i] : "_", 1);
  }
  if (out->len == begin) tn_buf_puts(out, "model");
}

char *tn_link_runtime_path(tn_arena *a) {
  static const char *const places[] = {"lib/tenon/tenon-runtime.o", "../lib/tenon/tenon-runtime.o",
                                       "../lib64/tenon/tenon-runtime.o",
                                       "../lib/x86_64-linux-gnu/tenon/tenon-runtime.o"};
  char self[4096];
  ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
  if (n <= 0) return NULL;
  self[n] = 0;
  char *slash = strrchr(self, '/');
  /* A test program lies some folders below the build's root. */
  for (; slash; slash = strrchr(self, '/')) {
    *slash = 0;
    for (size_t i = 0; i < TN_COUNT(places); i++) {
      char *path = tn_arena_printf(a, "%s/%s", self, places[i]);
      if (path && tn_path_exists(path)) return path;
    }
  }
  return NULL;
}

/* ---- the ELF image ------------------------------------------------------------------------------------- */

static tn_status add(linking *l, const char *arg) {
  return arg && tn_vec_push(&l->args, arg) ? TN_OK : no_memory(l);
}

static tn_status add_object(linking *l, uint32_t target, uint32_t object) {
  const tn_link_target *t = &l->job->targets[target];
  const char **needed = tn_arena_alloc(&l->arena, l->view.nkernels * sizeof *needed);
  uint32_t n = 0;
  tn_buf prefix = {0}, bytes = {0};
  if (!needed) return no_memory(l);
  for (uint32_t i = 0; i < l->view.nkernels; i++)
    if (t->kernels[i].symbol && t->kernels[i].object == object) needed[n++] = t->kernels[i].symbol;
  tn_elf_prefix(t, object, &prefix);
  char *name = tn_arena_printf(&l->arena, "%u.%u.o", target, object);
  tn_status status = name && !prefix.failed ? TN_OK : no_memory(l);
  if (!status) status = tn_elf_rename(t->objects[object], prefix.text, needed, n, t->name, &bytes, l->diags);
  const char *path =
      status ? NULL : tn_tempdir_file(&l->temp, name, (tn_bytes){bytes.text, bytes.len}, l->diags);
  if (!status) status = path ? add(l, path) : TN_UNAVAILABLE;
  tn_buf_fini(&prefix);
  tn_buf_fini(&bytes);
  return status;
}

static tn_status add_kernels(linking *l, uint64_t id) {
  const tn_link_job *j = l->job;
  for (uint32_t t = 0; t < j->ntargets; t++) {
    for (uint32_t i = 0; i < l->view.nkernels; i++)
      if (j->targets[t].kernels[i].symbol && j->targets[t].kernels[i].object >= j->targets[t].nobjects)
        return tn_fail(l->diags, TN_INVALID, j->targets[t].name, NULL, "kernel %u is in object %u of %u", i,
                       j->targets[t].kernels[i].object, j->targets[t].nobjects);
    for (uint32_t i = 0; i < j->targets[t].nobjects; i++) TN_TRY(add_object(l, t, i));
  }
  tn_buf bytes = {0};
  tn_status status = tn_elf_tables(j->targets, j->ntargets, l->view.nkernels, &j->device, id, &bytes);
  const char *path =
      status ? NULL : tn_tempdir_file(&l->temp, "tables.o", (tn_bytes){bytes.text, bytes.len}, l->diags);
  tn_buf_fini(&bytes);
  if (status) return no_memory(l);
  return path ? add(l, path) : TN_UNAVAILABLE;
}

/* The few functions that are seen from outside, under the model's name. */
static tn_status add_exports(linking *l) {
  static const struct {
    const char *suffix, *symbol;
  } exports[] = {
#define TN_X(suffix, symbol) {#suffix, #symbol},
      TN_LINK_EXPORTS(TN_X)
#undef TN_X
  };
  tn_buf script = {0};
  tn_buf_puts(&script, "{ global: tn_model_query;");
  for (size_t i = 0; i < TN_COUNT(exports); i++) {
    TN_TRY(add(l, tn_arena_printf(&l->arena, "--defsym=%s_%s=%s", l->job->name, exports[i].suffix,
                                  exports[i].symbol)));
    tn_buf_printf(&script, " %s_%s;", l->job->name, exports[i].suffix);
  }
  tn_buf_puts(&script, " local: *; };\n");
  const char *path =
      script.failed ? NULL
                    : tn_tempdir_file(&l->temp, "exports.map", (tn_bytes){script.text, script.len}, l->diags);
  tn_buf_fini(&script);
  return path ? add(l, tn_arena_printf(&l->arena, "--version-script=%s", path)) : TN_UNAVAILABLE;
}

static tn_status link_image(linking *l, uint64_t id) {
  static const char *const fixed[] = {"--gc-sections", "--build-id=none", "--hash-style=gnu", "--strip-debug",
                                      "-znow",         "-zrelro",         "-znoexecstack",    "-zdefs"};
  const char *runtime = l->job->runtime ? l->job->runtime : tn_link_runtime_path(&l->arena);
  if (!runtime || !tn_path_exists(runtime))
    return tn_fail(l->diags, TN_NOT_FOUND, runtime ? runtime : "lib/tenon/tenon-runtime.o", NULL,
                   "the runtime that goes into every artefact is not there; is the installation whole?");
  for (size_t i = 0; i < TN_COUNT(fixed); i++) TN_TRY(add(l, fixed[i]));
  TN_TRY(add(l, tn_arena_printf(&l->arena, "-soname=%s", base_name(l->job->output))));
  TN_TRY(add_exports(l));
  TN_TRY(add_kernels(l, id));
  TN_TRY(add(l, runtime));
  l->image = tn_tempdir_file(&l->temp, "image.so", (tn_bytes){0}, l->diags);
  if (!l->image) return TN_OOM;
  return tn_linker_run(l->job->linker, &(tn_link_args){l->args.items, l->args.count}, l->image, &l->temp,
                       l->diags);
}

/* ---- what lies behind it ------------------------------------------------------------------------------- */

/* The packed weights on their way into a file. */
typedef struct section {
  tn_outfile *file;
  uint64_t begin, bytes;
} section;

static tn_status section_write(void *ctx, uint64_t at, const void *data, uint64_t len) {
  static const char zeros[4096];
  section *s = ctx;
  uint64_t end;
  if (!tn_add_u64(at, len, &end) || end > s->bytes) return TN_INTERNAL;
  if (tn_outfile_seekable(s->file)) return tn_outfile_put(s->file, s->begin + at, data, len);
  if (s->begin + at < s->file->size) return TN_INTERNAL;
  while (s->file->size < s->begin + at) {
    uint64_t gap = s->begin + at - s->file->size;
    TN_TRY(tn_outfile_write(s->file, zeros, gap < sizeof zeros ? gap : sizeof zeros));
  }
  return tn_outfile_write(s->file, data, len);
}

static tn_status map_file(linking *l, const char *path, tn_file *f) {
  const char *why;
  tn_status status = tn_file_map(f, path, &why);
  return status ? tn_fail(l->diags, status, path, NULL, "%s", why) : TN_OK;
}

static tn_status pad(tn_outfile *o) {
  static const char zeros[TN_TRAILER_PAGE];
  return tn_outfile_write(o, zeros, tn_align_up(o->size, TN_TRAILER_PAGE) - o->size);
}

static uint64_t weights_needed(const tn_view *v) {
  uint64_t end = 0;
  for (uint32_t i = 0; i < v->nweights; i++)
    if (v->weights[i].file == TN_PROG_NONE && v->weights[i].offset + v->weights[i].bytes > end)
      end = v->weights[i].offset + v->weights[i].bytes;
  return end;
}

static tn_status write_weights(linking *l, tn_outfile *o, tn_trailer *t) {
  section s = {o, o->size, l->job->weights_bytes};
  tn_link_place place = {&s, section_write, !tn_outfile_seekable(o)};
  uint64_t needed = weights_needed(&l->view);
  if (s.bytes < needed)
    return tn_fail(l->diags, TN_INTERNAL, o->path, NULL,
                   "%llu bytes of packed weights, the program reads %llu", (unsigned long long)s.bytes,
                   (unsigned long long)needed);
  uint32_t before = l->diags->errors;
  tn_status status = s.bytes && !place.in_order ? tn_outfile_extend(o, s.bytes) : TN_OK;
  if (!status && s.bytes) status = l->job->weights_write(l->job->ctx, &place, &t->weights_hash);
  if (!status && s.bytes && place.in_order) status = section_write(&s, s.bytes, "", 0);
  if (status && l->diags->errors == before)
    tn_fail(l->diags, status, o->path, NULL, "the %llu bytes of weights cannot be written; is the disk full?",
            (unsigned long long)s.bytes);
  t->weights_bytes = s.bytes;
  done(l, "weights");
  return status;
}

static tn_status write_trailer(tn_outfile *o, tn_trailer *t, uint32_t kind) {
  memcpy(t->magic, TN_TRAILER_MAGIC, sizeof t->magic);
  t->kind = kind;
  t->hash = tn_hash_bytes(t, offsetof(tn_trailer, hash), 0);
  return tn_outfile_write(o, t, sizeof *t);
}

/* `bytes` it will have. */
static tn_status open_output(linking *l, tn_outfile *o, const char *path, uint64_t bytes) {
  const char *why = "";
  tn_status status = tn_outfile_open(o, path, &why);
  if (status) return tn_fail(l->diags, status, path, NULL, "cannot write: %s", why);
  status = tn_outfile_reserve(o, bytes);
  if (!status) return TN_OK;
  tn_outfile_abort(o);
  return tn_fail(l->diags, status, path, NULL, "there is no room for its %llu bytes",
                 (unsigned long long)bytes);
}

static tn_status close_output(linking *l, tn_outfile *o, const char *path, uint32_t mode, tn_status status) {
  if (!status && (status = tn_outfile_commit(o, mode)))
    tn_fail(l->diags, status, path, NULL, "cannot be put in place");
  tn_outfile_abort(o);
  return status;
}

/* libfoo.weights beside libfoo.so. */
static tn_status write_external(linking *l, tn_trailer *t) {
  const char *path = l->job->output, *base = base_name(path);
  uint64_t stem = strlen(path) - (tn_str_ends(tn_str_of(path), ".so") ? 3 : 0);
  char *file = tn_arena_printf(&l->arena, "%.*s.weights", (int)stem, path);
  if (!file) return no_memory(l);
  const char *name = file + (base - path);
  if (strlen(name) >= sizeof t->weights_file)
    return tn_fail(l->diags, TN_INVALID, file, NULL, "the name has %zu bytes, the limit is %zu", strlen(name),
                   sizeof t->weights_file - 1);
  tn_outfile o;
  tn_trailer own = {.program_hash = t->program_hash};
  TN_TRY(open_output(l, &o, file, l->job->weights_bytes + sizeof own));
  tn_status status = write_weights(l, &o, &own);
  t->weights_bytes = own.weights_bytes;
  t->weights_hash = own.weights_hash;
  memcpy(t->weights_file, name, strlen(name) + 1);
  if (!status && (status = write_trailer(&o, &own, TN_TRAILER_WEIGHTS)))
    tn_fail(l->diags, status, file, NULL, "cannot write");
  return close_output(l, &o, file, 0644, status);
}

static uint64_t library_bytes(const linking *l, uint64_t image, const tn_trailer *t) {
  uint64_t program = tn_align_up(image, TN_TRAILER_PAGE) + l->job->program.len;
  bool embedded = !t->weights_file[0];
  return (embedded ? tn_align_up(program, TN_TRAILER_PAGE) + l->job->weights_bytes : program) + sizeof *t;
}

static tn_status write_library(linking *l, tn_outfile *o, const tn_file *image, tn_trailer *t) {
  TN_TRY(tn_outfile_write(o, image->data, image->size));
  TN_TRY(pad(o));
  t->program_offset = o->size;
  t->program_bytes = l->job->program.len;
  TN_TRY(tn_outfile_write(o, l->job->program.ptr, l->job->program.len));
  if (!t->weights_file[0]) {
    TN_TRY(pad(o));
    t->weights_offset = o->size;
    TN_TRY(write_weights(l, o, t));
  }
  return write_trailer(o, t, TN_TRAILER_LIBRARY);
}

static tn_status link_job(linking *l) {
  const tn_link_job *j = l->job;
  char why[300] = "";
  tn_status status = tn_view_open(j->program, &l->view, why, sizeof why);
  if (status) return tn_fail(l->diags, status, j->output, NULL, "%s", why);
  if (!j->ntargets) return tn_fail(l->diags, TN_INVALID, j->output, NULL, "no target to link code for");
  tn_trailer t = {.program_hash = tn_hash_bytes(j->program.ptr, j->program.len, 0)};
  TN_TRY(tn_tempdir_open(&l->temp, l->diags));
  TN_TRY(link_image(l, t.program_hash));
  done(l, "link");
  if (j->weights == TN_WEIGHTS_EXTERNAL) TN_TRY(write_external(l, &t));
  tn_outfile o;
  tn_file image;
  TN_TRY(map_file(l, l->image, &image));
  uint32_t before = l->diags->errors;
  status = open_output(l, &o, j->output, library_bytes(l, image.size, &t));
  if (!status) status = write_library(l, &o, &image, &t);
  tn_file_unmap(&image);
  if (status && l->diags->errors == before)
    tn_fail(l->diags, status, j->output, NULL, "cannot write all of it; is the disk full?");
  status = close_output(l, &o, j->output, 0755, status);
  done(l, "finish");
  return status;
}

tn_status tn_link_artefact(const tn_link_job *j, tn_diags *diags) {
  linking l = {.job = j, .diags = diags};
  tn_arena_init(&l.arena);
  tn_status status = link_job(&l);
  tn_tempdir_close(&l.temp);
  tn_vec_fini(&l.args);
  tn_arena_fini(&l.arena);
  return status;
}
