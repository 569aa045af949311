/* stored.c - both kinds of stored tensors behind one lookup. */
#include "tools/verify/stored.h"
#include <stdlib.h>

bool tn_stored_is(const char *path) {
  return tn_str_ends(tn_str_of(path), ".safetensors") || (tn_path_is_dir(path) && tn_onnx_data_is(path));
}

/* The numbers of the files are those of the ONNX model: the given one, or for a library the one beside the
 * folder. */
static tn_status open_folder(tn_stored *s, const char *model, tn_diags *d) {
  tn_arena a;
  tn_arena_init(&a);
  const char *beside = tn_path_join(&a, s->path, "../model.onnx");
  bool other = model && !tn_str_ends(tn_str_of(model), ".onnx") && !tn_path_is_dir(model);
  tn_status status = tn_onnx_data_open(&tn_ir_table, other && beside ? beside : model, s->path, d, &s->onnx);
  tn_arena_fini(&a);
  return status;
}

tn_status tn_stored_open(tn_stored *s, const char *path, const char *model, tn_diags *d) {
  const char *why;
  memset(s, 0, sizeof *s);
  tn_st_init(&s->files);
  s->path = path;
  if (tn_path_is_dir(path)) return open_folder(s, model, d);
  tn_status status = tn_file_map(&s->map, path, &why);
  if (status != TN_OK) return tn_fail(d, status, path, NULL, "cannot read the file: %s", why);
  return tn_st_read(&s->files, path, (tn_bytes){s->map.data, s->map.size}, d);
}

void tn_stored_close(tn_stored *s) {
  if (!s->path) return;
  tn_onnx_data_close(s->onnx);
  tn_st_fini(&s->files);
  tn_file_unmap(&s->map);
}

static tn_status copy(tn_tensor *t, const void *bytes, uint64_t n) {
  t->data = malloc(n + 1);
  if (!t->data) return TN_OOM;
  if (n) memcpy(t->data, bytes, n);
  return TN_OK;
}

tn_status tn_stored_read(const tn_stored *s, const char *name, tn_tensor *out, tn_diags *d) {
  const tn_onnx_data_item *item = s->onnx ? tn_onnx_data_find(s->onnx, name) : NULL;
  const tn_st_tensor *st = s->onnx ? NULL : tn_st_find(&s->files, name);
  if (!item && !st)
    return tn_fail(d, TN_NOT_FOUND, s->path, NULL, "there is no tensor '%s' %s", name,
                   s->onnx ? "in the folder" : "in the file");
  *out = (tn_tensor){.dtype = item ? item->dtype : st->dtype, .rank = item ? item->rank : st->rank};
  memcpy(out->shape, item ? item->dims : st->shape, out->rank * sizeof *out->shape);
  return item ? copy(out, item->bytes, item->nbytes) : copy(out, s->map.data + st->offset, st->bytes);
}
