/* gguf_copy.c - a GGUF file through the reader and the writer, for writer.py:
 *   gguf_copy IN OUT     the same keys and tensors again
 *   gguf_copy - OUT      a file of made-up keys: what the writer's functions for values write
 *   gguf_copy WHAT       what the writer must refuse: prints the message */
#include "frontend/gguf/write.h"
#include <stdio.h>

typedef struct source {
  const tn_gguf *g;
  const char *path;
} source;

static tn_status copy(void *ctx, uint32_t tensor, tn_outfile *out, uint64_t at, uint64_t bytes) {
  const source *s = ctx;
  const tn_gguf_tensor *t = tn_gguf_tensor_at(s->g, tensor);
  tn_file f;
  const char *why = "";
  if (t->bytes != bytes) return TN_INVALID;
  tn_status status = tn_file_map(&f, s->path, &why);
  if (status) return status;
  for (uint64_t i = 0; i < bytes && status == TN_OK; i += 1000) /* in pieces, as callers do */
    status = tn_outfile_put(out, at + i, f.data + t->offset + i, bytes - i < 1000 ? bytes - i : 1000);
  tn_file_unmap(&f);
  return status;
}

static tn_status copy_file(tn_gguf_writer *w, const char *from, const char *to, tn_diags *diags) {
  tn_gguf *g = NULL;
  TN_TRY(tn_gguf_open(from, diags, &g));
  for (uint32_t i = 0; i < tn_gguf_kv_count(g); i++) tn_gguf_put_kv(w, tn_gguf_kv_at(g, i));
  for (uint32_t i = 0; i < tn_gguf_tensor_count(g); i++) {
    const tn_gguf_tensor *t = tn_gguf_tensor_at(g, i);
    tn_gguf_put_tensor(w, t->name, t->dtype, t->rank, t->shape);
  }
  source s = {g, from};
  tn_status status = tn_gguf_write(w, to, copy, &s, diags);
  tn_gguf_close(g);
  return status;
}

static tn_status nothing(void *ctx, uint32_t tensor, tn_outfile *out, uint64_t at, uint64_t bytes) {
  (void)ctx, (void)tensor, (void)out, (void)at, (void)bytes;
  return TN_OK;
}

static tn_status values(tn_gguf_writer *w, const char *to, tn_diags *diags) {
  static const tn_str texts[] = {{"", 0}, {"a\0b", 3}, {"\xe4\xb8\xad", 3}};
  static const int8_t bytes[] = {-128, 0, 127};
  static const double reals[] = {0.1, -1e300};
  static const int64_t shape[] = {2, 0, 3};
  tn_gguf_put_u32(w, "u32", 4000000000u);
  tn_gguf_put_u64(w, "u64", UINT64_C(1) << 63);
  tn_gguf_put_i32(w, "i32", -5);
  tn_gguf_put_f32(w, "f32", 0.1f);
  tn_gguf_put_bool(w, "yes", true);
  tn_gguf_put_bool(w, "no", false);
  tn_gguf_put_string(w, "text", texts[2]);
  tn_gguf_put_strings(w, "texts", texts, TN_COUNT(texts));
  tn_gguf_put_strings(w, "none", NULL, 0);
  tn_gguf_put_array(w, "bytes", TN_GGUF_I8, bytes, TN_COUNT(bytes));
  tn_gguf_put_array(w, "reals", TN_GGUF_F64, reals, TN_COUNT(reals));
  tn_gguf_put_tensor(w, "empty", TN_DT_f32, 3, shape);
  tn_gguf_put_tensor(w, "scalar", TN_DT_i64, 0, NULL);
  if (!tn_gguf_has_key(w, "texts") || tn_gguf_has_key(w, "text ")) return TN_INTERNAL;
  return tn_gguf_write(w, to, nothing, NULL, diags);
}

static void refuse(tn_gguf_writer *w, const char *what) {
  static const int64_t shape[] = {4, 31, 1, 1, 1};
  static const int64_t huge[] = {INT64_MAX, 4};
  if (!strcmp(what, "key-twice")) tn_gguf_put_u32(w, "k", 1), tn_gguf_put_bool(w, "k", true);
  if (!strcmp(what, "key-empty")) tn_gguf_put_u32(w, "", 1);
  if (!strcmp(what, "key-bytes")) tn_gguf_put_u32(w, "a\xff", 1);
  if (!strcmp(what, "alignment")) tn_gguf_put_u32(w, "general.alignment", 48);
  if (!strcmp(what, "alignment-late"))
    tn_gguf_put_tensor(w, "t", TN_DT_f32, 1, shape), tn_gguf_put_u32(w, "general.alignment", 64);
  if (!strcmp(what, "array")) tn_gguf_put_array(w, "a", TN_GGUF_STRING, shape, 1);
  if (!strcmp(what, "tensor-twice"))
    for (int i = 0; i < 2; i++) tn_gguf_put_tensor(w, "t", TN_DT_f32, 1, shape);
  if (!strcmp(what, "rank")) tn_gguf_put_tensor(w, "t", TN_DT_f32, 5, shape);
  if (!strcmp(what, "type")) tn_gguf_put_tensor(w, "t", TN_DT_u8, 1, shape);
  if (!strcmp(what, "rows")) tn_gguf_put_tensor(w, "t", TN_DT_BLOCK, 2, shape);
  if (!strcmp(what, "bytes")) tn_gguf_put_tensor(w, "t", TN_DT_f32, 2, huge);
  if (!strcmp(what, "name"))
    tn_gguf_put_tensor(w, "a-name-of-sixty-four-bytes-which-is-one-more-than-the-files-allow-", TN_DT_f32, 1,
                       shape);
}

int main(int argc, char **argv) {
  tn_diags diags;
  tn_gguf_writer w;
  tn_buf text = {0};
  tn_status s;
  if (argc < 2) return 2;
  tn_diags_init(&diags);
  tn_gguf_writer_init(&w);
  if (argc == 2) {
    refuse(&w, argv[1]);
    s = tn_gguf_write(&w, "/nowhere/refused.gguf", nothing, NULL, &diags);
  } else {
    s = !strcmp(argv[1], "-") ? values(&w, argv[2], &diags) : copy_file(&w, argv[1], argv[2], &diags);
  }
  tn_diags_text(&diags, &text, false);
  fputs(tn_buf_cstr(&text), stderr);
  tn_buf_fini(&text);
  tn_gguf_writer_fini(&w);
  tn_diags_fini(&diags);
  return s != TN_OK;
}
