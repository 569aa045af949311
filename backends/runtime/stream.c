/* stream.c - the text of tokens as they come: the tail of the tokens is decoded with and without the newest
 * and the difference is its text, held back while it ends in the middle of a character, or while it may be
 * the beginning of a stop string. */
#include "backends/runtime/generate.h"

enum { WINDOW = 6 }; /* tokens of the prompt before the first new one, so that spaces come out right */

void tn_stream_open(tn_stream *st, const tn_tokenizer *tokenizer, uint64_t nprompt) {
  *st = (tn_stream){
      .tokenizer = tokenizer, .window = nprompt > WINDOW ? nprompt - WINDOW : 0, .shown = nprompt};
}

void tn_stream_close(tn_stream *st) {
  tn_buf_fini(&st->before);
  tn_buf_fini(&st->after);
  tn_buf_fini(&st->held);
}

/* Whether the text ends inside a character: cut short, or with the sign that decoders put for that. */
static bool unfinished(const tn_buf *b) {
  static const char replacement[] = "\xef\xbf\xbd";
  uint64_t bad;
  if (b->len >= 3 && !memcmp(b->text + b->len - 3, replacement, 3)) return true;
  return b->len && !tn_utf8_valid((tn_str){b->text, b->len}, &bad) && b->len - bad < 4;
}

static tn_status decode(tn_stream *st, tn_session *s, const int32_t *tokens, uint64_t from, uint64_t to,
                        tn_buf *out) {
  out->len = 0;
  tn_status status =
      tn_tokenizer_decode(st->tokenizer, tokens + from, to - from, TN_DETOKENIZE_SKIP_SPECIAL, out);
  if (status || out->failed)
    return tn_rt_fail(s, status ? status : TN_OOM, "token %d has no text", tokens[to - 1]);
  return TN_OK;
}

static tn_status new_text(tn_stream *st, tn_session *s, const int32_t *tokens, uint64_t n, bool last,
                          tn_str *out) {
  *out = (tn_str){"", 0};
  if (!st->tokenizer) return TN_OK;
  TN_TRY(decode(st, s, tokens, st->window, st->shown, &st->before));
  TN_TRY(decode(st, s, tokens, st->window, n, &st->after));
  if (st->after.len <= st->before.len || (!last && unfinished(&st->after))) return TN_OK;
  *out = (tn_str){st->after.text + st->before.len, st->after.len - st->before.len};
  st->window = st->shown;
  st->shown = n;
  return TN_OK;
}

/* Where the first stop string begins in text, or its length; *partial: where one may have begun. */
static uint64_t find_stop(tn_str text, const tn_sampling *o, uint64_t *partial) {
  uint64_t first = text.len;
  *partial = text.len;
  for (uint32_t i = 0; i < o->nstop; i++) {
    uint64_t len = strlen(o->stop[i]);
    for (uint64_t at = 0; len && at < text.len && at < first; at++) {
      uint64_t n = text.len - at < len ? text.len - at : len;
      if (memcmp(text.ptr + at, o->stop[i], n)) continue;
      if (n == len)
        first = at;
      else if (at < *partial)
        *partial = at;
    }
  }
  return first;
}

tn_status tn_stream_next(tn_stream *st, tn_session *s, const int32_t *tokens, uint64_t n, bool last,
                         const tn_sampling *o, tn_str *text, bool *stopped) {
  uint64_t partial;
  *stopped = false;
  TN_TRY(new_text(st, s, tokens, n, last, text));
  if (!o->nstop) return TN_OK;
  if (st->given) memmove(st->held.text, st->held.text + st->given, st->held.len - st->given);
  st->held.len -= st->given;
  tn_buf_put(&st->held, text->ptr, text->len);
  if (st->held.failed) return tn_rt_fail(s, TN_OOM, "no memory for generation");
  *text = (tn_str){st->held.len ? st->held.text : "", st->held.len};
  uint64_t stop = find_stop(*text, o, &partial);
  *stopped = stop < text->len;
  text->len = *stopped || last || stop < partial ? stop : partial;
  st->given = text->len;
  return TN_OK;
}
