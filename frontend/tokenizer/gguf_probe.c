/* gguf_probe.c - whether two tokenizers are the same: ids of texts that show what splitters, normalizers and
 * vocabularies may do differently, then of every added token between others. */
#include "frontend/tokenizer/gguf_to.h"

static const char *const texts[] = {
#define TN_PROBE(text) text,
#include "frontend/tokenizer/probe.def"
};

static const tn_str none = {NULL, 0};

static bool same_tokens(const tn_tokens *a, const tn_tokens *b) {
  if (a->count != b->count) return false;
  for (uint32_t i = 0; i < a->count; i++)
    if (a->items[i].id != b->items[i].id) return false;
  return true;
}

/* A text that one of them refuses (no unknown token) is one that both must refuse. */
static tn_status compare(const tn_tokenizer *a, const tn_tokenizer *b, tn_str text, tn_str pair,
                         uint32_t flags, bool *same) {
  tn_tokens x = {0}, y = {0};
  tn_status first = tn_tokenizer_encode(a, text, pair, flags, &x),
            second = tn_tokenizer_encode(b, text, pair, flags, &y);
  *same = first == second && same_tokens(&x, &y);
  tn_vec_fini(&x);
  tn_vec_fini(&y);
  return first == TN_OOM || second == TN_OOM ? TN_OOM : TN_OK;
}

/* Without the tries in which added tokens are found. */
static tn_tokenizer plain(const tn_tokenizer *t) {
  tn_tokenizer x = *t;
  x.raw.nodes = x.normal.nodes = NULL;
  return x;
}

tn_status tn_tk_probe_texts(const tn_tokenizer *a, const tn_tokenizer *b, tn_str *differs) {
  tn_tokenizer x = plain(a), y = plain(b);
  *differs = (tn_str){NULL, 0};
  for (size_t i = 0; i < TN_COUNT(texts); i++) {
    bool same;
    TN_TRY(compare(&x, &y, tn_str_of(texts[i]), none, TN_TOKENIZE_NO_SPECIAL, &same));
    if (!same) return *differs = tn_str_of(texts[i]), TN_OK;
  }
  return TN_OK;
}

/* Between letters, between spaces, and twice. */
enum { FRAMES = 3 };
static void frame(tn_buf *out, uint32_t which, tn_str token) {
  static const char *const around[FRAMES][2] = {{"a", "b"}, {"a  ", "  b"}, {"", ""}};
  out->len = 0;
  tn_buf_puts(out, around[which][0]);
  for (uint32_t i = 0; i <= which / 2; i++) tn_buf_put(out, token.ptr, token.len);
  tn_buf_puts(out, around[which][1]);
}

tn_status tn_tk_probe_added(const tn_tokenizer *a, const tn_tokenizer *b, tn_probe_added *found) {
  tn_buf text = {0};
  tn_status s = TN_OK;
  *found = (tn_probe_added){0};
  for (uint32_t i = 0; i < a->nadded && s == TN_OK; i++) {
    tn_str t = tn_tk_text_of(a, a->added[i].text);
    bool same = true;
    for (uint32_t k = 0; k < FRAMES && same && s == TN_OK; k++) {
      frame(&text, k, t);
      s = text.failed ? TN_OOM
                      : compare(a, b, (tn_str){text.text, text.len}, none, TN_TOKENIZE_NO_SPECIAL, &same);
    }
    if (same) continue;
    if (!found->count) found->first = t;
    found->count++;
  }
  tn_buf_fini(&text);
  return s;
}

tn_status tn_tk_probe_around(const tn_tokenizer *a, const tn_tokenizer *b, bool *one, bool *two) {
  tn_str text = TN_STR("a");
  TN_TRY(compare(a, b, text, none, 0, one));
  return compare(a, b, text, text, 0, two);
}

/* ---- splits ---------------------------------------------------------------------------------- */
static tn_status cut(tn_tk_run *r, const tn_tokenizer *t, tn_str text) {
  tn_tk_run_init(r, t);
  tn_tk_extract(r, text);
  if (!r->status) tn_tk_pre_tokenize(r);
  return r->status == TN_OOM ? TN_OOM : TN_OK;
}

static bool same_splits(const tn_tk_run *a, const tn_tk_run *b) {
  if (a->status || b->status || a->splits.count != b->splits.count || a->text.len != b->text.len)
    return false;
  for (uint32_t i = 0; i < a->splits.count; i++)
    if (a->splits.items[i].start != b->splits.items[i].start ||
        a->splits.items[i].end != b->splits.items[i].end)
      return false;
  return !a->text.len || !memcmp(a->text.s, b->text.s, a->text.len);
}

uint32_t tn_tk_probe_count(void) { return TN_COUNT(texts); }

tn_status tn_tk_probe_splits(const tn_tokenizer *a, const tn_tokenizer *b, uint32_t *alike) {
  tn_tokenizer x = plain(a), y = plain(b);
  tn_status s = TN_OK;
  *alike = 0;
  for (size_t i = 0; i < TN_COUNT(texts) && s == TN_OK; i++) {
    tn_tk_run r, q;
    s = cut(&r, &x, tn_str_of(texts[i]));
    tn_status other = cut(&q, &y, tn_str_of(texts[i]));
    if (s == TN_OK) s = other;
    *alike += same_splits(&r, &q);
    tn_tk_run_fini(&r);
    tn_tk_run_fini(&q);
  }
  return s;
}
