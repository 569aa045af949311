/* vocabulary.c - the bytes of every token, and the trie over them that a grammar walks. Tokens are sorted by
 * their bytes, so that the trie comes out depth first. */
#include "backends/runtime/grammar.h"
#include <stdlib.h>

/* First eight bytes, big-endian, to compare by; then the token. */
typedef struct entry {
  uint64_t head;
  const char *bytes;
  uint32_t len, id;
} entry;

static uint64_t head_of(const char *s, uint32_t n) {
  uint64_t h = 0;
  for (uint32_t i = 0; i < 8; i++) h = h << 8 | (i < n ? (uint8_t)s[i] : 0);
  return h;
}

static int compare(const void *x, const void *y) {
  const entry *a = x, *b = y;
  if (a->head != b->head) return a->head < b->head ? -1 : 1;
  int c = memcmp(a->bytes, b->bytes, a->len < b->len ? a->len : b->len);
  if (c) return c;
  if (a->len != b->len) return a->len < b->len ? -1 : 1;
  return (a->id > b->id) - (a->id < b->id);
}

static uint32_t common(const entry *a, const entry *b) {
  uint32_t n = a->len < b->len ? a->len : b->len, i = 0;
  while (i < n && a->bytes[i] == b->bytes[i]) i++;
  return i;
}

static bool allocate(tn_vocabulary *v, const entry *e, uint32_t n) {
  uint64_t nodes = 1;
  for (uint32_t i = 0; i < n; i++) nodes += e[i].len - (i ? common(&e[i - 1], &e[i]) : 0);
  if (nodes > UINT32_MAX) return false;
  v->nnodes = (uint32_t)nodes;
  v->label = tn_mem_alloc(nodes);
  v->depth = tn_mem_alloc(nodes * sizeof *v->depth);
  v->end = tn_mem_alloc(nodes * sizeof *v->end);
  v->token = tn_mem_alloc(nodes * sizeof *v->token);
  v->next = tn_mem_alloc((v->ntokens + 1ull) * sizeof *v->next);
  return v->label && v->depth && v->end && v->token && v->next;
}

/* Nodes of one token after another; `path` holds those from the root to where we are. */
static void fill(tn_vocabulary *v, const entry *e, uint32_t n, uint32_t *path) {
  uint32_t node = 0, deep = 0;
  path[0] = 0;
  for (uint32_t i = 0; i < n; i++) {
    uint32_t same = i ? common(&e[i - 1], &e[i]) : 0;
    while (deep > same) v->end[path[deep--]] = node + 1;
    while (deep < e[i].len) {
      v->label[++node] = (uint8_t)e[i].bytes[deep++];
      v->depth[node] = (uint16_t)deep;
      path[deep] = node;
    }
    v->next[e[i].id] = v->token[path[deep]];
    v->token[path[deep]] = e[i].id + 1;
    if (deep > v->max_depth) v->max_depth = deep;
  }
  while (deep) v->end[path[deep--]] = node + 1;
  v->end[0] = node + 1;
}

/* From v->bytes and v->at. */
static tn_status build(tn_vocabulary *v) {
  uint32_t path[TN_VOCABULARY_TOKEN_MAX + 1], n = 0;
  entry *e = tn_mem_alloc((v->ntokens + 1ull) * sizeof *e);
  if (!e || v->bytes.failed) return tn_mem_free(e), TN_OOM;
  for (uint32_t i = 0; i < v->ntokens; i++) {
    uint32_t len = v->at[i + 1] - v->at[i];
    if (!len || len > TN_VOCABULARY_TOKEN_MAX) continue;
    const char *bytes = v->bytes.text + v->at[i];
    e[n++] = (entry){head_of(bytes, len), bytes, len, i};
  }
  qsort(e, n, sizeof *e, compare);
  bool ok = allocate(v, e, n);
  if (ok) fill(v, e, n, path);
  tn_mem_free(e);
  return ok ? TN_OK : TN_OOM;
}

static tn_status prepare(tn_vocabulary *v, uint32_t n) {
  memset(v, 0, sizeof *v);
  v->ntokens = n;
  v->at = tn_mem_alloc((n + 1ull) * sizeof *v->at);
  return v->at ? TN_OK : TN_OOM;
}

static tn_status put_token(tn_vocabulary *v, uint32_t i) {
  if (v->bytes.len > UINT32_MAX) return TN_OOM;
  v->at[i + 1] = (uint32_t)v->bytes.len;
  return TN_OK;
}

tn_status tn_vocabulary_open(tn_vocabulary *v, const tn_tokenizer *t, const int32_t *eos, uint32_t neos) {
  tn_status s = prepare(v, tn_tokenizer_size(t));
  for (uint32_t i = 0; i < v->ntokens && !s; i++) {
    bool ends = false;
    for (uint32_t k = 0; k < neos; k++) ends |= eos[k] == (int32_t)i;
    if (!ends) s = tn_tokenizer_bytes(t, (int32_t)i, &v->bytes);
    if (!s) s = put_token(v, i);
  }
  if (!s) s = build(v);
  if (s) tn_vocabulary_close(v);
  return s;
}

tn_status tn_vocabulary_of(tn_vocabulary *v, const tn_str *texts, uint32_t n) {
  tn_status s = prepare(v, n);
  for (uint32_t i = 0; i < n && !s; i++) {
    if (texts[i].len) tn_buf_put(&v->bytes, texts[i].ptr, texts[i].len);
    s = put_token(v, i);
  }
  if (!s) s = build(v);
  if (s) tn_vocabulary_close(v);
  return s;
}

void tn_vocabulary_close(tn_vocabulary *v) {
  tn_buf_fini(&v->bytes);
  tn_mem_free(v->at);
  tn_mem_free(v->label);
  tn_mem_free(v->depth);
  tn_mem_free(v->end);
  tn_mem_free(v->token);
  tn_mem_free(v->next);
  memset(v, 0, sizeof *v);
}
