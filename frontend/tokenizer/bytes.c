/* bytes.c - the bytes that one token adds to a text. Decoding gives whole characters only; here a token that
 * holds part of one gives that part. Decoders that look at neighbours see the token between two others. */
#include "frontend/tokenizer/engine.h"

/* Decoders that look at the whole text, and what they do at its ends, say nothing of a token in its middle.
 */
static bool says_nothing(tn_tk_decoder *f) {
  return f == tn_tk_decode_fuse || f == tn_tk_decode_strip || f == tn_tk_decode_clean_up;
}

/* The bytes that the characters stand for; false if one of them is no stand-in. */
static bool put_byte_level(tn_str s, tn_buf *out) {
  uint64_t before = out->len;
  for (uint32_t at = 0; at < s.len;) {
    int byte = tn_tk_char_to_byte(tn_tk_char(s.ptr, &at));
    if (byte < 0) return out->len = before, false;
    tn_buf_put(out, &(char){(char)byte}, 1);
  }
  return true;
}

static void set_list(tn_tk_list *l, tn_str s) {
  static const char edge[] = "a";
  const tn_str items[] = {{edge, 1}, s, {edge, 1}};
  l->text.len = 0;
  l->ends.count = 0;
  for (size_t i = 0; i < TN_COUNT(items); i++) {
    if (items[i].len) tn_buf_put(&l->text, items[i].ptr, items[i].len);
    if (!tn_vec_push(&l->ends, l->text.len)) l->text.failed = true;
  }
}

static tn_str middle(const tn_tk_list *l) {
  uint64_t begin = l->ends.items[0];
  return (tn_str){l->text.text + begin, l->ends.items[1] - begin};
}

/* Runs one decoder over the token between its neighbours: its text is then in d->list. */
static void run_decoder(tn_tk_decode *d, tn_tk_decoder *f, const tn_tk_part *p) {
  d->next.text.len = 0;
  d->next.ends.count = 0;
  f(d, p);
  if (d->next.text.failed) tn_tk_fail(&d->run, TN_OOM);
  if (d->run.status || d->next.ends.count != 3) return;
  tn_tk_list swap = d->list;
  d->list = d->next;
  d->next = swap;
}

static void put_bytes(tn_tk_decode *d, tn_str s, tn_buf *out) {
  const tn_tokenizer *t = d->run.t;
  const uint32_t *stage = t->head->stage;
  set_list(&d->list, s);
  if (d->list.text.failed) tn_tk_fail(&d->run, TN_OOM);
  for (uint32_t i = stage[TN_TK_STAGE_DECODE]; i < stage[TN_TK_STAGE_DECODE + 1] && !d->run.status; i++) {
    tn_tk_decoder *f = tn_tk_decoders[t->parts[i].kind];
    int byte = f == tn_tk_decode_byte_fallback ? tn_tk_byte_of(middle(&d->list)) : -1;
    if (byte >= 0) {
      tn_buf_put(out, &(char){(char)byte}, 1);
      return;
    }
    if (f == tn_tk_decode_byte_level) {
      if (put_byte_level(middle(&d->list), out)) return;
    } else if (f != tn_tk_decode_byte_fallback && !says_nothing(f)) {
      run_decoder(d, f, &t->parts[i]);
    }
  }
  if (d->run.status) return;
  if (!(t->head->flags & TN_TK_HAS_DECODER)) tn_buf_put(out, " ", 1);
  s = middle(&d->list);
  if (s.len) tn_buf_put(out, s.ptr, s.len);
}

tn_status tn_tokenizer_bytes(const tn_tokenizer *t, int32_t id, tn_buf *out) {
  bool special;
  tn_str s = tn_tk_token_text(t, id, &special);
  if (!s.ptr || special) return TN_OK;
  tn_tk_decode d = {0};
  tn_tk_run_init(&d.run, t);
  put_bytes(&d, s, out);
  tn_status status = d.run.status ? d.run.status : out->failed ? TN_OOM : TN_OK;
  tn_buf_fini(&d.list.text), tn_vec_fini(&d.list.ends);
  tn_buf_fini(&d.next.text), tn_vec_fini(&d.next.ends);
  tn_tk_run_fini(&d.run);
  return status;
}
