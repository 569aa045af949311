/* text.c - the tokenizer's face in the model table: fixed buffers of the caller, their need reported when
 * they are too small. */
#include "backends/runtime/rt.h"

static tn_status tokenizer_of(tn_session *s, const tn_tokenizer **out) {
  *out = s->model->tokenizer;
  return *out ? TN_OK : tn_rt_fail(s, TN_NOT_FOUND, "the model has no tokenizer");
}

tn_status tn_rt_tokenize(tn_session *s, const char *text, uint64_t len, const char *pair, uint64_t pair_len,
                         uint32_t flags, int32_t *ids, int32_t *types, uint64_t *n) {
  const tn_tokenizer *t;
  TN_TRY(tokenizer_of(s, &t));
  tn_tokens tokens = {0};
  uint32_t engine = flags & TN_TOK_NO_SPECIAL ? TN_TOKENIZE_NO_SPECIAL : 0;
  tn_status status =
      tn_tokenizer_encode(t, (tn_str){text ? text : "", len}, (tn_str){pair, pair_len}, engine, &tokens);
  uint64_t room = *n;
  *n = tokens.count;
  if (status)
    status = tn_rt_fail(s, status, "the text of %llu bytes could not be tokenized", (unsigned long long)len);
  else if (tokens.count > room)
    status = tn_rt_fail(s, TN_INVALID, "the text has %u tokens, there is room for %llu", tokens.count,
                        (unsigned long long)room);
  for (uint32_t i = 0; !status && i < tokens.count; i++) {
    ids[i] = tokens.items[i].id;
    if (types) types[i] = (int32_t)tokens.items[i].type;
  }
  tn_vec_fini(&tokens);
  return status;
}

tn_status tn_rt_detokenize(tn_session *s, const int32_t *ids, uint64_t nids, uint32_t flags, char *text,
                           uint64_t *len) {
  const tn_tokenizer *t;
  TN_TRY(tokenizer_of(s, &t));
  tn_buf out = {0};
  tn_status status =
      tn_tokenizer_decode(t, ids, nids, flags & TN_TOK_SKIP_SPECIAL ? TN_DETOKENIZE_SKIP_SPECIAL : 0, &out);
  uint64_t room = *len;
  *len = out.len;
  if (!status && out.failed) status = TN_OOM;
  if (status)
    status = tn_rt_fail(s, status, "%llu ids could not be turned into text", (unsigned long long)nids);
  else if (out.len > room)
    status = tn_rt_fail(s, TN_INVALID, "the text has %llu bytes, there is room for %llu",
                        (unsigned long long)out.len, (unsigned long long)room);
  else if (out.len)
    memcpy(text, out.text, out.len);
  if (!status && out.len < room) text[out.len] = 0;
  tn_buf_fini(&out);
  return status;
}

const char *tn_rt_token_text(tn_session *s, int32_t id, uint64_t *len) {
  tn_str token = s->model->tokenizer ? tn_tokenizer_token(s->model->tokenizer, id) : (tn_str){0};
  if (len) *len = token.len;
  return token.ptr;
}

tn_status tn_rt_token_id(tn_session *s, const char *token, int32_t *id) {
  const tn_tokenizer *t;
  TN_TRY(tokenizer_of(s, &t));
  *id = tn_tokenizer_id(t, tn_str_of(token));
  return *id < 0 ? tn_rt_fail(s, TN_NOT_FOUND, "no token '%s'", token) : TN_OK;
}
