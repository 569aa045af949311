/* fuzz_gguf.c - any bytes as a GGUF file: every value and tensor that is handed out lies inside the file; the
 * config and the tokenizer are made from it, or an error says why not. */
#include "frontend/gguf/import.h"
#include "frontend/tokenizer/tokenizer.h"
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t read_values(const tn_gguf *g) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < tn_gguf_kv_count(g); i++) {
    const tn_gguf_kv *kv = tn_gguf_kv_at(g, i);
    if (tn_gguf_find(g, "general.name") == kv) sum++;
    for (uint64_t k = 0; k < kv->count; k++) {
      int64_t v = 0;
      double r = 0;
      bool b = false;
      tn_str s = {0};
      tn_gguf_int(kv, k, &v), tn_gguf_real(kv, k, &r), tn_gguf_bool(kv, &b);
      if (tn_gguf_string(kv, k, &s) && s.len) sum += (uint8_t)s.ptr[0] + (uint8_t)s.ptr[s.len - 1];
      sum += (uint64_t)v + (r > 0) + b;
    }
  }
  return sum;
}

static void check_tensors(const tn_gguf *g, size_t size) {
  for (uint32_t i = 0; i < tn_gguf_tensor_count(g); i++) {
    const tn_gguf_tensor *t = tn_gguf_tensor_at(g, i);
    if (t->offset > size || t->bytes > size - t->offset || t->rank > TN_MAX_RANK) abort();
    if (tn_gguf_tensor_find(g, t->name) != t) abort();
  }
}

static void make_config(tn_gguf *g) {
  tn_gguf_import import = {.name = "fuzz", .path = "fuzz", .file = g};
  tn_arena_init(&import.arena);
  tn_diags_init(&import.diags);
  tn_status s = tn_gguf_read_config(&import);
  if ((s == TN_OK) != (import.diags.errors == 0)) abort();
  if (s == TN_OK) tn_gguf_report_unknown(&import);
  tn_diags_fini(&import.diags);
  tn_arena_fini(&import.arena);
}

static void make_tokenizer(const tn_gguf *g) {
  static const char text[] = "Hello <|x|> w\xc3\xb6rld \xe2\x96\x81 12345\n";
  tn_diags diags;
  tn_buf blob = {0};
  tn_tokenizer *t = NULL;
  tn_tokens tokens = {0};
  const char *why;
  tn_diags_init(&diags);
  tn_status s = tn_tokenizer_from_gguf(g, &blob, &diags);
  if ((s == TN_OK || s == TN_NOT_FOUND) != (diags.errors == 0)) abort();
  if (s == TN_OK && tn_tokenizer_open((tn_bytes){blob.text, blob.len}, &t, &why) == TN_OK) {
    tn_tokenizer_encode(t, tn_str_of(text), (tn_str){0}, 0, &tokens);
    tn_tokenizer_close(t);
  }
  tn_vec_fini(&tokens);
  tn_buf_fini(&blob);
  tn_diags_fini(&diags);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static volatile uint64_t seen;
  char path[40];
  tn_diags diags;
  tn_gguf *g;
  int fd = memfd_create("fuzz", MFD_CLOEXEC);
  if (fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  tn_diags_init(&diags);
  tn_status s = tn_gguf_open(path, &diags, &g);
  if ((s == TN_OK) != (diags.errors == 0)) abort();
  if (s == TN_OK) {
    seen += read_values(g);
    check_tensors(g, size);
    make_config(g);
    make_tokenizer(g);
    tn_gguf_close(g);
  }
  tn_diags_fini(&diags);
  close(fd);
  return 0;
}
