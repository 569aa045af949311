/* decode.c - ids to text. Decoders work on a list of texts, one per token at first, and join it at the end.
 */
#include "frontend/tokenizer/engine.h"

tn_tk_decoder *const tn_tk_decoders[] = {
#define TN_TK_DECODER(name, type, needs) tn_tk_decode_##name,
#include "frontend/tokenizer/parts.def"
};

/* ---- lists ----------------------------------------------------------------------------------- */
static void end_item(tn_tk_decode *d, tn_tk_list *l) {
  if (!tn_vec_push(&l->ends, l->text.len) || l->text.failed) tn_tk_fail(&d->run, TN_OOM);
}
static uint64_t begin_of(const tn_tk_list *l, uint32_t i) { return i ? l->ends.items[i - 1] : 0; }
static tn_str item_of(const tn_tk_list *l, uint32_t i) {
  uint64_t begin = begin_of(l, i);
  return (tn_str){l->text.text ? l->text.text + begin : "", l->ends.items[i] - begin};
}
static void put_item(tn_tk_decode *d, tn_str s) {
  tn_buf_put(&d->next.text, s.ptr, s.len);
  end_item(d, &d->next);
}

/* In place, from byte `begin` of the text; `by` is not longer than `what`, which is not empty. */
static void squeeze(tn_buf *b, uint64_t begin, tn_str what, tn_str by) {
  if (b->failed || !b->text) return;
  uint64_t to = begin;
  for (uint64_t i = begin; i < b->len;) {
    if (b->len - i >= what.len && !memcmp(b->text + i, what.ptr, what.len)) {
      memcpy(b->text + to, by.ptr, by.len);
      to += by.len;
      i += what.len;
    } else {
      b->text[to++] = b->text[i++];
    }
  }
  b->len = to;
}

typedef struct fix {
  tn_str what, by;
} fix;
#define FIX(a, b) {{a, sizeof(a) - 1}, {b, sizeof(b) - 1}}
static const fix fixes[] = {FIX(" .", "."),   FIX(" ?", "?"),     FIX(" !", "!"),    FIX(" ,", ","),
                            FIX(" ' ", "'"),  FIX(" n't", "n't"), FIX(" 'm", "'m"),  FIX(" do not", " don't"),
                            FIX(" 's", "'s"), FIX(" 've", "'ve"), FIX(" 're", "'re")};
enum { DO_NOT = 7 }; /* the fix that only the WordPiece and CTC decoders make */

static void clean(tn_buf *b, uint64_t begin, bool do_not) {
  for (size_t i = 0; i < TN_COUNT(fixes); i++) {
    if (i != DO_NOT || do_not) squeeze(b, begin, fixes[i].what, fixes[i].by);
  }
}

/* ---- decoders -------------------------------------------------------------------------------- */
/* Bytes that tokens stand for; a token with other characters stands for itself. Broken UTF-8 becomes U+FFFD.
 */
void tn_tk_decode_byte_level(tn_tk_decode *d, const tn_tk_part *p) {
  (void)p;
  tn_buf bytes = {0};
  for (uint32_t i = 0; i < d->list.ends.count; i++) {
    tn_str s = item_of(&d->list, i);
    uint64_t before = bytes.len;
    for (uint32_t at = 0; at < s.len;) {
      int byte = tn_tk_char_to_byte(tn_tk_char(s.ptr, &at));
      if (byte < 0) {
        bytes.len = before;
        tn_buf_put(&bytes, s.ptr, s.len);
        break;
      }
      tn_buf_put(&bytes, &(char){(char)byte}, 1);
    }
  }
  for (uint64_t i = 0; i < bytes.len;) {
    int n = tn_tk_char_check(bytes.text + i, bytes.len - i);
    if (n > 0)
      tn_buf_put(&d->next.text, bytes.text + i, (uint64_t)n);
    else
      tn_buf_puts(&d->next.text, "\xef\xbf\xbd");
    i += (uint64_t)(n < 0 ? -n : n);
  }
  if (bytes.failed) tn_tk_fail(&d->run, TN_OOM);
  tn_buf_fini(&bytes);
  end_item(d, &d->next);
}

void tn_tk_decode_wordpiece(tn_tk_decode *d, const tn_tk_part *p) {
  tn_str prefix = tn_tk_text_of(d->run.t, p->s);
  for (uint32_t i = 0; i < d->list.ends.count; i++) {
    tn_str s = item_of(&d->list, i);
    uint64_t begin = d->next.text.len;
    if (i && s.len >= prefix.len && !memcmp(s.ptr, prefix.ptr, prefix.len))
      s.ptr += prefix.len, s.len -= prefix.len;
    else if (i)
      tn_buf_puts(&d->next.text, " ");
    tn_buf_put(&d->next.text, s.ptr, s.len);
    if (p->flags & TN_TK_CLEAN) clean(&d->next.text, begin, true);
    end_item(d, &d->next);
  }
}

/* s: the mark for a space; of the first token it goes away if one was put in front (a). */
void tn_tk_decode_metaspace(tn_tk_decode *d, const tn_tk_part *p) {
  tn_str mark = tn_tk_text_of(d->run.t, p->s);
  for (uint32_t i = 0; i < d->list.ends.count; i++) {
    uint64_t begin = d->next.text.len;
    tn_str s = item_of(&d->list, i);
    tn_buf_put(&d->next.text, s.ptr, s.len);
    squeeze(&d->next.text, begin, mark, !i && p->a != TN_TK_PREPEND_NEVER ? TN_STR("") : TN_STR(" "));
    end_item(d, &d->next);
  }
}

void tn_tk_decode_bpe(tn_tk_decode *d, const tn_tk_part *p) {
  tn_str suffix = tn_tk_text_of(d->run.t, p->s);
  for (uint32_t i = 0; i < d->list.ends.count; i++) {
    uint64_t begin = d->next.text.len;
    tn_str s = item_of(&d->list, i);
    tn_buf_put(&d->next.text, s.ptr, s.len);
    squeeze(&d->next.text, begin, suffix, i + 1 == d->list.ends.count ? TN_STR("") : TN_STR(" "));
    end_item(d, &d->next);
  }
}

/* s: the blank, t: the mark between words. Equal neighbours are one. */
void tn_tk_decode_ctc(tn_tk_decode *d, const tn_tk_part *p) {
  tn_str blank = tn_tk_text_of(d->run.t, p->s), mark = tn_tk_text_of(d->run.t, p->t);
  for (uint32_t i = 0; i < d->list.ends.count; i++) {
    tn_str s = item_of(&d->list, i);
    if (i && tn_str_eq(s, item_of(&d->list, i - 1))) continue;
    uint64_t begin = d->next.text.len;
    tn_buf_put(&d->next.text, s.ptr, s.len);
    squeeze(&d->next.text, begin, blank, TN_STR(""));
    if (p->flags & TN_TK_CLEAN) {
      clean(&d->next.text, begin, true);
      squeeze(&d->next.text, begin, mark, TN_STR(" "));
    }
    if (d->next.text.len > begin) end_item(d, &d->next);
  }
}

void tn_tk_decode_replace(tn_tk_decode *d, const tn_tk_part *p) {
  tn_str content = tn_tk_text_of(d->run.t, p->t);
  for (uint32_t i = 0; i < d->list.ends.count && !d->run.status; i++) {
    tn_str s = item_of(&d->list, i);
    tn_tk_find(&d->run, p, s.ptr, (uint32_t)s.len);
    for (uint32_t j = 0; j < d->run.matches.count; j++) {
      tn_tk_match m = d->run.matches.items[j];
      if (m.is_match)
        tn_buf_put(&d->next.text, content.ptr, content.len);
      else
        tn_buf_put(&d->next.text, s.ptr + m.start, m.end - m.start);
    }
    end_item(d, &d->next);
  }
}

void tn_tk_decode_fuse(tn_tk_decode *d, const tn_tk_part *p) {
  (void)p;
  put_item(d, (tn_str){d->list.text.text ? d->list.text.text : "", d->list.text.len});
}

/* Takes the character s away, at most a of it in front and b behind. */
void tn_tk_decode_strip(tn_tk_decode *d, const tn_tk_part *p) {
  tn_str c = tn_tk_text_of(d->run.t, p->s);
  for (uint32_t i = 0; i < d->list.ends.count; i++) {
    tn_str s = item_of(&d->list, i);
    for (uint32_t n = 0; n < p->a && s.len >= c.len && !memcmp(s.ptr, c.ptr, c.len); n++)
      s.ptr += c.len, s.len -= c.len;
    for (uint32_t n = 0; n < p->b && s.len >= c.len && !memcmp(s.ptr + s.len - c.len, c.ptr, c.len); n++)
      s.len -= c.len;
    put_item(d, s);
  }
}

static int hex_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c |= 32;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int tn_tk_byte_of(tn_str s) {
  if (s.len != 6 || memcmp(s.ptr, "<0x", 3) || s.ptr[5] != '>') return -1;
  int high = hex_of(s.ptr[3]), low = hex_of(s.ptr[4]);
  return high < 0 || low < 0 ? -1 : high << 4 | low;
}

/* A run of bytes is one text if it is UTF-8, otherwise a U+FFFD for each byte. */
static void put_bytes(tn_tk_decode *d, tn_buf *bytes) {
  if (bytes->failed) tn_tk_fail(&d->run, TN_OOM);
  if (!bytes->len || bytes->failed) return;
  tn_str s = {bytes->text, bytes->len};
  uint64_t bad;
  if (tn_utf8_valid(s, &bad)) {
    put_item(d, s);
  } else {
    for (uint64_t i = 0; i < s.len; i++) put_item(d, TN_STR("\xef\xbf\xbd"));
  }
  bytes->len = 0;
}

void tn_tk_decode_byte_fallback(tn_tk_decode *d, const tn_tk_part *p) {
  (void)p;
  tn_buf bytes = {0};
  for (uint32_t i = 0; i < d->list.ends.count; i++) {
    tn_str s = item_of(&d->list, i);
    int byte = tn_tk_byte_of(s);
    if (byte >= 0) {
      tn_buf_put(&bytes, &(char){(char)byte}, 1);
      continue;
    }
    put_bytes(d, &bytes);
    put_item(d, s);
  }
  put_bytes(d, &bytes);
  tn_buf_fini(&bytes);
}

/* What transformers does to the whole text when tokenizer_config.json asks for clean_up_tokenization_spaces.
 */
void tn_tk_decode_clean_up(tn_tk_decode *d, const tn_tk_part *p) {
  tn_tk_decode_fuse(d, p);
  clean(&d->next.text, 0, false);
  if (d->next.ends.count) d->next.ends.items[0] = d->next.text.len;
}

/* ---- the whole ------------------------------------------------------------------------------- */
/* An added token that the normalizer changes has the changed text, and is then never special: so does the
 * reference. */
tn_str tn_tk_token_text(const tn_tokenizer *t, int32_t id, bool *special) {
  *special = false;
  const tn_tk_added *a = id < 0 ? NULL : tn_tk_added_of(t, (uint32_t)id);
  if (!a) return id < 0 || (uint32_t)id >= t->ntokens ? (tn_str){NULL, 0} : tn_tk_text_of(t, t->tokens[id]);
  tn_str normal = tn_tk_text_of(t, a->normal);
  *special = a->flags & TN_TK_ADDED_SPECIAL && !normal.ptr;
  return normal.ptr ? normal : tn_tk_text_of(t, a->text);
}

static void list_fini(tn_tk_list *l) {
  tn_buf_fini(&l->text);
  tn_vec_fini(&l->ends);
}

static void put_tokens(tn_tk_decode *d, const int32_t *ids, uint64_t n, bool skip_special) {
  bool joined = d->run.t->head->flags & TN_TK_HAS_DECODER, special;
  for (uint64_t i = 0; i < n && !d->run.status; i++) {
    tn_str s = tn_tk_token_text(d->run.t, ids[i], &special);
    if (!s.ptr || (special && skip_special)) continue;
    if (!joined && d->list.ends.count) tn_buf_puts(&d->list.text, " ");
    tn_buf_put(&d->list.text, s.ptr, s.len);
    end_item(d, &d->list);
  }
}

static void run_decoders(tn_tk_decode *d) {
  const tn_tokenizer *t = d->run.t;
  const uint32_t *stage = t->head->stage;
  for (uint32_t i = stage[TN_TK_STAGE_DECODE]; i < stage[TN_TK_STAGE_DECODE + 1] && !d->run.status; i++) {
    d->next.text.len = 0;
    d->next.ends.count = 0;
    tn_tk_decoders[t->parts[i].kind](d, &t->parts[i]);
    if (d->next.text.failed || d->next.text.len > UINT32_MAX) tn_tk_fail(&d->run, TN_OOM);
    tn_tk_list swap = d->list;
    d->list = d->next;
    d->next = swap;
  }
}

tn_status tn_tokenizer_decode(const tn_tokenizer *t, const int32_t *ids, uint64_t n, uint32_t flags,
                              tn_buf *out) {
  tn_tk_decode d = {0};
  tn_tk_run_init(&d.run, t);
  put_tokens(&d, ids, n, flags & TN_DETOKENIZE_SKIP_SPECIAL);
  if (!d.run.status) run_decoders(&d);
  if (!d.run.status && d.list.text.len) tn_buf_put(out, d.list.text.text, d.list.text.len);
  if (!d.run.status && out->failed) d.run.status = TN_OOM;
  list_fini(&d.list);
  list_fini(&d.next);
  tn_tk_run_fini(&d.run);
  return d.run.status;
}
