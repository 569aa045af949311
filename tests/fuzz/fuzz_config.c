/* fuzz_config.c - any bytes as a config.json: what parses is written, parses again and is the same. */
#include "frontend/config/config.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void round_trip(tn_arena *arena, const tn_json *root, tn_diags *diags) {
  tn_buf text = {0};
  tn_json *again;
  tn_json_write(&text, root);
  if (tn_json_parse(arena, (tn_str){tn_buf_cstr(&text), text.len}, "again", diags, &again) != TN_OK) abort();
  if (!tn_json_equal(root, again)) abort();
  tn_buf_fini(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  tn_arena arena;
  tn_diags diags;
  tn_json *root;
  tn_arena_init(&arena);
  tn_diags_init(&diags);
  tn_status s = tn_json_parse(&arena, (tn_str){(const char *)data, size}, "fuzz", &diags, &root);
  if ((s == TN_OK) != (diags.errors == 0)) abort();
  if (s == TN_OK) round_trip(&arena, root, &diags);
  if (s == TN_OK && root->kind == TN_JSON_OBJECT) {
    tn_json_path(root, "a.b");
    if (tn_config_canonical(&arena, root, "fuzz", &diags) == TN_OK)
      tn_config_report_unknown(root, "fuzz", &diags);
  }
  tn_diags_fini(&diags);
  tn_arena_fini(&arena);
  return 0;
}
