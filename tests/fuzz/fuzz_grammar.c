/* fuzz_grammar.c - any bytes as a grammar, or, when they begin with '{', as a JSON Schema whose grammar must
 * then parse. What parses is walked: masks of a small vocabulary, of which some allowed token is taken. */
#include "backends/runtime/grammar.h"
#include "frontend/grammar/schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STEPS = 40, MAX_INPUT = 4096 };

static void make_vocabulary(tn_vocabulary *v) {
  static char bytes[256];
  static const tn_str words[] = {{"ab", 2}, {"\"}", 2}, {"{\"", 2}, {": ", 2}, {"\xe2\x82", 2}, {"", 0}};
  tn_str texts[256 + TN_COUNT(words)];
  for (int i = 0; i < 256; i++) bytes[i] = (char)i, texts[i] = (tn_str){&bytes[i], 1};
  memcpy(texts + 256, words, sizeof words);
  if (tn_vocabulary_of(v, texts, TN_COUNT(texts))) __builtin_trap();
}

static void walk(tn_grammar *g) {
  tn_vocabulary v;
  tn_grammar_state s = {0};
  make_vocabulary(&v);
  uint64_t random = 1;
  if (tn_grammar_enter(g, &s)) goto out;
  for (int i = 0; i < STEPS; i++) {
    const uint64_t *mask;
    if (tn_grammar_mask(g, &v, &s, &mask)) break;
    uint32_t from = (uint32_t)((random = random * 6364136223846793005u + 1) >> 33) % v.ntokens, k = 0;
    while (k < v.ntokens && !(mask[(from + k) % v.ntokens / 64] >> (from + k) % v.ntokens % 64 & 1)) k++;
    if (k == v.ntokens) break;
    tn_status status = tn_grammar_take(g, &s, tn_vocabulary_bytes(&v, (int32_t)((from + k) % v.ntokens)));
    if (status && status != TN_OOM) __builtin_trap(); /* the mask had said yes */
    if (status) break;
  }
out:
  tn_grammar_leave(g, &s);
  tn_vocabulary_close(&v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  tn_str text = {(const char *)data, size < MAX_INPUT ? size : MAX_INPUT};
  char why[300] = "";
  tn_grammar *g = NULL;
  tn_buf gbnf = {0};
  tn_diags diags;
  tn_diags_init(&diags);
  bool schema = size && data[0] == '{';
  if (schema && tn_schema_to_gbnf(text, "schema.json", &gbnf, &diags)) goto out;
  if (schema) text = (tn_str){tn_buf_cstr(&gbnf), gbnf.len};
  tn_status status = tn_grammar_open(text, &g, why, sizeof why);
  /* What comes of a schema may only be too large, or be recursive without end. */
  if (schema && status && !strstr(why, "states") && !strstr(why, "recursive") && !strstr(why, "rules"))
    __builtin_trap();
  if (!status) walk(g);
  tn_grammar_close(g);
out:
  tn_buf_fini(&gbnf);
  tn_diags_fini(&diags);
  return 0;
}
