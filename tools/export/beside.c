/* beside.c - where an ONNX file goes, and what lies beside it. */
#include "tools/export/beside.h"
#include <errno.h>
#include <sys/stat.h>

void tn_export_weights_close(tn_export_weights *w) {
  if (w->open) tn_weight_reader_fini(&w->reader);
  w->open = 0;
}

tn_status tn_export_weights_read(void *ctx, tn_weight id, uint64_t offset, void *dst, uint64_t len) {
  tn_export_weights *w = ctx;
  if (w->open != id) {
    tn_export_weights_close(w);
    tn_weight_reader_init(&w->reader, w->d, w->m, id);
    w->open = id;
  }
  return tn_weight_reader_read(&w->reader, offset, dst, len);
}

/* What programs that load the model's folder look for. */
static const char *const side_files[] = {"config.json",
                                         "generation_config.json",
                                         "tokenizer.json",
                                         "tokenizer_config.json",
                                         "special_tokens_map.json",
                                         "added_tokens.json",
                                         "vocab.json",
                                         "vocab.txt",
                                         "merges.txt",
                                         "spiece.model",
                                         "tokenizer.model",
                                         "sentencepiece.bpe.model",
                                         "chat_template.jinja",
                                         "chat_template.json",
                                         "preprocessor_config.json",
                                         "processor_config.json"};

static tn_status copy_file(tn_driver *d, const char *from, const char *to) {
  tn_file f;
  const char *why = "";
  tn_status s = tn_file_map(&f, from, &why);
  if (s != TN_OK) return tn_fail(d->diags, s, from, NULL, "cannot read: %s", why);
  s = tn_file_write(to, f.data, f.size, d->diags);
  tn_file_unmap(&f);
  return s;
}

tn_status tn_export_beside(tn_driver *d, const char *out) {
  if (!tn_path_is_dir(d->path)) return TN_OK; /* of a single file the folder is not its own */
  for (uint32_t i = 0; i < TN_COUNT(side_files); i++) {
    char *from = tn_path_join(&d->arena, d->folder, side_files[i]),
         *to = tn_path_join(&d->arena, out, side_files[i]);
    if (!from || !to) return TN_OOM;
    if (tn_path_exists(from)) TN_TRY(copy_file(d, from, to));
  }
  return TN_OK;
}

tn_status tn_export_place(tn_driver *d, const char *out, const char **file, const char **folder) {
  uint64_t n = strlen(out);
  bool slash = n && out[n - 1] == '/';
  *folder = NULL;
  *file = out;
  if (!slash && !tn_path_is_dir(out)) return TN_OK;
  *folder = out;
  if (!tn_path_is_dir(out) && mkdir(out, 0777))
    return tn_fail(d->diags, TN_UNAVAILABLE, out, NULL, "cannot make the folder: %s", strerror(errno));
  *file = tn_path_join(&d->arena, out, "model.onnx");
  return *file ? TN_OK : TN_OOM;
}
