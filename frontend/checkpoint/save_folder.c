/* save_folder.c - a checkpoint as a folder: safetensors, config.json, tokenizer and what else lies beside. */
#include "frontend/checkpoint/ck.h"
#include "frontend/checkpoint/pack.h"
#include "frontend/safetensors/write.h"
#include "frontend/tokenizer/gguf_convert.h"
#include <errno.h>
#include <sys/stat.h>

/* What one written tensor is. */
typedef struct out_tensor {
  uint32_t tensor; /* of the checkpoint; CK_NONE: a packed folder's own tensor, copied */
  uint32_t part;   /* of a layout */
  const tn_st_tensor *raw;
  bool packed;
} out_tensor;

typedef struct folder_saving {
  ck_saving *v;
  const char *path;
  tn_st_writer w;
  TN_VEC(out_tensor) outs;
  TN_VEC(const char *) plain; /* products that stayed plain, for the layout's config */
  tn_dtype packed;            /* the type of packed matrices; 0: none */
  bool kept;                  /* packed tensors are copied as they are */
  uint8_t *blocks;            /* of tensor `open` */
  uint32_t open;
} folder_saving;

static tn_status oom(folder_saving *f) {
  return tn_fail(f->v->diags, TN_OOM, f->path, NULL, "out of memory");
}

/* ---- the list ---- */

static tn_status put(folder_saving *f, const char *name, tn_dtype t, uint32_t rank, const int64_t *shape,
                     out_tensor o) {
  tn_st_put_tensor(&f->w, name, t, rank, shape);
  return tn_vec_push(&f->outs, o) ? TN_OK : oom(f);
}

static tn_status refuse(folder_saving *f, uint32_t i, const char *why) {
  const tn_quant *q = tn_quant_of(ck_saved_type(f->v, i));
  tn_buf where = {0};
  tn_buf_printf(&where, "tensor '%s'", f->v->ck->tensors.items[i].pub.name);
  tn_fail(f->v->diags, TN_UNSUPPORTED, f->path, tn_buf_cstr(&where), "%s: %s", q ? q->name : "its type", why);
  tn_buf_fini(&where);
  return TN_UNSUPPORTED;
}

/* A matrix in the tensors of a layout. */
static tn_status put_packed(folder_saving *f, uint32_t i) {
  const tn_ck_tensor *t = &f->v->ck->tensors.items[i].pub;
  const tn_ck_pack *pack = f->v->s->pack;
  tn_ck_part_out parts[TN_CK_PACK_PARTS];
  tn_dtype to = ck_saved_type(f->v, i);
  tn_str name = tn_str_of(t->name);
  uint32_t n = pack && t->rank == 2 && tn_str_ends(name, "weight")
                   ? pack->parts(to, ck_rows_of(t), ck_columns_of(t), parts)
                   : 0;
  if (!pack) return refuse(f, i, "folders hold plain types, unless a layout for packed ones is chosen");
  if (!n) return refuse(f, i, "the layout has no place for it");
  if (f->packed && f->packed != to) return refuse(f, i, "the layout takes one type for all packed matrices");
  f->packed = to;
  for (uint32_t k = 0; k < n; k++) {
    const char *full =
        tn_arena_printf(&f->w.arena, "%.*s%s", (int)(name.len - strlen("weight")), t->name, parts[k].suffix);
    if (!full) return oom(f);
    TN_TRY(put(f, full, parts[k].dtype, parts[k].rank, parts[k].shape,
               (out_tensor){.tensor = i, .part = k, .packed = true}));
  }
  return TN_OK;
}

/* A packed folder's matrix whose type stays: its tensors are copied. */
static bool stays_packed(const folder_saving *f, uint32_t i) {
  const ck_tensor *t = &f->v->ck->tensors.items[i];
  return !f->v->ck->behind && !f->v->s->pack && f->v->ck->has_hf && ck_is_block(t->pub.dtype) &&
         ck_saved_type(f->v, i) == t->pub.dtype;
}

static tn_status put_raw(folder_saving *f) {
  tn_hf *h = &f->v->ck->hf;
  bool *entry = tn_arena_alloc(&f->w.arena, h->files.tensors.count + 1);
  if (!entry) return oom(f);
  for (uint32_t i = 0; i < h->packed->entries.count; i++)
    for (uint32_t k = 0; k < h->packed->entries.items[i]->nused; k++)
      entry[h->packed->entries.items[i]->used[k]] = true;
  for (uint32_t i = 0; i < h->files.tensors.count; i++) {
    const tn_st_tensor *t = &h->files.tensors.items[i];
    if (entry[i])
      TN_TRY(put(f, t->name, t->dtype, t->rank, t->shape, (out_tensor){.tensor = CK_NONE, .raw = t}));
  }
  return TN_OK;
}

static tn_status put_all(folder_saving *f) {
  uint32_t decoded = 0;
  tn_st_put_meta(&f->w, "format", TN_STR("pt")); /* transformers asks for it */
  for (uint32_t i = 0; i < f->v->ck->shown; i++) {
    const tn_ck_tensor *t = &f->v->ck->tensors.items[i].pub;
    tn_dtype to = ck_saved_type(f->v, i);
    if (stays_packed(f, i)) {
      f->kept = true;
      continue;
    }
    decoded += ck_is_block(t->dtype) && !ck_is_block(to);
    if (ck_is_block(to)) {
      TN_TRY(put_packed(f, i));
      continue;
    }
    if (t->rank == 2 && t->role != TN_CK_EMBEDDING && !tn_vec_push(&f->plain, t->name)) return oom(f);
    TN_TRY(put(f, t->name, to, t->rank, t->shape, (out_tensor){.tensor = i}));
  }
  if (f->kept && decoded)
    return tn_fail(
        f->v->diags, TN_UNSUPPORTED, f->path, NULL,
        "%u packed matrices would become plain and others stay: choose plain types for all, or none",
        decoded);
  return f->kept ? put_raw(f) : TN_OK;
}

/* ---- bytes ---- */

static tn_status copy_raw(folder_saving *f, const tn_st_tensor *t, tn_outfile *out, uint64_t at) {
  const ck_file *file = ck_file_named(f->v->ck, t->file);
  if (!file || t->bytes > file->map.size || t->offset > file->map.size - t->bytes)
    return tn_fail(f->v->diags, TN_DATA_LOSS, t->file, NULL, "tensor '%s' cannot be read", t->name);
  tn_status s = tn_outfile_put(out, at, file->map.data + t->offset, t->bytes);
  return s == TN_OK ? TN_OK : tn_fail(f->v->diags, s, f->path, NULL, "cannot be written: is the disk full?");
}

static tn_status fill_packed(folder_saving *f, const out_tensor *o, tn_outfile *out, uint64_t at,
                             uint64_t bytes) {
  const tn_ck_tensor *t = &f->v->ck->tensors.items[o->tensor].pub;
  if (f->open != o->tensor || !f->blocks) {
    tn_mem_free(f->blocks);
    f->blocks = NULL;
    TN_TRY(ck_encode_all(f->v, o->tensor, &f->blocks));
    f->open = o->tensor;
  }
  uint8_t *part = tn_mem_alloc(bytes + 1);
  if (!part) return oom(f);
  tn_status s = f->v->s->pack->split(ck_saved_type(f->v, o->tensor), ck_rows_of(t), ck_columns_of(t),
                                     f->blocks, o->part, part);
  if (s == TN_OK) s = tn_outfile_put(out, at, part, bytes);
  tn_mem_free(part);
  return s == TN_OK ? TN_OK
                    : tn_fail(f->v->diags, s, f->path, NULL, "tensor '%s' cannot be written", t->name);
}

static tn_status fill(void *ctx, uint32_t i, tn_outfile *out, uint64_t at, uint64_t bytes) {
  folder_saving *f = ctx;
  const out_tensor *o = &f->outs.items[i];
  if (o->raw) return copy_raw(f, o->raw, out, at);
  return o->packed ? fill_packed(f, o, out, at, bytes) : ck_fill(f->v, o->tensor, out, at, bytes);
}

/* ---- config.json ---- */

/* The type that most numbers have, by the names of torch. */
static const char *usual_type(const folder_saving *f) {
  static const struct {
    tn_dtype t;
    const char *name;
  } names[] = {
      {TN_DT_f32, "float32"}, {TN_DT_f16, "float16"}, {TN_DT_bf16, "bfloat16"}, {TN_DT_f64, "float64"}};
  uint64_t bytes[TN_COUNT(names)] = {0}, best = 0;
  for (uint32_t i = 0; i < f->v->ck->shown; i++)
    for (size_t k = 0; k < TN_COUNT(names); k++)
      if (ck_saved_type(f->v, i) == names[k].t)
        bytes[k] +=
            ck_rows_of(&f->v->ck->tensors.items[i].pub) * ck_columns_of(&f->v->ck->tensors.items[i].pub);
  for (size_t k = 1; k < TN_COUNT(names); k++)
    if (bytes[k] > bytes[best]) best = k;
  return bytes[best] ? names[best].name : NULL;
}

static tn_status set_text(tn_arena *arena, tn_json *config, const char *key, const char *text) {
  tn_json *node = tn_json_add(arena, config, key);
  if (!node) return TN_OOM;
  const char *k = node->key;
  *node = (tn_json){.kind = TN_JSON_STRING, .key = k, .u.s = tn_str_of(text)};
  return TN_OK;
}

static void drop(tn_json *object, const char *key) {
  for (uint32_t i = 0; i < object->count; i++)
    if (!strcmp(object->u.items[i].key, key)) {
      memmove(&object->u.items[i], &object->u.items[i + 1],
              (object->count - i - 1) * sizeof *object->u.items);
      object->count--;
      return;
    }
}

static tn_status set_quantization(folder_saving *f, tn_arena *arena, tn_json *config) {
  tn_buf text = {0};
  tn_json *made;
  if (f->kept) return TN_OK;
  drop(config, "quantization_config");
  drop(config, "compression_config");
  if (!f->packed) return TN_OK;
  /* an output that is the table of tokens has no tensors of its own, and loaders would look for packed ones
   */
  if (!tn_checkpoint_find(f->v->ck, "lm_head.weight") && !tn_vec_push(&f->plain, "lm_head")) return TN_OOM;
  TN_TRY(f->v->s->pack->config(f->packed, f->plain.items, f->plain.count, &text));
  tn_status s =
      tn_json_parse(arena, (tn_str){tn_buf_cstr(&text), text.len}, "quantization_config", f->v->diags, &made);
  tn_json *node = s == TN_OK ? tn_json_add(arena, config, "quantization_config") : NULL;
  if (node) {
    made->key = node->key;
    *node = *made;
  }
  tn_buf_fini(&text);
  return s != TN_OK ? s : node ? TN_OK : TN_OOM;
}

static tn_status write_config(folder_saving *f) {
  tn_checkpoint *ck = f->v->ck;
  tn_arena arena;
  tn_json *config = ck->config;
  tn_buf text = {0};
  tn_arena_init(&arena);
  tn_status s = config ? TN_OK
                       : tn_folder_json(&arena, ck->behind ? ck->behind->path : ck->path, "config.json",
                                        TN_JSON_OBJECT, f->v->diags, &config);
  const char *type = usual_type(f);
  if (s == TN_OK && type) {
    const char *key = tn_json_peek(config, "dtype") ? "dtype" : "torch_dtype";
    s = set_text(&arena, config, key, type);
  }
  if (s == TN_OK) s = set_quantization(f, &arena, config);
  if (s == TN_OK) {
    ck_json_pretty(&text, config, 0);
    tn_buf_puts(&text, "\n");
    s = ck_write_text(f->path, "config.json", &text, f->v->diags);
  } else if (s == TN_OOM) {
    oom(f);
  }
  tn_arena_fini(&arena);
  return s;
}

/* ---- all of it ---- */

static tn_status write_side(folder_saving *f) {
  tn_checkpoint *ck = f->v->ck, *stored = ck->behind ? ck->behind : ck;
  if (stored->has_hf) return ck_copy_side(stored, f->path, f->v->diags);
  TN_TRY(ck_write_sentence(ck, f->path, f->v->diags));
  tn_status s = tn_tokenizer_to_folder(stored->gguf.file, f->path, f->v->diags);
  return s == TN_NOT_FOUND ? TN_OK : s;
}

static bool same_folder(const char *a, const char *b) {
  struct stat x, y;
  return !stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static tn_status write_folder(folder_saving *f) {
  const tn_checkpoint *stored = f->v->ck->behind ? f->v->ck->behind : f->v->ck;
  if (mkdir(f->path, 0777) && errno != EEXIST)
    return tn_fail(f->v->diags, TN_UNAVAILABLE, f->path, NULL, "cannot make the folder: %s", strerror(errno));
  if (!tn_path_is_dir(f->path)) return tn_fail(f->v->diags, TN_INVALID, f->path, NULL, "is not a folder");
  if (same_folder(stored->path, f->path))
    return tn_fail(f->v->diags, TN_INVALID, f->path, NULL, "is the folder that the model is read from");
  TN_TRY(put_all(f));
  TN_TRY(write_side(f));
  TN_TRY(write_config(f));
  return tn_st_write_folder(&f->w, f->path, f->v->s->shard_bytes, fill, f, f->v->diags);
}

tn_status ck_save_folder(ck_saving *v, const char *path) {
  folder_saving f = {.v = v, .path = path, .open = CK_NONE};
  tn_st_writer_init(&f.w);
  tn_status s = write_folder(&f);
  tn_st_writer_fini(&f.w);
  tn_vec_fini(&f.outs);
  tn_vec_fini(&f.plain);
  tn_mem_free(f.blocks);
  return s;
}
