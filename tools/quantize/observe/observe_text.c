/* observe_text.c - a text as the calls that a model is observed with. Causal models get chunks of one size,
 * as llama-imatrix cuts them: the text's tokens one after the other, each chunk's first one replaced by the
 * beginning-of-text token where the tokenizer adds one. Others get a call per line. */
#include "tools/quantize/observe/observe_model.h"
#include <stdlib.h>

enum { CHUNK = 512 };

static int64_t number(const char *text, int64_t fallback) {
  return text ? strtoll(text, NULL, 10) : fallback;
}

uint32_t tn_windows_chunk(const tn_observe_source *x, uint32_t chunk) {
  int64_t most = number(tn_ir_meta_get(x->module, "max_positions"), CHUNK);
  if (chunk) return chunk;
  return most > 0 && most < CHUNK ? (uint32_t)most : CHUNK;
}

/* Appends the text's tokens. */
static tn_status tokenize(tn_windows *w, tn_observe_run *r, tn_str text, tn_diags *d) {
  uint64_t room = text.len / 2 + 64, n = 0;
  for (int i = 0; i < 2; i++) {
    if (room > INT32_MAX - w->ids.count)
      return tn_fail(d, TN_UNSUPPORTED, NULL, NULL, "the text has too many tokens");
    uint32_t need = w->ids.count + (uint32_t)room;
    if (!tn_vec_reserve(&w->ids, need) || !tn_vec_reserve(&w->types, need)) return TN_OOM;
    n = room;
    tn_status s = r->o.api->tokenize(r->s, text.ptr, text.len, NULL, 0, 0, w->ids.items + w->ids.count,
                                     w->types.items + w->types.count, &n);
    if (s == TN_OK) break;
    if (n <= room || i) return tn_fail(d, s, NULL, NULL, "%s", r->o.api->error(r->s));
    room = n;
  }
  w->ids.count += (uint32_t)n;
  w->types.count += (uint32_t)n;
  return TN_OK;
}

/* The token that stands before every text; -1: none. */
static tn_status first_token(tn_observe_run *r, int32_t *out, tn_diags *d) {
  tn_windows none = {0};
  tn_status s = tokenize(&none, r, TN_STR(""), d);
  *out = s == TN_OK && none.ids.count ? none.ids.items[0] : -1;
  tn_windows_fini(&none);
  return s;
}

static tn_status cut_chunks(tn_windows *w, tn_observe_run *r, const char *path, uint32_t chunk,
                            uint32_t chunks, tn_diags *d) {
  int32_t first;
  TN_TRY(first_token(r, &first, d));
  if (w->ids.count < 2) return tn_fail(d, TN_INVALID, path, NULL, "the text has %u tokens", w->ids.count);
  if (chunk > w->ids.count) chunk = w->ids.count; /* a short text is one chunk */
  uint32_t n = w->ids.count / chunk;
  if (chunks && chunks < n) n = chunks;
  for (uint32_t i = 0; i <= n; i++) {
    if (!tn_vec_push(&w->begin, i * chunk)) return TN_OOM;
    if (i < n && first >= 0) w->ids.items[i * chunk] = first;
  }
  w->count = n;
  w->chunk = chunk;
  return TN_OK;
}

/* One line: what is longer than the model takes loses its middle end, the last token stays. */
static tn_status add_line(tn_windows *w, tn_observe_run *r, tn_str line, uint32_t most, tn_diags *d) {
  uint32_t from = w->ids.count;
  if (!line.len) return TN_OK;
  TN_TRY(tokenize(w, r, line, d));
  if (w->ids.count == from) return TN_OK;
  if (w->ids.count - from > most) {
    w->ids.items[from + most - 1] = w->ids.items[w->ids.count - 1];
    w->ids.count = w->types.count = from + most;
  }
  w->count++;
  return tn_vec_push(&w->begin, w->ids.count) ? TN_OK : TN_OOM;
}

static tn_status cut_lines(tn_windows *w, tn_observe_run *r, tn_str text, uint32_t chunk, uint32_t lines,
                           tn_diags *d) {
  const tn_model_api *api = r->o.api;
  int64_t limit =
      number(api->meta(r->o.model, "max_seq_length"), number(api->meta(r->o.model, "max_positions"), CHUNK));
  uint32_t most = chunk ? chunk : limit > 1 && limit < UINT32_MAX ? (uint32_t)limit : CHUNK;
  if (!tn_vec_push(&w->begin, 0)) return TN_OOM;
  for (uint64_t at = 0; at < text.len && (!lines || w->count < lines);) {
    const char *p = text.ptr + at, *end = memchr(p, '\n', text.len - at);
    uint64_t n = end ? (uint64_t)(end - p) : text.len - at;
    TN_TRY(add_line(w, r, (tn_str){p, n && p[n - 1] == '\r' ? n - 1 : n}, most, d));
    at += n + 1;
  }
  return TN_OK;
}

tn_status tn_windows_read(tn_windows *w, tn_observe_run *r, const char *path, uint32_t chunk, uint32_t chunks,
                          tn_diags *d) {
  tn_file f;
  tn_entry_info info;
  const char *why;
  *w = (tn_windows){0};
  tn_arena_init(&w->arena);
  tn_status s = tn_file_map(&f, path, &why);
  if (s) return tn_fail(d, s, path, NULL, "cannot read the text: %s", why);
  tn_str text = {(const char *)f.data, f.size};
  r->o.api->entry(r->o.model, (uint32_t)r->entry, &info);
  if (!strcmp(info.name, "logits")) {
    s = tokenize(w, r, text, d);
    if (!s) s = cut_chunks(w, r, path, chunk, chunks, d);
  } else {
    s = cut_lines(w, r, text, chunk, chunks, d);
  }
  tn_file_unmap(&f);
  if (s == TN_OK && !w->count) return tn_fail(d, TN_INVALID, path, NULL, "there is no line of text in it");
  return s;
}

void tn_windows_fini(tn_windows *w) {
  tn_vec_fini(&w->ids);
  tn_vec_fini(&w->types);
  tn_vec_fini(&w->begin);
  tn_arena_fini(&w->arena);
}

/* By the names of model pages, and those of exporters. NULL: no text gives it. */
static int32_t *tokens_of(tn_windows *w, const char *input, uint32_t from, uint32_t n) {
  if (!strcmp(input, "ids") || !strcmp(input, "input_ids")) return w->ids.items + from;
  if (!strcmp(input, "types") || !strcmp(input, "token_type_ids")) return w->types.items + from;
  bool mask = !strcmp(input, "mask") || !strcmp(input, "attention_mask"),
       places = !strcmp(input, "position_ids");
  int32_t *made = mask || places ? tn_arena_alloc(&w->arena, n * sizeof *made) : NULL;
  for (uint32_t i = 0; made && i < n; i++) made[i] = mask ? 1 : (int32_t)i;
  return made;
}

tn_status tn_windows_inputs(tn_windows *w, tn_observe_run *r, uint32_t i, tn_tensor *in, uint32_t room,
                            tn_diags *d) {
  tn_entry_info info;
  uint32_t from = w->begin.items[i], n = w->begin.items[i + 1] - from;
  tn_arena_fini(&w->arena);
  tn_arena_init(&w->arena);
  r->o.api->entry(r->o.model, (uint32_t)r->entry, &info);
  if (info.ninputs > room)
    return tn_fail(d, TN_UNSUPPORTED, NULL, info.name, "%u inputs, at most %u are given", info.ninputs, room);
  for (uint32_t k = 0; k < info.ninputs; k++) {
    tn_arg_info arg;
    r->o.api->input(r->o.model, (uint32_t)r->entry, k, &arg);
    if (!strncmp(arg.name, TN_CARRIED, strlen(TN_CARRIED))) continue;
    int32_t *data = tokens_of(w, arg.name, from, n);
    if (!data || arg.rank != 2)
      return tn_fail(d, TN_UNSUPPORTED, NULL, arg.name,
                     "the model needs an input %s that no text gives: give stored inputs", arg.shape);
    in[k] = (tn_tensor){data, TN_DT_i32, 2, {1, n}};
  }
  return TN_OK;
}
