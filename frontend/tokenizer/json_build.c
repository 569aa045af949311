/* json_build.c - lays a tokenizer out as a blob: texts once each, hash tables half full at most, tries in
 * breadth-first order. The same input gives the same bytes. */
#include "frontend/tokenizer/json_build.h"
#include <stdlib.h>

void tn_tk_build_fini(tn_tk_build *b) {
  tn_buf_fini(&b->strings);
  tn_map_fini(&b->interned);
  tn_vec_fini(&b->tokens);
  tn_vec_fini(&b->scores);
  tn_vec_fini(&b->ranks);
  tn_vec_fini(&b->merges);
  tn_vec_fini(&b->added);
  for (int i = 0; i < TN_TK_STAGES; i++) tn_vec_fini(&b->parts[i]);
  tn_vec_fini(&b->trims);
  tn_vec_fini(&b->pieces);
  tn_vec_fini(&b->charsmap);
  memset(b, 0, sizeof *b);
}

tn_tk_str tn_tk_build_str(tn_tk_build *b, tn_str s) {
  enum { LONG = 256 }; /* longer ones are not worth looking up */
  if (!s.ptr) return (tn_tk_str){TN_TK_NONE, 0};
  uint64_t off = b->strings.len;
  if (s.len <= LONG && tn_map_get(&b->interned, s, &off)) return (tn_tk_str){(uint32_t)off, (uint32_t)s.len};
  tn_buf_put(&b->strings, s.ptr, s.len);
  if (b->strings.failed || b->strings.len >= TN_TK_NONE) b->failed = true;
  if (s.len <= LONG && tn_map_put(&b->interned, s, off, NULL)) b->failed = true;
  return (tn_tk_str){(uint32_t)off, (uint32_t)s.len};
}

void tn_tk_build_token(tn_tk_build *b, uint32_t id, tn_str text) {
  if (id >= b->tokens.count) {
    if (!tn_vec_reserve(&b->tokens, id + 1)) {
      b->failed = true;
      return;
    }
    for (uint32_t i = b->tokens.count; i <= id; i++) b->tokens.items[i] = (tn_str){NULL, 0};
    b->tokens.count = id + 1;
  }
  b->tokens.items[id] = text;
}

/* ---- hash tables ----------------------------------------------------------------------------- */
typedef TN_VEC(uint32_t) words;

static bool slots_init(words *slots, uint32_t items) {
  uint32_t n = 2;
  while (n < 2 * (uint64_t)items && n < 1u << 31) n *= 2;
  if (!tn_vec_reserve(slots, n)) return false;
  memset(slots->items, 0, n * sizeof *slots->items);
  slots->count = n;
  return true;
}

/* Of equal tokens the last one is found. */
static void index_tokens(tn_tk_build *b, words *slots) {
  if (!slots_init(slots, b->tokens.count)) {
    b->failed = true;
    return;
  }
  for (uint32_t id = 0; id < b->tokens.count; id++) {
    tn_str s = b->tokens.items[id];
    if (!s.ptr) continue;
    uint32_t mask = slots->count - 1, at = (uint32_t)tn_hash_bytes(s.ptr, s.len, 0) & mask;
    while (slots->items[at] && !tn_str_eq(b->tokens.items[slots->items[at] - 1], s)) at = (at + 1) & mask;
    slots->items[at] = id + 1;
  }
}

static void index_merges(tn_tk_build *b, words *slots) {
  if (!b->merges.count) return;
  if (!slots_init(slots, b->merges.count)) {
    b->failed = true;
    return;
  }
  for (uint32_t rank = 0; rank < b->merges.count; rank++) {
    const tn_tk_merge *m = &b->merges.items[rank];
    uint32_t mask = slots->count - 1, at = tn_tk_pair_hash(m->left, m->right) & mask;
    for (; slots->items[at]; at = (at + 1) & mask) {
      const tn_tk_merge *other = &b->merges.items[slots->items[at] - 1];
      if (other->left == m->left && other->right == m->right) break;
    }
    slots->items[at] = rank + 1;
  }
}

/* ---- tries ----------------------------------------------------------------------------------- */
typedef struct key {
  tn_str s;
  uint32_t value, order; /* of equal keys the one with the highest order counts */
} key;
typedef TN_VEC(key) keys;
typedef struct trie {
  TN_VEC(tn_tk_node) nodes;
  TN_VEC(uint8_t) labels;
} trie;
typedef struct pending { /* a node whose children are still to be made: its keys, and how long it is */
  uint32_t low, high, depth;
} pending;
typedef TN_VEC(pending) pendings;

static int key_order(const void *left, const void *right) {
  const key *a = left, *b = right;
  uint64_t n = a->s.len < b->s.len ? a->s.len : b->s.len;
  int order = n ? memcmp(a->s.ptr, b->s.ptr, n) : 0;
  if (order) return order;
  if (a->s.len != b->s.len) return a->s.len < b->s.len ? -1 : 1;
  return a->order < b->order ? -1 : a->order > b->order;
}

static bool trie_node(trie *t, pendings *todo, pending p, uint8_t label) {
  return tn_vec_push(&t->nodes, ((tn_tk_node){0, 0})) && tn_vec_push(&t->labels, label) &&
         tn_vec_push(todo, p);
}

/* Makes the children of node i. */
static bool trie_expand(trie *t, const keys *k, pendings *todo, uint32_t i) {
  pending p = todo->items[i];
  t->nodes.items[i].first = t->nodes.count;
  for (; p.low < p.high && k->items[p.low].s.len == p.depth; p.low++)
    t->nodes.items[i].value = k->items[p.low].value + 1;
  while (p.low < p.high) {
    uint8_t label = (uint8_t)k->items[p.low].s.ptr[p.depth];
    uint32_t end = p.low + 1;
    while (end < p.high && (uint8_t)k->items[end].s.ptr[p.depth] == label) end++;
    if (!trie_node(t, todo, (pending){p.low, end, p.depth + 1}, label)) return false;
    p.low = end;
  }
  return true;
}

static bool trie_make(trie *t, keys *k) {
  pendings todo = {0};
  if (!k->count) return true;
  qsort(k->items, k->count, sizeof *k->items, key_order);
  bool ok = trie_node(t, &todo, (pending){0, k->count, 0}, 0);
  for (uint32_t i = 0; ok && i < t->nodes.count; i++) ok = trie_expand(t, k, &todo, i);
  uint32_t count = t->nodes.count;
  ok = ok && tn_vec_push(&t->nodes, ((tn_tk_node){count, 0}));
  tn_vec_fini(&todo);
  return ok;
}

static void trie_fini(trie *t) {
  tn_vec_fini(&t->nodes);
  tn_vec_fini(&t->labels);
}

static void vocabulary_trie(tn_tk_build *b, trie *t) {
  keys k = {0};
  bool ok = true;
  for (uint32_t id = 0; id < b->tokens.count && ok; id++) {
    if (b->tokens.items[id].len) ok = tn_vec_push(&k, ((key){b->tokens.items[id], id, id}));
  }
  if (!ok || !trie_make(t, &k)) b->failed = true;
  tn_vec_fini(&k);
}

static void added_trie(tn_tk_build *b, trie *t, bool normalized) {
  keys k = {0};
  bool ok = true;
  for (uint32_t i = 0; i < b->added.count && ok; i++) { /* of equal ones the first counts */
    const tn_tk_build_added *a = &b->added.items[i];
    tn_str s = normalized && a->normal.ptr ? a->normal : a->text;
    if (s.len && !(a->flags & TN_TK_ADDED_NORMALIZED) == !normalized)
      ok = tn_vec_push(&k, ((key){s, i, b->added.count - i}));
  }
  if (!ok || !trie_make(t, &k)) b->failed = true;
  tn_vec_fini(&k);
}

/* ---- the blob -------------------------------------------------------------------------------- */
static void put_section(tn_tk_build *b, tn_buf *out, uint64_t base, tn_tk_section_id id, const void *p,
                        uint64_t bytes) {
  static const char zeros[8] = {0};
  b->head.sections[id] = (tn_tk_section){out->len - base, bytes};
  if (bytes) tn_buf_put(out, p, bytes);
  tn_buf_put(out, zeros, (8 - (out->len - base) % 8) % 8);
}
#define PUT(id, v) put_section(b, out, base, id, (v).items, (uint64_t)(v).count * sizeof *(v).items)

static void put_tries(tn_tk_build *b, tn_buf *out, uint64_t base) {
  trie vocabulary = {0}, raw = {0}, normal = {0};
  if (b->vocabulary_trie) vocabulary_trie(b, &vocabulary);
  added_trie(b, &raw, false);
  added_trie(b, &normal, true);
  PUT(TN_TK_VOCAB_NODES, vocabulary.nodes);
  PUT(TN_TK_VOCAB_LABELS, vocabulary.labels);
  PUT(TN_TK_RAW_NODES, raw.nodes);
  PUT(TN_TK_RAW_LABELS, raw.labels);
  PUT(TN_TK_NORMAL_NODES, normal.nodes);
  PUT(TN_TK_NORMAL_LABELS, normal.labels);
  trie_fini(&vocabulary);
  trie_fini(&raw);
  trie_fini(&normal);
}

static void put_tables(tn_tk_build *b, tn_buf *out, uint64_t base) {
  words slots = {0}, merge_slots = {0};
  index_tokens(b, &slots);
  index_merges(b, &merge_slots);
  PUT(TN_TK_INDEX, slots);
  PUT(TN_TK_SCORES, b->scores);
  PUT(TN_TK_RANKS, b->ranks);
  PUT(TN_TK_MERGES, b->merges);
  PUT(TN_TK_MERGE_INDEX, merge_slots);
  tn_vec_fini(&slots);
  tn_vec_fini(&merge_slots);
}

static void put_tokens(tn_tk_build *b, tn_buf *out, uint64_t base) {
  TN_VEC(tn_tk_str) tokens = {0};
  TN_VEC(tn_tk_added) added = {0};
  bool ok = true;
  for (uint32_t i = 0; i < b->tokens.count && ok; i++)
    ok = tn_vec_push(&tokens, tn_tk_build_str(b, b->tokens.items[i]));
  for (uint32_t i = 0; i < b->added.count && ok; i++) {
    const tn_tk_build_added *a = &b->added.items[i];
    tn_tk_added x = {a->id, a->flags, tn_tk_build_str(b, a->text), tn_tk_build_str(b, a->normal)};
    ok = tn_vec_push(&added, x);
    if (a->id >= b->head.size) b->head.size = a->id + 1;
  }
  if (!ok) b->failed = true;
  PUT(TN_TK_TOKENS, tokens);
  PUT(TN_TK_ADDED, added);
  tn_vec_fini(&tokens);
  tn_vec_fini(&added);
}

static void put_parts(tn_tk_build *b, tn_buf *out, uint64_t base) {
  TN_VEC(tn_tk_part) parts = {0};
  for (uint32_t i = 0; i < TN_TK_STAGES; i++) {
    b->head.stage[i] = parts.count;
    for (uint32_t j = 0; j < b->parts[i].count; j++) {
      if (!tn_vec_push(&parts, b->parts[i].items[j])) b->failed = true;
    }
  }
  b->head.stage[TN_TK_STAGES] = parts.count;
  PUT(TN_TK_PARTS, parts);
  tn_vec_fini(&parts);
}

static int added_order(const void *left, const void *right) {
  const tn_tk_build_added *a = left, *b = right;
  return a->id < b->id ? -1 : a->id > b->id;
}

tn_status tn_tk_build_write(tn_tk_build *b, tn_buf *out) {
  uint64_t base = out->len;
  memcpy(b->head.magic, TN_TK_MAGIC, sizeof b->head.magic);
  b->head.version = TN_TK_VERSION;
  b->head.size = b->tokens.count;
  if (b->added.count) qsort(b->added.items, b->added.count, sizeof *b->added.items, added_order);
  tn_buf_put(out, &b->head, sizeof b->head);
  put_tokens(b, out, base);
  put_tables(b, out, base);
  put_tries(b, out, base);
  put_parts(b, out, base);
  PUT(TN_TK_TRIMS, b->trims);
  PUT(TN_TK_PIECES, b->pieces);
  PUT(TN_TK_CHARSMAP, b->charsmap);
  put_section(b, out, base, TN_TK_STRINGS, b->strings.text, b->strings.len);
  b->head.bytes = out->len - base;
  if (out->failed || b->failed) return b->strings.len >= TN_TK_NONE ? TN_INVALID : TN_OOM;
  memcpy(out->text + base, &b->head, sizeof b->head);
  return TN_OK;
}
