/* blob.c - opens a blob: every offset, index and count in it is checked here, so that damage is an error now
 * and never a wild read later. Also the lookups in its tables. */
#include "frontend/tokenizer/engine.h"
#include <stdio.h>

static const uint32_t item_sizes[TN_TK_SECTIONS] = {
    [TN_TK_STRINGS] = 1,
    [TN_TK_TOKENS] = sizeof(tn_tk_str),
    [TN_TK_INDEX] = 4,
    [TN_TK_SCORES] = 8,
    [TN_TK_RANKS] = 4,
    [TN_TK_MERGES] = sizeof(tn_tk_merge),
    [TN_TK_MERGE_INDEX] = 4,
    [TN_TK_VOCAB_NODES] = sizeof(tn_tk_node),
    [TN_TK_VOCAB_LABELS] = 1,
    [TN_TK_ADDED] = sizeof(tn_tk_added),
    [TN_TK_RAW_NODES] = sizeof(tn_tk_node),
    [TN_TK_RAW_LABELS] = 1,
    [TN_TK_NORMAL_NODES] = sizeof(tn_tk_node),
    [TN_TK_NORMAL_LABELS] = 1,
    [TN_TK_PARTS] = sizeof(tn_tk_part),
    [TN_TK_TRIMS] = 4,
    [TN_TK_PIECES] = sizeof(tn_tk_piece),
    [TN_TK_CHARSMAP] = 4,
};

/* What a part needs. */
enum {
  NEED_TEXT = 1,              /* s is given */
  NEED_CHAR = 2,              /* s is given and not empty */
  NEED_CONTENT = 4,           /* t is given */
  NEED_MARK = 8,              /* t is given and not empty */
  NEED_PATTERN = 16,          /* s is a regex, or a literal that is not empty */
  NEED_OPTIONAL_PATTERN = 32, /* s is a regex, or not looked at */
  NEED_BEHAVIOUR = 64,
  NEED_SCHEME = 128,
  NEED_LENGTH = 256, /* a > 0 */
  NEED_MAP = 512     /* units a .. a + b of the charsmap; s: its texts */
};
#define TEXT NEED_TEXT
#define CHAR NEED_CHAR
#define CONTENT NEED_CONTENT
#define MARK NEED_MARK
#define PATTERN NEED_PATTERN
#define OPTIONAL_PATTERN NEED_OPTIONAL_PATTERN
#define BEHAVIOUR NEED_BEHAVIOUR
#define SCHEME NEED_SCHEME
#define LENGTH NEED_LENGTH
#define MAP NEED_MAP
static const uint32_t normalizer_needs[] = {
#define TN_TK_NORMALIZER(name, type, needs) needs,
#include "frontend/tokenizer/parts.def"
};
static const uint32_t pre_tokenizer_needs[] = {
#define TN_TK_PRE_TOKENIZER(name, type, needs) needs,
#include "frontend/tokenizer/parts.def"
};
static const uint32_t decoder_needs[] = {
#define TN_TK_DECODER(name, type, needs) needs,
#include "frontend/tokenizer/parts.def"
};
enum {
#define TN_TK_MODEL(name, type) MODEL_##name,
#include "frontend/tokenizer/parts.def"
  MODELS
};
static const struct {
  const uint32_t *needs;
  uint32_t kinds;
} stages[TN_TK_STAGES] = {{normalizer_needs, TN_COUNT(normalizer_needs)},
                          {pre_tokenizer_needs, TN_COUNT(pre_tokenizer_needs)},
                          {decoder_needs, TN_COUNT(decoder_needs)}};

static const void *section(const tn_tokenizer *t, tn_tk_section_id id, uint32_t *count) {
  tn_tk_section s = t->head->sections[id];
  *count = (uint32_t)(s.bytes / item_sizes[id]);
  return *count ? (const char *)t->blob.ptr + s.off : NULL;
}

/* ---- checks: each gives NULL, or what is wrong ----------------------------------------------- */
static const char *check_head(tn_bytes blob) {
  const tn_tk_header *h = blob.ptr;
  const uint16_t one = 1;
  if (!*(const char *)&one) return "this machine is big-endian, tokenizers are little-endian";
  if ((uintptr_t)blob.ptr % 8) return "the tokenizer is not aligned to 8 bytes";
  if (blob.len < sizeof *h) return "the tokenizer is too short";
  if (memcmp(h->magic, TN_TK_MAGIC, sizeof h->magic)) return "not a tokenizer";
  if (h->version != TN_TK_VERSION) return "the tokenizer has another version";
  if (h->bytes != blob.len) return "the tokenizer is truncated";
  for (uint32_t i = 0; i < TN_TK_SECTIONS; i++) {
    tn_tk_section s = h->sections[i];
    if (s.off % 8 || s.bytes % item_sizes[i] || s.off > blob.len || s.bytes > blob.len - s.off)
      return "a section of the tokenizer lies outside of it";
    if (s.bytes / item_sizes[i] > INT32_MAX) return "a section of the tokenizer is too long";
  }
  return NULL;
}

/* Not given, or a valid text: the section is valid, so only the ends matter. */
static bool str_ok(const tn_tokenizer *t, tn_tk_str s) {
  uint64_t n = t->head->sections[TN_TK_STRINGS].bytes;
  if (s.off == TN_TK_NONE) return !s.len;
  if (s.off > n || s.len > n - s.off) return false;
  const char *p = t->strings + s.off;
  return !s.len || ((p[0] & 0xc0) != 0x80 && (s.off + s.len == n || (p[s.len] & 0xc0) != 0x80));
}

/* Hash slots: a power of two, one free at least, none above `limit`. */
static bool slots_ok(const uint32_t *slots, uint32_t count, uint32_t limit) {
  bool room = false;
  if (!count || count & (count - 1)) return false;
  for (uint32_t i = 0; i < count; i++) {
    if (slots[i] > limit) return false;
    room |= !slots[i];
  }
  return room;
}

static const char *check_vocabulary(const tn_tokenizer *t) {
  uint32_t n;
  uint64_t bad;
  section(t, TN_TK_STRINGS, &n);
  if (n && !tn_utf8_valid((tn_str){t->strings, n}, &bad)) return "a text in the tokenizer is not UTF-8";
  for (uint32_t i = 0; i < t->ntokens; i++) {
    if (!str_ok(t, t->tokens[i])) return "a token of the tokenizer lies outside of its texts";
  }
  section(t, TN_TK_INDEX, &n);
  if (!slots_ok(t->index, n, t->ntokens)) return "the tokenizer's table of tokens is damaged";
  section(t, TN_TK_SCORES, &n);
  if (n && n != t->ntokens) return "the tokenizer has not one score per token";
  section(t, TN_TK_RANKS, &n);
  if (n && n != t->ntokens) return "the tokenizer has not one rank per token";
  if (t->nmerges) {
    section(t, TN_TK_MERGE_INDEX, &n);
    if (!slots_ok(t->merge_index, n, t->nmerges)) return "the tokenizer's table of merges is damaged";
  }
  for (uint32_t i = 0; i < t->nmerges; i++) {
    if (t->merges[i].made >= t->ntokens) return "a merge of the tokenizer makes no token";
  }
  return NULL;
}

static bool trie_ok(const tn_tk_trie *trie, uint32_t nlabels, uint32_t limit) {
  uint32_t n = trie->count;
  if (!trie->nodes) return !nlabels;
  if (nlabels != n || trie->nodes[n].first != n || trie->nodes[0].first != 1) return false;
  for (uint32_t i = 0; i < n; i++) {
    if (trie->nodes[i].first <= i || trie->nodes[i].first > trie->nodes[i + 1].first) return false;
    if (trie->nodes[i].value > limit) return false;
  }
  return true;
}

static const char *check_tries(const tn_tokenizer *t) {
  const tn_tk_trie *tries[] = {&t->vocab, &t->raw, &t->normal};
  const tn_tk_section_id labels[] = {TN_TK_VOCAB_LABELS, TN_TK_RAW_LABELS, TN_TK_NORMAL_LABELS};
  for (int i = 0; i < 3; i++) {
    uint32_t n;
    section(t, labels[i], &n);
    if (!trie_ok(tries[i], n, i ? t->nadded : t->ntokens)) return "a search tree of the tokenizer is damaged";
  }
  return NULL;
}

static const char *check_model(const tn_tokenizer *t) {
  const tn_tk_header *h = t->head;
  if (h->model >= MODELS) return "the tokenizer has an unknown model";
  if (h->unk < TN_TK_UNK_MISSING || (h->unk >= 0 && (uint32_t)h->unk >= t->ntokens))
    return "the tokenizer's unknown token is none";
  if (!str_ok(t, h->prefix) || !str_ok(t, h->suffix) || h->prefix.len > TN_TK_AFFIX_MAX ||
      h->suffix.len > TN_TK_AFFIX_MAX)
    return "the tokenizer's prefix or suffix is damaged";
  if (h->model == MODEL_unigram && t->ntokens && !t->scores) return "the tokenizer has no scores";
  if (h->model == MODEL_spm && t->ntokens && !t->ranks) return "the tokenizer has no ranks";
  if (h->size < t->ntokens || h->size > INT32_MAX) return "the tokenizer's size is damaged";
  return NULL;
}

static const char *check_added(const tn_tokenizer *t) {
  for (uint32_t i = 0; i < t->nadded; i++) {
    const tn_tk_added *a = &t->added[i];
    if (a->id >= t->head->size || (i && a[-1].id >= a->id))
      return "an added token of the tokenizer has a bad id";
    if (a->text.off == TN_TK_NONE || !str_ok(t, a->text) || !str_ok(t, a->normal))
      return "an added token of the tokenizer lies outside of its texts";
  }
  return NULL;
}

static bool part_ok(const tn_tokenizer *t, const tn_tk_part *p, uint32_t needs) {
  bool s = p->s.off != TN_TK_NONE, c = p->t.off != TN_TK_NONE, regex = p->flags & TN_TK_REGEX;
  uint32_t units;
  section(t, TN_TK_CHARSMAP, &units);
  if (!str_ok(t, p->s) || !str_ok(t, p->t) || p->flags & ~(uint32_t)TN_TK_PART_FLAGS) return false;
  if (needs & (NEED_TEXT | NEED_MAP) && !s) return false;
  if (needs & NEED_CHAR && !p->s.len) return false;
  if (needs & NEED_CONTENT && !c) return false;
  if (needs & NEED_MARK && !p->t.len) return false;
  if (needs & NEED_PATTERN && !(regex ? s : p->s.len > 0)) return false;
  if (needs & NEED_OPTIONAL_PATTERN && regex && !s) return false;
  if (regex && !(needs & (NEED_PATTERN | NEED_OPTIONAL_PATTERN))) return false;
  if (needs & NEED_BEHAVIOUR && p->a >= TN_TK_BEHAVIOURS) return false;
  if (needs & NEED_SCHEME && p->a >= TN_TK_PREPENDS) return false;
  if (needs & NEED_LENGTH && !p->a) return false;
  return !(needs & NEED_MAP) || (p->a <= units && p->b <= units - p->a);
}

static const char *check_parts(const tn_tokenizer *t) {
  const uint32_t *stage = t->head->stage;
  if (stage[0] || stage[TN_TK_STAGES] != t->nparts) return "the tokenizer's list of parts is damaged";
  for (uint32_t i = 0; i < TN_TK_STAGES; i++) {
    if (stage[i] > stage[i + 1] || stage[i + 1] > t->nparts)
      return "the tokenizer's list of parts is damaged";
    for (uint32_t j = stage[i]; j < stage[i + 1]; j++) {
      const tn_tk_part *p = &t->parts[j];
      if (p->kind >= stages[i].kinds || !part_ok(t, p, stages[i].needs[p->kind]))
        return "a part of the tokenizer is damaged";
    }
  }
  return NULL;
}

static const char *check_template(const tn_tokenizer *t) {
  if (t->head->single > t->npieces || t->npieces > 1000 || t->ntrims > 16)
    return "the tokenizer's template is damaged";
  for (uint32_t i = 0; i < t->npieces; i++) {
    int32_t id = t->pieces[i].id;
    if (id < TN_TK_PIECE_B || (id == TN_TK_PIECE_B && i < t->head->single) ||
        (id >= 0 && (uint32_t)id >= t->head->size))
      return "a piece of the tokenizer's template is no token";
  }
  return NULL;
}

/* ---- opening --------------------------------------------------------------------------------- */
static void open_trie(const tn_tokenizer *t, tn_tk_trie *trie, tn_tk_section_id nodes,
                      tn_tk_section_id labels) {
  uint32_t n;
  trie->nodes = section(t, nodes, &n);
  trie->count = n ? n - 1 : 0; /* the last one only closes the one before */
  if (!trie->count) trie->nodes = NULL;
  trie->labels = section(t, labels, &n);
}

static void open_sections(tn_tokenizer *t) {
  uint32_t n;
  t->strings = section(t, TN_TK_STRINGS, &n);
  if (!t->strings) t->strings = t->blob.ptr; /* for texts without bytes */
  t->tokens = section(t, TN_TK_TOKENS, &t->ntokens);
  t->index = section(t, TN_TK_INDEX, &n);
  t->index_mask = n - 1;
  t->scores = section(t, TN_TK_SCORES, &n);
  t->ranks = section(t, TN_TK_RANKS, &n);
  t->merges = section(t, TN_TK_MERGES, &t->nmerges);
  t->merge_index = section(t, TN_TK_MERGE_INDEX, &n);
  t->merge_mask = n - 1;
  open_trie(t, &t->vocab, TN_TK_VOCAB_NODES, TN_TK_VOCAB_LABELS);
  open_trie(t, &t->raw, TN_TK_RAW_NODES, TN_TK_RAW_LABELS);
  open_trie(t, &t->normal, TN_TK_NORMAL_NODES, TN_TK_NORMAL_LABELS);
  t->added = section(t, TN_TK_ADDED, &t->nadded);
  t->parts = section(t, TN_TK_PARTS, &t->nparts);
  t->trims = section(t, TN_TK_TRIMS, &t->ntrims);
  t->pieces = section(t, TN_TK_PIECES, &t->npieces);
  t->charsmap = section(t, TN_TK_CHARSMAP, &n);
}

static const char *check(const tn_tokenizer *t) {
  static const char *(*const checks[])(const tn_tokenizer *) = {
      check_vocabulary, check_tries, check_model, check_added, check_parts, check_template};
  for (size_t i = 0; i < TN_COUNT(checks); i++) {
    const char *wrong = checks[i](t);
    if (wrong) return wrong;
  }
  return NULL;
}

static void fill_trie(tn_tk_trie *trie) {
  if (!trie->nodes) return;
  for (uint32_t i = 1; i < trie->nodes[1].first; i++) trie->root[trie->labels[i]] = i;
}

/* Ids and nodes that are looked for again and again. */
static void fill_tables(tn_tokenizer *t) {
  fill_trie(&t->vocab);
  fill_trie(&t->raw);
  fill_trie(&t->normal);
  for (uint32_t i = 0; i < 256; i++) {
    char text[8];
    snprintf(text, sizeof text, "<0x%02X>", i);
    t->bytes[i] = tn_tk_lookup(t, text, 6);
  }
  for (uint32_t c = 0; c < TN_COUNT(t->characters); c++) {
    char text[4];
    t->characters[c] = tn_tk_lookup(t, text, tn_tk_put_char(text, c));
  }
  tn_str prefix = tn_tk_text_of(t, t->head->prefix);
  uint32_t node = 0;
  for (uint32_t i = 0; i < prefix.len && node != TN_TK_NONE; i++) {
    node = tn_tk_trie_child(&t->vocab, node, (uint8_t)prefix.ptr[i]);
    if (!node) node = TN_TK_NONE;
  }
  t->continuing = node;
}

static tn_status open_regexes(tn_tokenizer *t, const char **why) {
  t->regexes = tn_mem_alloc((t->nparts + 1) * sizeof *t->regexes);
  if (!t->regexes) return TN_OOM;
  for (uint32_t i = 0; i < t->nparts; i++) {
    char error[160];
    if (!(t->parts[i].flags & TN_TK_REGEX)) continue;
    t->regexes[i] = tn_tk_regex_new(tn_tk_text_of(t, t->parts[i].s), error, sizeof error);
    if (t->regexes[i]) continue;
    if (!*error) return TN_OOM;
    *why = "a regex of the tokenizer is not understood";
    return TN_DATA_LOSS;
  }
  return TN_OK;
}

tn_status tn_tokenizer_open(tn_bytes blob, tn_tokenizer **out, const char **why) {
  *out = NULL;
  *why = check_head(blob);
  if (*why) return TN_DATA_LOSS;
  *why = "out of memory";
  tn_tokenizer *t = tn_mem_alloc(sizeof *t);
  if (!t) return TN_OOM;
  t->blob = blob;
  t->head = blob.ptr;
  open_sections(t);
  const char *wrong = check(t);
  if (wrong) *why = wrong;
  tn_status status = wrong ? TN_DATA_LOSS : open_regexes(t, why);
  if (status) {
    tn_tokenizer_close(t);
    return status;
  }
  fill_tables(t);
  *why = "";
  *out = t;
  return TN_OK;
}

void tn_tokenizer_close(tn_tokenizer *t) {
  if (!t) return;
  for (uint32_t i = 0; t->regexes && i < t->nparts; i++) tn_tk_regex_free(t->regexes[i]);
  tn_mem_free(t->regexes);
  tn_mem_free(t);
}

/* ---- lookups --------------------------------------------------------------------------------- */
uint32_t tn_tk_lookup(const tn_tokenizer *t, const char *s, uint64_t n) {
  for (uint32_t at = (uint32_t)tn_hash_bytes(s, n, 0) & t->index_mask;; at = (at + 1) & t->index_mask) {
    uint32_t id = t->index[at];
    if (!id--) return TN_TK_NONE;
    tn_tk_str x = t->tokens[id];
    if (x.len == n && x.off != TN_TK_NONE && !memcmp(t->strings + x.off, s, n)) return id;
  }
}

const tn_tk_added *tn_tk_added_of(const tn_tokenizer *t, uint32_t id) {
  uint32_t low = 0, high = t->nadded;
  while (low < high) {
    uint32_t mid = (low + high) / 2;
    if (t->added[mid].id < id)
      low = mid + 1;
    else
      high = mid;
  }
  return low < t->nadded && t->added[low].id == id ? &t->added[low] : NULL;
}

uint32_t tn_tk_trie_child(const tn_tk_trie *trie, uint32_t node, uint8_t label) {
  if (!node) return trie->root[label];
  uint32_t low = trie->nodes[node].first, end = trie->nodes[node + 1].first, high = end;
  while (low < high) {
    uint32_t mid = (low + high) / 2;
    if (trie->labels[mid] < label)
      low = mid + 1;
    else
      high = mid;
  }
  return low < end && trie->labels[low] == label ? low : 0;
}

uint32_t tn_tokenizer_size(const tn_tokenizer *t) { return t->head->size; }
uint32_t tn_tokenizer_max_length(const tn_tokenizer *t) { return t->head->max_length; }

tn_str tn_tokenizer_token(const tn_tokenizer *t, int32_t id) {
  const tn_tk_added *a = id < 0 ? NULL : tn_tk_added_of(t, (uint32_t)id);
  if (a) return tn_tk_text_of(t, a->text);
  return id < 0 || (uint32_t)id >= t->ntokens ? (tn_str){NULL, 0} : tn_tk_text_of(t, t->tokens[id]);
}

int32_t tn_tokenizer_id(const tn_tokenizer *t, tn_str token) {
  for (uint32_t i = 0; i < t->nadded; i++) {
    if (tn_str_eq(tn_tk_text_of(t, t->added[i].text), token)) return (int32_t)t->added[i].id;
  }
  uint32_t id = tn_tk_lookup(t, token.ptr ? token.ptr : "", token.len);
  return id == TN_TK_NONE ? -1 : (int32_t)id;
}
