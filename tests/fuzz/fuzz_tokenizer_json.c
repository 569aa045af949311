/* fuzz_tokenizer_json.c - any bytes as a tokenizer.json: what is imported opens, and tokenizes and decodes a
 * text; then the bytes as a blob. */
#include "frontend/tokenizer/tokenizer.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char sample[] =
    "The na\xc3\xafve [MASK]  <s> 123 \xe4\xb8\xad\xf0\x9f\x91\x8d don't a\xcc\x81\xff\n";

static void use(const tn_tokenizer *t) {
  tn_tokens tokens = {0};
  tn_buf text = {0};
  tn_status s = tn_tokenizer_encode(t, (tn_str){sample, sizeof sample - 1}, TN_STR("pair"), 0, &tokens);
  if (s && tokens.count) abort();
  for (uint32_t i = 0; i < tokens.count; i++) {
    const tn_token *k = &tokens.items[i];
    if (k->id < 0 || (uint32_t)k->id >= tn_tokenizer_size(t) || k->start > k->end || k->end > sizeof sample)
      abort();
    tn_tokenizer_decode(t, &k->id, 1, TN_DETOKENIZE_SKIP_SPECIAL, &text);
  }
  if (!tn_utf8_valid((tn_str){tn_buf_cstr(&text), text.len}, &(uint64_t){0})) abort();
  tn_vec_fini(&tokens);
  tn_buf_fini(&text);
}

static void try_blob(const void *blob, uint64_t size, bool must_open) {
  tn_tokenizer *t;
  const char *why;
  tn_status s = tn_tokenizer_open((tn_bytes){blob, size}, &t, &why);
  if (s && must_open) abort();
  if (s == TN_OK) use(t);
  tn_tokenizer_close(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  tn_diags diags;
  tn_buf blob = {0};
  tn_diags_init(&diags);
  tn_status s = tn_tokenizer_import_json((tn_str){(const char *)data, size}, "fuzz", &blob, &diags);
  if ((s == TN_OK) != (diags.errors == 0) || (s != TN_OK && blob.len)) abort();
  if (s == TN_OK) try_blob(blob.text, blob.len, true);
  tn_buf_fini(&blob);
  tn_diags_fini(&diags);
  uint64_t *aligned = malloc(size + 8);
  if (aligned) memcpy(aligned, data, size);
  if (aligned) try_blob(aligned, size, false);
  free(aligned);
  return 0;
}
