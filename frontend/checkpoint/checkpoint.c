/* checkpoint.c - opens folders and GGUF files as named tensors. The model's page is run once, so that roles
 * and the names of the other format are known; a model without a page opens as well. */
#include "frontend/checkpoint/ck.h"
#include "frontend/import.h"
#include <stdlib.h>

static tn_status oom(tn_checkpoint *ck, tn_diags *diags) {
  return tn_fail(diags, TN_OOM, ck->path, NULL, "out of memory");
}

/* ---- files ---- */

const ck_file *ck_file_named(const tn_checkpoint *ck, const char *name) {
  for (uint32_t i = 0; i < ck->files.count; i++)
    if (ck->files.items[i].name == name || !strcmp(ck->files.items[i].name, name)) return &ck->files.items[i];
  return NULL;
}

static tn_status need_file(tn_checkpoint *ck, const char *name, tn_diags *diags) {
  ck_file f = {.name = name};
  const char *why = "";
  if (ck_file_named(ck, name)) return TN_OK;
  if (ck->has_hf) {
    TN_TRY(tn_folder_map(ck->folder, name, diags, &f.map));
  } else {
    char *path = tn_path_join(&ck->arena, ck->folder, name);
    tn_status s = path ? tn_file_map(&f.map, path, &why) : TN_OOM;
    if (s != TN_OK) return tn_fail(diags, s, name, NULL, "cannot read: %s", why);
  }
  if (tn_vec_push(&ck->files, f)) return TN_OK;
  tn_file_unmap(&f.map);
  return oom(ck, diags);
}

static tn_status need_files(tn_checkpoint *ck, tn_diags *diags) {
  for (uint32_t i = 0; i < ck->tensors.count; i++) {
    const tn_ck_tensor *t = &ck->tensors.items[i].pub;
    for (uint32_t k = 0; k < t->nparts; k++) TN_TRY(need_file(ck, t->parts[k].file, diags));
  }
  return TN_OK;
}

/* ---- tensors ---- */

tn_status ck_add(tn_checkpoint *ck, const ck_tensor *t) {
  bool twice = false;
  if (!t->pub.name || !tn_vec_push(&ck->tensors, *t) ||
      tn_map_put(&ck->by_name, tn_str_of(t->pub.name), ck->tensors.count - 1, &twice) != TN_OK)
    return oom(ck, ck->diags);
  if (!t->hidden) ck->shown = ck->tensors.count;
  return TN_OK;
}

/* A tensor whose bytes lie in one place. */
static tn_status add_plain(tn_checkpoint *ck, const char *name, tn_dtype dtype, uint32_t rank,
                           const int64_t *shape, tn_part where) {
  tn_part *part = tn_arena_copy(&ck->arena, &where, sizeof where);
  ck_tensor t = {.pub = {.name = name,
                         .source = name,
                         .dtype = dtype,
                         .rank = rank,
                         .bytes = where.bytes,
                         .layer = ck_layer_of(name),
                         .parts = part,
                         .nparts = 1},
                 .scale = CK_NONE,
                 .order = CK_NONE};
  if (!part) return oom(ck, ck->diags);
  if (rank) memcpy(t.pub.shape, shape, rank * sizeof *shape);
  return ck_add(ck, &t);
}

static tn_status add_packed(tn_checkpoint *ck, const packed_entry *e) {
  ck_tensor t = {.pub = {.name = e->name,
                         .source = e->name,
                         .dtype = e->ref.dtype,
                         .rank = e->ref.rank,
                         .layer = ck_layer_of(e->name),
                         .parts = e->ref.parts,
                         .nparts = e->ref.nparts,
                         .form = e->ref.form},
                 .scale = CK_NONE,
                 .order = CK_NONE,
                 .hidden = e->of != 0};
  uint64_t n = 1;
  memcpy(t.pub.shape, e->shape, e->ref.rank * sizeof *e->shape);
  for (uint32_t i = 0; i < e->ref.rank; i++)
    if (e->shape[i] < 0 || !tn_mul_u64(n, (uint64_t)e->shape[i], &n))
      return tn_fail(ck->diags, TN_INVALID, ck->path, e->name, "is too large");
  t.pub.bytes = ck_bytes_of(t.pub.dtype, n);
  if (!t.pub.form) t.pub.bytes = e->ref.bytes;
  return ck_add(ck, &t);
}

/* Scales and orders come last, and their matrices know them. */
static tn_status add_all_packed(tn_checkpoint *ck, const struct tn_hf_packed *p) {
  for (uint32_t hidden = 0; hidden < 2; hidden++)
    for (uint32_t i = 0; i < p->entries.count; i++)
      if ((p->entries.items[i]->of != 0) == (hidden != 0)) TN_TRY(add_packed(ck, p->entries.items[i]));
  for (uint32_t i = 0; i < p->entries.count; i++) {
    const packed_entry *e = p->entries.items[i];
    uint64_t of, self;
    if (!e->of || !tn_map_get(&ck->by_name, tn_str_of(p->entries.items[e->of - 1]->name), &of) ||
        !tn_map_get(&ck->by_name, tn_str_of(e->name), &self))
      continue;
    ck_tensor *t = &ck->tensors.items[of];
    *(tn_str_ends(tn_str_of(e->name), "@scale") ? &t->scale : &t->order) = (uint32_t)self;
  }
  return TN_OK;
}

static tn_status list_folder(tn_checkpoint *ck) {
  tn_hf *h = &ck->hf;
  bool *taken = tn_arena_alloc(&ck->arena, h->files.tensors.count + 1);
  if (!taken) return oom(ck, ck->diags);
  for (uint32_t i = 0; h->packed && i < h->packed->entries.count; i++)
    for (uint32_t k = 0; k < h->packed->entries.items[i]->nused; k++)
      taken[h->packed->entries.items[i]->used[k]] = true;
  for (uint32_t i = 0; i < h->files.tensors.count; i++) {
    const tn_st_tensor *t = &h->files.tensors.items[i];
    if (!taken[i])
      TN_TRY(add_plain(ck, t->name, t->dtype, t->rank, t->shape, (tn_part){t->file, t->offset, t->bytes}));
  }
  return h->packed ? add_all_packed(ck, h->packed) : TN_OK;
}

static tn_status list_gguf(tn_checkpoint *ck) {
  const tn_gguf *g = ck->gguf.file;
  for (uint32_t i = 0; i < tn_gguf_tensor_count(g); i++) {
    const tn_gguf_tensor *t = tn_gguf_tensor_at(g, i);
    TN_TRY(add_plain(ck, t->name, t->dtype, t->rank, t->shape, (tn_part){t->file, t->offset, t->bytes}));
  }
  return TN_OK;
}

/* ---- what the page says ---- */

/* Files of Mixtral say llama. */
static const tn_page *find_gguf_page(const tn_checkpoint *ck) {
  const tn_json *n = tn_json_peek(ck->gguf.config, "expert_count");
  if (n && n->kind == TN_JSON_INT && n->u.i > 0 && !strcmp(ck->gguf.type, "llama"))
    return tn_pages_find(ck->pages, "mixtral");
  return tn_pages_find_gguf(ck->pages, ck->gguf.type);
}

static tn_status find_page(tn_checkpoint *ck, const tn_ck_open *o) {
  static const tn_ck_open none = {0};
  if (!o) o = &none;
  TN_TRY(tn_import_pages_named(o->page_folders, o->pages, ck->diags, &ck->pages));
  ck->architecture = ck->has_hf ? ck->hf.architecture : ck->gguf.type;
  ck->page = ck->has_hf ? tn_pages_find(ck->pages, ck->hf.architecture) : find_gguf_page(ck);
  if (!ck->page) return TN_OK;
  tn_page_info info = tn_page_info_of(ck->page);
  if (!ck->has_hf && info.narchitectures) ck->architecture = info.architectures[0];
  tn_page_facts_init(&ck->facts);
  ck->known = ck_run_page(ck, &ck->facts, &ck->first) == TN_OK;
  return TN_OK;
}

static void set_roles(tn_checkpoint *ck) {
  for (uint32_t i = 0; i < ck->tensors.count; i++) {
    tn_ck_tensor *t = &ck->tensors.items[i].pub;
    const char *gguf = ck->has_gguf ? t->name : NULL;
    uint64_t k;
    if (ck->has_hf && ck->known && tn_map_get(&ck->facts.by_name, tn_str_of(t->name), &k))
      gguf = ck->facts.tensors.items[k].other;
    t->role = ck_role_of(gguf, ck->has_hf ? t->name : NULL, t->rank);
    if (t->layer >= (int32_t)ck->layers) ck->layers = (uint32_t)t->layer + 1;
  }
}

static void set_experts(tn_checkpoint *ck) {
  static const char *const keys[] = {"num_experts", "expert_count"};
  const tn_json *config = ck->has_hf ? ck->hf.config : ck->gguf.config;
  for (size_t i = 0; i < TN_COUNT(keys); i++) {
    const tn_json *n = tn_json_peek(config, keys[i]);
    if (n && n->kind == TN_JSON_INT && n->u.i > 0 && n->u.i < 65536) ck->experts = (uint32_t)n->u.i;
  }
}

/* ---- opening ---- */

static tn_status open_folder(tn_checkpoint *ck) {
  tn_hf *h = &ck->hf;
  *h = (tn_hf){.folder = ck->path};
  tn_arena_init(&h->arena);
  tn_diags_init(&h->diags);
  tn_st_init(&h->files);
  ck->has_hf = true;
  ck->format = TN_CK_FOLDER;
  ck->folder = ck->path;
  tn_status s = tn_hf_read_config(h);
  if (s == TN_OK) s = tn_hf_open_tensors(h);
  if (s == TN_OK && h->diags.errors) s = TN_INVALID;
  ck_forward(&h->diags, ck->diags);
  return s == TN_OK ? list_folder(ck) : s;
}

static tn_status open_gguf(tn_checkpoint *ck) {
  tn_gguf_import *g = &ck->gguf;
  const char *slash = strrchr(ck->path, '/');
  *g = (tn_gguf_import){.path = ck->path, .name = slash ? slash + 1 : ck->path};
  tn_arena_init(&g->arena);
  tn_diags_init(&g->diags);
  ck->has_gguf = true;
  ck->format = TN_CK_GGUF;
  ck->folder = slash ? tn_arena_str(&ck->arena, (tn_str){ck->path, (uint64_t)(slash - ck->path + 1)}) : "";
  tn_status s = tn_gguf_open(ck->path, &g->diags, &g->file);
  if (s == TN_OK && !(g->tensor_used = tn_arena_alloc(&g->arena, tn_gguf_tensor_count(g->file) + 1)))
    s = TN_OOM;
  if (s == TN_OK) s = tn_gguf_read_config(g);
  ck_forward(&g->diags, ck->diags);
  if (s == TN_OOM || !ck->folder) return oom(ck, ck->diags);
  return s == TN_OK ? list_gguf(ck) : s;
}

static tn_status open_any(tn_checkpoint *ck, const tn_ck_open *o) {
  tn_str path = tn_str_of(ck->path);
  if (tn_path_is_dir(ck->path))
    TN_TRY(open_folder(ck));
  else if (tn_str_ends(path, ".onnx") || tn_str_ends(path, ".tir"))
    return tn_fail(ck->diags, TN_UNSUPPORTED, ck->path, NULL,
                   "is a graph, whose weights have lost the names of their model: give the folder or GGUF "
                   "file that it was made of");
  else
    TN_TRY(open_gguf(ck));
  TN_TRY(need_files(ck, ck->diags));
  TN_TRY(find_page(ck, o));
  set_roles(ck);
  set_experts(ck);
  return TN_OK;
}

tn_status tn_checkpoint_open(const char *path, const tn_ck_open *o, tn_diags *diags, tn_checkpoint **out) {
  tn_checkpoint *ck = tn_mem_alloc(sizeof *ck);
  *out = NULL;
  if (!ck) return tn_fail(diags, TN_OOM, path, NULL, "out of memory");
  tn_arena_init(&ck->arena);
  tn_diags_init(&ck->first);
  tn_map_init(&ck->by_name);
  ck->diags = diags;
  ck->path = tn_arena_str(&ck->arena, tn_str_of(path));
  tn_status s = ck->path ? open_any(ck, o) : oom(ck, diags);
  if (s != TN_OK) {
    tn_checkpoint_close(ck);
    return s;
  }
  *out = ck;
  return TN_OK;
}

static void close_stored(tn_checkpoint *ck) {
  if (ck->page) tn_page_facts_fini(&ck->facts);
  if (ck->pages) tn_pages_close(ck->pages);
  if (ck->has_hf) {
    tn_hf_close_packed(&ck->hf);
    tn_st_fini(&ck->hf.files);
    tn_diags_fini(&ck->hf.diags);
    tn_arena_fini(&ck->hf.arena);
  }
  if (ck->has_gguf) {
    tn_gguf_close(ck->gguf.file);
    tn_diags_fini(&ck->gguf.diags);
    tn_arena_fini(&ck->gguf.arena);
  }
}

void tn_checkpoint_close(tn_checkpoint *ck) {
  if (!ck) return;
  if (!ck->behind) close_stored(ck);
  for (uint32_t i = 0; i < ck->files.count; i++) tn_file_unmap(&ck->files.items[i].map);
  tn_vec_fini(&ck->files);
  tn_vec_fini(&ck->tensors);
  tn_map_fini(&ck->by_name);
  tn_diags_fini(&ck->first);
  tn_arena_fini(&ck->arena);
  tn_mem_free(ck);
}

/* ---- questions ---- */

tn_ck_format tn_checkpoint_format(const tn_checkpoint *ck) { return ck->format; }
const char *tn_checkpoint_architecture(const tn_checkpoint *ck) { return ck->architecture; }
uint32_t tn_checkpoint_count(const tn_checkpoint *ck) { return ck->shown; }
const tn_ck_tensor *tn_checkpoint_at(const tn_checkpoint *ck, uint32_t i) {
  return &ck->tensors.items[i].pub;
}
uint32_t tn_checkpoint_layers(const tn_checkpoint *ck) { return ck->layers; }
uint32_t tn_checkpoint_experts(const tn_checkpoint *ck) { return ck->experts; }
const char *tn_checkpoint_path(const tn_checkpoint *ck) { return ck->path; }

uint32_t tn_checkpoint_index(const tn_checkpoint *ck, const char *name) {
  uint64_t i;
  return tn_map_get(&ck->by_name, tn_str_of(name), &i) && i < ck->shown ? (uint32_t)i : UINT32_MAX;
}

const tn_ck_tensor *tn_checkpoint_find(const tn_checkpoint *ck, const char *name) {
  uint32_t i = tn_checkpoint_index(ck, name);
  return i == UINT32_MAX ? NULL : tn_checkpoint_at(ck, i);
}

const tn_json *tn_checkpoint_config(const tn_checkpoint *ck) {
  return ck->behind ? ck->config : ck->has_hf ? ck->hf.config : NULL;
}

const tn_gguf *tn_checkpoint_gguf(const tn_checkpoint *ck) {
  return !ck->behind && ck->has_gguf ? ck->gguf.file : NULL;
}
