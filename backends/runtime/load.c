/* load.c - opening a model: the program is checked, weights are mapped where they lie, the kernels for this
 * processor are chosen. An artefact finds its data in its own file, behind the ELF image (trailer.h). */
#include "backends/runtime/cpu.h"
#include "backends/runtime/rt.h"
#include "backends/runtime/trailer.h"
#include <dlfcn.h>
#include <stdio.h>

/* Defined by the link step in an artefact, absent elsewhere. */
extern const tn_kernel_table tn_kernel_tables[] __attribute__((weak, visibility("hidden")));
extern const tn_device_package tn_device_packages[] __attribute__((weak, visibility("hidden")));
extern const uint64_t tn_artefact_id __attribute__((weak, visibility("hidden"))); /* hash of the program */

typedef struct tn_words {
  char *text;
  uint64_t size;
} tn_words; /* where the words of an error go */
#define FAIL(w, status, ...) tn_view_fail((w)->text, (w)->size, status, __VA_ARGS__)

/* ---- weights ------------------------------------------------------------------------------------------- */

static tn_status weight_file(tn_model *m, const char *path, const tn_words *w, const tn_file **out) {
  for (uint32_t i = 0; i < m->files.count; i++)
    if (!strcmp(m->files.items[i].path, path)) return *out = &m->files.items[i].map, TN_OK;
  if (!tn_vec_reserve(&m->files, m->files.count + 1)) return FAIL(w, TN_OOM, "no memory");
  tn_rt_file *f = &m->files.items[m->files.count];
  const char *why;
  tn_status status = tn_file_map(&f->map, path, &why);
  if (status) return FAIL(w, status, "%s: %s", path, why);
  f->path = path;
  m->files.count++;
  *out = &f->map;
  return TN_OK;
}

static tn_status map_weight(tn_model *m, uint32_t i, tn_bytes packed, const char *folder, const tn_words *w) {
  const tn_prog_weight *row = &m->view.weights[i];
  const char *name = tn_view_str(&m->view, row->name), *path = "the packed weights";
  tn_bytes from = packed;
  if (row->file != TN_PROG_NONE) {
    const char *file = tn_view_str(&m->view, row->file);
    path = folder ? tn_path_join(&m->arena, folder, file) : file;
    if (!path) return FAIL(w, TN_OOM, "no memory");
    const tn_file *f = NULL;
    TN_TRY(weight_file(m, path, w, &f));
    from = (tn_bytes){f->data, f->size};
  }
  uint64_t end;
  if (!tn_add_u64(row->offset, row->bytes, &end) || end > from.len)
    return FAIL(w, TN_DATA_LOSS, "weight '%s': %llu bytes at %llu do not fit into the %llu bytes of %s", name,
                (unsigned long long)row->bytes, (unsigned long long)row->offset, (unsigned long long)from.len,
                path);
  if (row->file == TN_PROG_NONE && row->offset % 64)
    return FAIL(w, TN_DATA_LOSS, "weight '%s' lies at %llu, not a multiple of 64", name,
                (unsigned long long)row->offset);
  m->weights[i] = (const char *)from.ptr + row->offset;
  return TN_OK;
}

/* ---- tables -------------------------------------------------------------------------------------------- */

static void measure_variant(const tn_view *v, const tn_prog_variant *var, tn_rt_sizes *z) {
  uint64_t operands = 0, scalars = 0;
  for (uint32_t k = 0; k < var->nsteps; k++) {
    operands += v->steps[var->first_step + k].noperands;
    scalars += v->steps[var->first_step + k].nscalars;
  }
  if (var->nsteps > z->steps) z->steps = var->nsteps;
  if (var->nslots > z->slots) z->slots = var->nslots;
  if (operands > z->operands) z->operands = operands;
  if (scalars > z->scalars) z->scalars = scalars;
}

void tn_rt_measure(const tn_view *v, const tn_prog_entry *e, tn_rt_sizes *z) {
  if (e->ninputs > z->inputs) z->inputs = e->ninputs;
  if (e->noutputs > z->outputs) z->outputs = e->noutputs;
  for (uint32_t k = 0; k < e->nvariants; k++) measure_variant(v, &v->variants[e->first_variant + k], z);
}

static bool describe(tn_model *m) {
  const tn_view *v = &m->view;
  m->limits = tn_arena_alloc(&m->arena, v->ndims * sizeof *m->limits);
  m->shapes = tn_arena_alloc(&m->arena, v->nargs * sizeof *m->shapes);
  m->stateful = tn_arena_alloc(&m->arena, v->nentries * sizeof *m->stateful);
  m->dynamic = tn_arena_alloc(&m->arena, v->nentries * sizeof *m->dynamic);
  if (m->arena.failed) return false;
  for (uint32_t i = 0; i < v->ndims; i++) m->limits[i] = tn_view_limit(v, i);
  tn_view_find_stateful(v, m->stateful);
  for (uint32_t i = 0; i < v->nentries; i++) m->dynamic[i] = tn_view_is_dynamic(v, &v->entries[i]);
  for (uint32_t i = 0; i < v->head->npublic; i++) m->nstateful += m->stateful[i];
  if (!tn_rt_scopes(m)) return false;
  tn_buf text = {0};
  for (uint32_t i = 0; i < v->nargs; i++) {
    text.len = 0;
    tn_view_shape_text(v, v->args[i].rank, v->args[i].shape, &text);
    m->shapes[i] = tn_arena_str(&m->arena, tn_str_of(tn_buf_cstr(&text)));
  }
  bool ok = !text.failed && !m->arena.failed;
  tn_buf_fini(&text);
  return ok;
}

tn_status tn_rt_model_prepare(tn_model *m, const void *weights, uint64_t weights_bytes, const char *folder,
                              char *error, uint64_t error_size) {
  tn_words w = {error, error_size};
  const tn_prog_span blob = m->view.head->tokenizer;
  const char *least = tn_view_meta(&m->view, "least_size");
  m->least = !least || strcmp(least, "0") != 0;
  for (uint32_t i = 0; i < m->view.head->npublic; i++)
    tn_rt_measure(&m->view, &m->view.entries[i], &m->sizes);
  m->weights = tn_arena_alloc(&m->arena, m->view.nweights * sizeof *m->weights);
  if (!m->weights || !describe(m)) return FAIL(&w, TN_OOM, "no memory");
  TN_TRY(tn_rt_device_setup(m, error, error_size));
  for (uint32_t i = 0; i < m->view.nweights; i++)
    TN_TRY(map_weight(m, i, (tn_bytes){weights, weights_bytes}, folder, &w));
  if (!blob.count) return TN_OK;
  const char *why = "no memory";
  tn_status status = tn_tokenizer_open((tn_bytes){(const char *)m->view.head + blob.offset, blob.count},
                                       &m->tokenizer, &why);
  return status ? FAIL(&w, status, "tokenizer: %s", why) : TN_OK;
}

static tn_model *model_new(void) {
  tn_model *m = tn_mem_alloc(sizeof *m);
  if (!m) return NULL;
  tn_arena_init(&m->arena);
  m->library.fd = m->packed.fd = -1;
  return m;
}

void tn_rt_model_close(tn_model *m) {
  if (!m) return;
  tn_rt_devices_close(m);
  tn_tokenizer_close(m->tokenizer);
  for (uint32_t i = 0; i < m->files.count; i++) tn_file_unmap(&m->files.items[i].map);
  tn_vec_fini(&m->files);
  if (m->packed.data) tn_file_unmap(&m->packed);
  if (m->library.data) tn_file_unmap(&m->library);
  tn_arena_fini(&m->arena);
  tn_mem_free(m);
}

/* ---- from memory --------------------------------------------------------------------------------------- */

static tn_status open_source(tn_model *m, const tn_rt_source *s, const tn_words *w) {
  TN_TRY(tn_view_open(s->program, &m->view, w->text, w->size));
  m->keep_values = s->keep_values;
  m->kernels = tn_arena_copy(&m->arena, s->kernels, m->view.nkernels * sizeof *m->kernels);
  if (!m->kernels) return FAIL(w, TN_OOM, "no memory");
  if (s->device) tn_take(&m->device, sizeof m->device, s->device);
  m->images = s->images;
  m->nimages = s->nimages;
  for (uint32_t i = 0; i < m->view.nkernels; i++)
    if (!m->kernels[i].fn && !tn_view_is_far(&m->view, i))
      return FAIL(w, TN_NOT_FOUND, "kernel '%s' is missing",
                  tn_view_str(&m->view, m->view.kernels[i].symbol));
  return tn_rt_model_prepare(m, s->weights, s->weights_bytes, s->folder, w->text, w->size);
}

tn_status tn_rt_open(const tn_rt_source *s, tn_model **out, char *error, uint64_t error_size) {
  tn_words w = {error, error_size};
  tn_model *m = model_new();
  if (!m) return FAIL(&w, TN_OOM, "no memory");
  tn_status status = open_source(m, s, &w);
  if (status)
    tn_rt_model_close(m);
  else
    *out = m;
  return status;
}

/* ---- from an artefact ---------------------------------------------------------------------------------- */

static tn_status choose_kernels(tn_model *m, const tn_words *w) {
  const tn_kernel_table *best = NULL;
  tn_str missing = {0};
  const char *target = "";
  for (const tn_kernel_table *t = tn_kernel_tables; t->target; t++) {
    tn_str lacks;
    if (!tn_cpu_has(t->features, &lacks)) {
      if (!missing.ptr) missing = lacks, target = t->target;
    } else if (!best || t->score > best->score) {
      best = t;
    }
  }
  if (!best)
    return FAIL(w, TN_UNSUPPORTED, "this processor has no '%.*s', which the code for '%s' needs",
                (int)missing.len, missing.ptr, target);
  if (best->count != m->view.nkernels)
    return FAIL(w, TN_DATA_LOSS, "%u kernels for '%s', the program names %u", best->count, best->target,
                m->view.nkernels);
  m->kernels = tn_arena_alloc(&m->arena, best->count * sizeof *m->kernels);
  if (!m->kernels) return FAIL(w, TN_OOM, "no memory");
  for (uint32_t i = 0; i < best->count; i++) {
    m->kernels[i].fn = best->kernels[i];
    if (!best->kernels[i] && !tn_view_is_far(&m->view, i))
      return FAIL(w, TN_DATA_LOSS, "kernel '%s' for '%s' is missing",
                  tn_view_str(&m->view, m->view.kernels[i].symbol), best->target);
  }
  return TN_OK;
}

/* The file that this code was loaded from. The system's list gives the absolute path, also when the library
 * was opened by a relative one and the folder has changed since. */
static char *own_path(tn_arena *a) {
  uintptr_t here = (uintptr_t)own_path; /* not tn_model_query: another artefact's may stand before ours */
  char line[4400], *path = NULL;
  FILE *maps = fopen("/proc/self/maps", "re");
  while (maps && !path && fgets(line, sizeof line, maps)) {
    unsigned long from, to;
    const char *slash = strchr(line, '/');
    if (!slash || sscanf(line, "%lx-%lx", &from, &to) != 2 || here < from || here >= to) continue;
    path = tn_arena_str(a, (tn_str){slash, strcspn(slash, "\n")});
  }
  if (maps) fclose(maps);
  Dl_info info;
  if (!path && dladdr((const void *)here, &info) && info.dli_fname)
    path = tn_arena_str(a, tn_str_of(info.dli_fname));
  return path;
}

static bool inside(uint64_t offset, uint64_t bytes, uint64_t size) {
  uint64_t end;
  return tn_add_u64(offset, bytes, &end) && end <= size;
}

/* NULL unless the file ends in a sound trailer. */
static const tn_trailer *trailer_of(const tn_file *f, tn_trailer *copy) {
  if (f->size < sizeof *copy) return NULL;
  uint64_t room = f->size - sizeof *copy;
  memcpy(copy, f->data + room, sizeof *copy);
  if (memcmp(copy->magic, TN_TRAILER_MAGIC, sizeof copy->magic)) return NULL;
  if (copy->hash != tn_hash_bytes(copy, offsetof(tn_trailer, hash), 0) ||
      memchr(copy->weights_file, 0, sizeof copy->weights_file) == NULL)
    return NULL;
  if (!inside(copy->program_offset, copy->program_bytes, room) || copy->program_offset % TN_TRAILER_PAGE)
    return NULL;
  if (!copy->weights_file[0] &&
      (!inside(copy->weights_offset, copy->weights_bytes, room) || copy->weights_offset % TN_TRAILER_PAGE))
    return NULL;
  return copy;
}

static tn_status map_library(tn_model *m, const char *path, tn_trailer *t, const tn_words *w) {
  const char *why;
  tn_status status = tn_file_map(&m->library, path, &why);
  if (status) return FAIL(w, status, "%s: %s", path, why);
  if (!trailer_of(&m->library, t) || t->kind != TN_TRAILER_LIBRARY)
    return FAIL(w, TN_DATA_LOSS, "%s: no model behind the code; was the library stripped or cut short?",
                path);
  if (t->program_hash != tn_artefact_id)
    return FAIL(w, TN_PRECONDITION,
                "%s: holds another model than the code that is loaded; was the file replaced?", path);
  tn_bytes program = {m->library.data + t->program_offset, t->program_bytes};
  if (tn_hash_bytes(program.ptr, program.len, 0) != t->program_hash)
    return FAIL(w, TN_DATA_LOSS, "%s: the step program is damaged", path);
  status = tn_view_open(program, &m->view, w->text, w->size);
  return status;
}

static tn_status map_packed(tn_model *m, const char *path, const tn_trailer *library, const tn_words *w) {
  const char *why;
  tn_trailer t;
  tn_status status = tn_file_map(&m->packed, path, &why);
  if (status) return FAIL(w, status, "%s: %s", path, why);
  if (!trailer_of(&m->packed, &t) || t.kind != TN_TRAILER_WEIGHTS)
    return FAIL(w, TN_DATA_LOSS, "%s: not a weight file, or cut short", path);
  if (t.program_hash != library->program_hash || t.weights_hash != library->weights_hash ||
      t.weights_bytes != library->weights_bytes)
    return FAIL(w, TN_INVALID, "%s: these are the weights of another model", path);
  return TN_OK;
}

/* `path` may name the library, the weight file, or a folder that holds the weight file or the original
 * weights. */
typedef struct tn_places {
  char *library;
  const char *packed, *folder;
} tn_places;

static tn_status find_places(tn_model *m, const char *path, tn_places *p, const tn_words *w) {
  p->library = own_path(&m->arena);
  if (path && tn_path_is_dir(path)) {
    p->folder = path;
  } else if (path) {
    tn_file f;
    tn_trailer t;
    const char *why;
    tn_status status = tn_file_map(&f, path, &why);
    if (status) return FAIL(w, status, "%s: %s", path, why);
    bool sound = trailer_of(&f, &t);
    tn_file_unmap(&f);
    if (!sound) return FAIL(w, TN_INVALID, "%s: neither a model library nor a weight file", path);
    if (t.kind == TN_TRAILER_WEIGHTS)
      p->packed = path;
    else
      p->library = tn_arena_str(&m->arena, tn_str_of(path));
  }
  if (!p->library) return FAIL(w, TN_NOT_FOUND, "the library's own file is not known; give its path");
  return TN_OK;
}

static const char *beside(tn_arena *a, const char *file, const char *name) {
  const char *slash = strrchr(file, '/');
  return slash ? tn_arena_printf(a, "%.*s/%s", (int)(slash - file), file, name)
               : tn_arena_str(a, tn_str_of(name));
}

static tn_status open_artefact(tn_model *m, const char *path, const tn_words *w) {
  tn_places p = {0};
  tn_trailer t;
  if (!tn_kernel_tables || !&tn_artefact_id)
    return FAIL(w, TN_UNSUPPORTED, "this program holds no compiled model");
  TN_TRY(find_places(m, path, &p, w));
  TN_TRY(map_library(m, p.library, &t, w));
  TN_TRY(choose_kernels(m, w));
  if (tn_device_packages && tn_device_packages->api) {
    tn_take(&m->device, sizeof m->device, tn_device_packages->api);
    m->images = tn_device_packages->images;
    m->nimages = (uint32_t)tn_device_packages->nimages;
  }
  const uint8_t *weights = m->library.data + t.weights_offset;
  if (t.weights_file[0]) {
    if (!p.packed)
      p.packed = p.folder ? tn_path_join(&m->arena, p.folder, t.weights_file)
                          : beside(&m->arena, p.library, t.weights_file);
    if (!p.packed) return FAIL(w, TN_OOM, "no memory");
    TN_TRY(map_packed(m, p.packed, &t, w));
    weights = m->packed.data;
  }
  if (!p.folder) p.folder = tn_view_meta(&m->view, "weights.folder");
  return tn_rt_model_prepare(m, weights, t.weights_bytes, p.folder, w->text, w->size);
}

tn_status tn_rt_model_open(const char *path, tn_model **out, char *error, uint64_t error_size) {
  tn_words w = {error, error_size};
  if (!out) return FAIL(&w, TN_INVALID, "no place for the model");
  *out = NULL;
  tn_model *m = model_new();
  if (!m) return FAIL(&w, TN_OOM, "no memory");
  tn_status status = open_artefact(m, path, &w);
  if (status)
    tn_rt_model_close(m);
  else
    *out = m;
  return status;
}
