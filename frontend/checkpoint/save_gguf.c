/* save_gguf.c - a checkpoint as a GGUF file: keys of the file that it was, or made of a folder, then tensors.
 */
#include "frontend/checkpoint/ck.h"

/* One file is written, whatever the original was split into. */
static bool says_split(tn_str key) { return tn_str_starts(key, "split."); }

static tn_status copy_keys(const tn_gguf *g, tn_gguf_writer *w) {
  tn_arena arena;
  tn_status s = TN_OK;
  tn_arena_init(&arena);
  for (uint32_t i = 0; s == TN_OK && i < tn_gguf_kv_count(g); i++) {
    const tn_gguf_kv *kv = tn_gguf_kv_at(g, i);
    const char *key = tn_arena_str(&arena, kv->key);
    if (!key)
      s = TN_OOM;
    else if (!says_split(kv->key) && !tn_gguf_has_key(w, key))
      tn_gguf_put_kv(w, kv);
  }
  tn_arena_fini(&arena);
  return s;
}

static tn_status fill(void *ctx, uint32_t tensor, tn_outfile *out, uint64_t at, uint64_t bytes) {
  return ck_fill(ctx, tensor, out, at, bytes);
}

static tn_status check_type(const ck_saving *v, uint32_t tensor) {
  tn_dtype t = ck_saved_type(v, tensor);
  const tn_quant *q = tn_quant_of(t);
  const char *name = v->ck->tensors.items[tensor].pub.name;
  tn_buf where = {0};
  if (tn_gguf_type_of(t) >= 0) return TN_OK;
  tn_buf_printf(&where, "tensor '%s'", name);
  tn_fail(v->diags, TN_UNSUPPORTED, v->ck->path, tn_buf_cstr(&where),
          "GGUF files have no type %s: choose another type for it", q ? q->name : "like that of this tensor");
  tn_buf_fini(&where);
  return TN_UNSUPPORTED;
}

static tn_status put_all(ck_saving *v, tn_gguf_writer *w) {
  const tn_gguf *g = tn_checkpoint_gguf(v->ck->behind ? v->ck->behind : v->ck);
  tn_str name = {0};
  if (!g)
    name = tn_str_of(ck_gguf_architecture(v->ck));
  else
    (void)tn_gguf_string(tn_gguf_find(g, "general.architecture"), 0, &name);
  if (name.len) tn_gguf_put_string(w, "general.architecture", name); /* readers look for it first */
  if (v->s->keys) v->s->keys(v->s->ctx, w);
  tn_status s = g ? copy_keys(g, w) : ck_put_keys(v->ck, v->s->pre, w, v->diags);
  if (s != TN_OK) return s == TN_OOM ? tn_fail(v->diags, s, v->ck->path, NULL, "out of memory") : s;
  for (uint32_t i = 0; i < v->ck->shown; i++) {
    const tn_ck_tensor *t = &v->ck->tensors.items[i].pub;
    TN_TRY(check_type(v, i));
    tn_gguf_put_tensor(w, t->name, ck_saved_type(v, i), t->rank, t->shape);
  }
  return TN_OK;
}

tn_status ck_save_gguf(ck_saving *v, const char *path) {
  tn_gguf_writer w;
  tn_gguf_writer_init(&w);
  tn_status s = put_all(v, &w);
  if (s == TN_OK) s = tn_gguf_write(&w, path, fill, v, v->diags);
  tn_gguf_writer_fini(&w);
  return s;
}
