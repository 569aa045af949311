/* fuzz_page.c - any bytes as a model page: what parses is linked to the prelude and built. Bytes that begin
 * with '{' are a config.json instead, for every shipped page. The checkpoint has a tensor of every name, of
 * some small shape. */
#include "frontend/describe/embedded.h"
#include "frontend/describe/page.h"
#include "ir/ir.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct source {
  int64_t shape[2];
  bool regular;
} source;

/* Regular: all sizes fit each other, so that whole graphs come about; else shapes follow the name. */
static bool find(void *ctx, const char *name, tn_tensor_ref *out) {
  source *s = ctx;
  uint64_t h = tn_hash_bytes(name, strlen(name), 0);
  uint32_t rank = tn_str_ends(tn_str_of(name), "bias") || h % 7 == 0 ? 1 : 2;
  for (uint32_t i = 0; i < rank; i++) s->shape[i] = s->regular ? 8 : (int64_t)(h >> (8 * i + 3) & 3) * 4;
  uint64_t bytes = 4 * (uint64_t)s->shape[0] * (rank == 2 ? (uint64_t)s->shape[1] : 1);
  *out = (tn_tensor_ref){TN_DT_f32, rank, s->shape, "fuzz.safetensors", 0, bytes};
  return s->regular || h % 5 != 0;
}

static void build(const tn_page *page, tn_json *config, bool regular) {
  source s = {.regular = regular};
  tn_diags diags;
  tn_diags_init(&diags);
  tn_module *m = tn_module_new(&diags);
  tn_page_run r = {.page = page,
                   .architecture = page->hf.count ? page->hf.items[0] : page->name,
                   .config = config,
                   .tensors = {&s, find, false},
                   .ir = &tn_ir_table,
                   .m = m,
                   .diags = &diags};
  tn_status status = tn_page_build(&r);
  if ((status == TN_OK) != !diags.errors || (status == TN_OK && tn_module_verify(m) != TN_OK))
    __builtin_trap();
  tn_module_free(m);
  tn_diags_fini(&diags);
}

static void fuzz_page(tn_str text, tn_json *config, tn_diags *diags) {
  tn_page *page, *prelude = NULL;
  if (tn_page_read(text, "fuzz.model", diags, &page) != TN_OK) return;
  for (const tn_embedded_page *e = tn_embedded_pages; e->name && !prelude; e++)
    if (!strcmp(e->name, "prelude.model") &&
        tn_page_read((tn_str){(const char *)e->text, e->size}, e->name, diags, &prelude) != TN_OK)
      __builtin_trap();
  page->prelude = prelude;
  if (prelude) build(page, config, true), build(page, config, false);
  tn_page_free(prelude);
  tn_page_free(page);
}

static void fuzz_config(tn_str text, tn_arena *arena, tn_diags *diags) {
  tn_json *config;
  tn_page_set *set;
  if (tn_json_parse(arena, text, "config.json", diags, &config) != TN_OK) return;
  if (tn_pages_open(&set, NULL, 0, NULL, 0, diags) != TN_OK) __builtin_trap();
  for (uint32_t i = 0; i < tn_pages_count(set); i++) {
    tn_page_info info;
    tn_pages_get(set, i, &info);
    build(tn_pages_find(set, info.name), config, i % 2 == 0);
  }
  tn_pages_close(set);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const char config_text[] = "{\"hidden_size\": 8, \"num_hidden_layers\": 2, \"num_attention_heads\": "
                                    "2, \"vocab_size\": 8, \"n_embd\": 8, \"n_layer\": 2,"
                                    " \"n_head\": 2, \"dim\": 8, \"n_layers\": 2, \"n_heads\": 2, "
                                    "\"block_types\": [\"PairBlock\", \"Skip\"], \"num_labels\": 8}";
  tn_arena arena;
  tn_diags diags;
  tn_json *config;
  tn_arena_init(&arena);
  tn_diags_init(&diags);
  tn_str text = {(const char *)data, size};
  if (size && data[0] == '{')
    fuzz_config(text, &arena, &diags);
  else if (tn_json_parse(&arena, tn_str_of(config_text), "config.json", &diags, &config) == TN_OK)
    fuzz_page(text, config, &diags);
  tn_diags_fini(&diags);
  tn_arena_fini(&arena);
  return 0;
}
