/* engine.h - what the files of the engine share: text whose every byte knows where it came from, splits of
 * it, and the state of one call. All text here is valid UTF-8: the input is repaired first, the blob's
 * strings are checked, and steps cut only between characters. */
#ifndef TN_TK_ENGINE_H
#define TN_TK_ENGINE_H
#include "frontend/tokenizer/blob.h"
#include "frontend/tokenizer/regex.h"

#define TN_TK_TEXT_MAX (256u << 20)

/* ---- UTF-8 ----------------------------------------------------------------------------------- */
static inline uint32_t tn_tk_char_bytes(char lead) {
  uint8_t c = (uint8_t)lead;
  return c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}
/* The character at *at, of valid text; moves *at behind it. */
static inline uint32_t tn_tk_char(const char *s, uint32_t *at) {
  const uint8_t *p = (const uint8_t *)s + *at;
  uint32_t n = tn_tk_char_bytes(s[*at]);
  *at += n;
  if (n == 1) return p[0];
  if (n == 2) return (p[0] & 0x1fu) << 6 | (p[1] & 0x3fu);
  if (n == 3) return (p[0] & 0x0fu) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
  return (p[0] & 0x07u) << 18 | (p[1] & 0x3fu) << 12 | (p[2] & 0x3fu) << 6 | (p[3] & 0x3fu);
}
/* The character before *at. */
static inline uint32_t tn_tk_char_before(const char *s, uint32_t *at) {
  do --*at;
  while ((s[*at] & 0xc0) == 0x80);
  uint32_t i = *at;
  return tn_tk_char(s, &i);
}
static inline uint32_t tn_tk_put_char(char out[4], uint32_t c) {
  if (c < 0x80) return out[0] = (char)c, 1;
  if (c < 0x800) return out[0] = (char)(0xc0 | c >> 6), out[1] = (char)(0x80 | (c & 0x3f)), 2;
  if (c < 0x10000) {
    out[0] = (char)(0xe0 | c >> 12), out[1] = (char)(0x80 | (c >> 6 & 0x3f)),
    out[2] = (char)(0x80 | (c & 0x3f));
    return 3;
  }
  out[0] = (char)(0xf0 | c >> 18), out[1] = (char)(0x80 | (c >> 12 & 0x3f));
  out[2] = (char)(0x80 | (c >> 6 & 0x3f)), out[3] = (char)(0x80 | (c & 0x3f));
  return 4;
}
/* Length of the valid character at p (up to `room` bytes), or, where there is none, minus the length of what
 * one U+FFFD stands for (the longest prefix of a valid character, at least 1: the rule of Unicode 3.9). */
int tn_tk_char_check(const char *p, uint64_t room);

/* ---- Unicode classes, as the reference has them (unicode.def) -------------------------------- */
bool tn_tk_is_space(uint32_t c);
bool tn_tk_is_other(uint32_t c);
bool tn_tk_is_nonspacing(uint32_t c);
bool tn_tk_is_mark(uint32_t c);
bool tn_tk_is_punct(uint32_t c);
bool tn_tk_is_numeric(uint32_t c);
bool tn_tk_is_word(uint32_t c);
bool tn_tk_is_newer(uint32_t c);
uint32_t tn_tk_lower(uint32_t c);  /* U+0130 gives U+0069; its second character, U+0307, is the caller's */
uint32_t tn_tk_script(uint32_t c); /* 0: never splits */
/* GPT-2's printable stand-ins for bytes, U+0021 .. U+0143. */
uint32_t tn_tk_byte_to_char(uint8_t byte);
int tn_tk_char_to_byte(uint32_t c); /* -1: not a stand-in */

/* ---- text ------------------------------------------------------------------------------------ */
typedef struct tn_tk_span {
  uint32_t start, end; /* bytes of the original text */
} tn_tk_span;
typedef struct tn_tk_text {
  char *s;
  tn_tk_span *at; /* one per byte of s */
  uint32_t len, room;
  bool failed; /* no memory, or longer than UINT32_MAX: what did not fit is missing */
} tn_tk_text;
void tn_tk_text_fini(tn_tk_text *t);
bool tn_tk_text_grow(tn_tk_text *t, uint64_t more);
static inline bool tn_tk_text_room(tn_tk_text *t, uint64_t more) {
  return t->len + more <= t->room || tn_tk_text_grow(t, more);
}
static inline void tn_tk_put(tn_tk_text *t, const char *s, uint32_t n, tn_tk_span at) {
  if (!tn_tk_text_room(t, n)) return;
  for (uint32_t i = 0; i < n; i++) t->s[t->len] = s[i], t->at[t->len++] = at;
}
static inline void tn_tk_put_code(tn_tk_text *t, uint32_t c, tn_tk_span at) {
  char s[4];
  tn_tk_put(t, s, tn_tk_put_char(s, c), at);
}
/* Bytes start .. end of another text with their places. */
void tn_tk_put_part(tn_tk_text *t, const tn_tk_text *from, uint32_t start, uint32_t end);
/* Bytes of the original text, repaired; their places count from `base`. */
void tn_tk_put_original(tn_tk_text *t, tn_str s, uint32_t base);
bool tn_tk_ascii(const char *s, uint32_t n);

/* ---- one call -------------------------------------------------------------------------------- */
typedef struct tn_tk_split {
  uint32_t start, end; /* of run.text */
  int32_t added;       /* the added token that it is, or -1: still to be cut and given to the model */
} tn_tk_split;
typedef struct tn_tk_match {
  uint32_t start, end;
  bool is_match;
} tn_tk_match;
typedef struct tn_tk_token {
  uint32_t id, start, end; /* of run.text */
  int32_t added;
} tn_tk_token;

typedef struct tn_tk_symbol {
  uint32_t id,
      len;       /* len: bytes; 0: merged into the one before. Of spm.c: id is where it begins in run.text */
  uint32_t rank; /* of merging it with the next, TN_TK_NONE: they do not merge */
  int32_t prev, next;
} tn_tk_symbol;
typedef struct tn_tk_step { /* of the best path that ends here (Unigram) */
  double score;
  uint32_t start, id; /* start TN_TK_NONE: not reached */
} tn_tk_step;
/* A word seen before in this call, and the tokens that it gave. */
typedef struct tn_tk_cached {
  uint32_t word, len, tokens, count; /* word: in run.text; tokens: in run.tokens; count 0: free */
} tn_tk_cached;

typedef struct tn_tk_run {
  const tn_tokenizer *t;
  tn_status status;
  tn_tk_text text, side; /* what the splits are of; where a pre-tokenizer writes the next one */
  TN_VEC(tn_tk_split) splits, more;
  tn_tk_text segment, normal; /* what is being normalised; where a normalizer writes */
  uint32_t base;              /* first original byte of the segment */
  bool unchanged;             /* set by a normalizer that had nothing to do */
  TN_VEC(tn_tk_match) matches;
  tn_tk_matcher matcher;
  TN_VEC(tn_tk_token) tokens;
  TN_VEC(tn_tk_symbol) symbols;
  TN_VEC(uint64_t) heap; /* of merges: rank << 32 | symbol (tn_tk_heap_push) */
  TN_VEC(tn_tk_step) steps;
  tn_tk_cached *cache; /* CACHE slots, or NULL */
} tn_tk_run;
enum { TN_TK_CACHE = 4096, TN_TK_CACHE_WORD = 32 };
void tn_tk_run_init(tn_tk_run *r, const tn_tokenizer *t);
void tn_tk_run_fini(tn_tk_run *r);
/* Keeps the first failure. */
void tn_tk_fail(tn_tk_run *r, tn_status status);

/* ---- an open tokenizer ----------------------------------------------------------------------- */
typedef struct tn_tk_trie {
  const tn_tk_node *nodes; /* NULL: empty */
  const uint8_t *labels;
  uint32_t count;
  uint32_t root[256]; /* child of the root by label, 0: none */
} tn_tk_trie;
struct tn_tokenizer {
  tn_bytes blob;
  const tn_tk_header *head;
  const char *strings;
  const tn_tk_str *tokens;
  uint32_t ntokens;
  const uint32_t *index;
  uint32_t index_mask;
  const double *scores;
  const uint32_t *ranks;
  const tn_tk_merge *merges;
  const uint32_t *merge_index;
  uint32_t merge_mask, nmerges;
  tn_tk_trie vocab, raw, normal;
  const tn_tk_added *added;
  uint32_t nadded;
  const tn_tk_part *parts;
  uint32_t nparts;
  tn_tk_regex **regexes; /* per part, or NULL */
  const uint32_t *trims;
  uint32_t ntrims;
  const tn_tk_piece *pieces;
  uint32_t npieces;
  const uint32_t *charsmap;
  uint32_t bytes[256];        /* ids of "<0x00>" .. "<0xFF>", TN_TK_NONE: none */
  uint32_t continuing;        /* node of the trie after the prefix (WordPiece), TN_TK_NONE: none */
  uint32_t characters[0x180]; /* ids of one-character tokens below U+0180 (BPE) */
};
static inline tn_str tn_tk_text_of(const tn_tokenizer *t, tn_tk_str s) {
  return s.off == TN_TK_NONE ? (tn_str){NULL, 0} : (tn_str){t->strings + s.off, s.len};
}
/* Model's id of a token, TN_TK_NONE: none. Added tokens are not looked at. */
uint32_t tn_tk_lookup(const tn_tokenizer *t, const char *s, uint64_t n);
const tn_tk_added *tn_tk_added_of(const tn_tokenizer *t, uint32_t id); /* by binary search; NULL: none */
/* Child of a node (the root is 0), 0: none. */
uint32_t tn_tk_trie_child(const tn_tk_trie *trie, uint32_t node, uint8_t label);

/* ---- stages ---------------------------------------------------------------------------------- */
/* run.segment to run.segment, through all normalizers. */
void tn_tk_normalize(tn_tk_run *r);
/* What they make of a text of its own (for the importer). */
tn_status tn_tk_normalize_text(const tn_tokenizer *t, tn_str text, tn_buf *out);
/* Reads in, writes out (empty before), or sets r->unchanged. */
typedef void tn_tk_normalizer(tn_tk_run *r, const tn_tk_part *p, const tn_tk_text *in, tn_tk_text *out);
#define TN_TK_NORMALIZER(name, type, needs) tn_tk_normalizer tn_tk_normalize_##name;
#include "frontend/tokenizer/parts.def"
/* Canonical or compatibility decomposition, then composition. */
void tn_tk_normal_form(tn_tk_run *r, const tn_tk_text *in, tn_tk_text *out, bool compat, bool compose);

/* Cuts the text into splits: added tokens in the raw text, normalised text in between, added tokens in that.
 */
void tn_tk_extract(tn_tk_run *r, tn_str text);

void tn_tk_pre_tokenize(tn_tk_run *r);
typedef void tn_tk_pre_tokenizer(tn_tk_run *r, const tn_tk_part *p);
#define TN_TK_PRE_TOKENIZER(name, type, needs) tn_tk_pre_tokenizer tn_tk_split_##name;
#include "frontend/tokenizer/parts.def"
/* Fills r->matches with the pattern's matches in s[0 .. n) and what lies between them. */
void tn_tk_find(tn_tk_run *r, const tn_tk_part *p, const char *s, uint32_t n);

/* Fills r->tokens from r->splits. */
void tn_tk_tokenize(tn_tk_run *r);
/* Appends the tokens of the word text[start .. end) to r->tokens. */
typedef void tn_tk_model(tn_tk_run *r, uint32_t start, uint32_t end);
#define TN_TK_MODEL(name, type) tn_tk_model tn_tk_model_##name;
#include "frontend/tokenizer/parts.def"
static inline void tn_tk_token_push(tn_tk_run *r, uint32_t id, uint32_t start, uint32_t end) {
  if (!tn_vec_push(&r->tokens, ((tn_tk_token){id, start, end, -1}))) tn_tk_fail(r, TN_OOM);
}
void tn_tk_push_unknown(tn_tk_run *r, uint32_t start, uint32_t end);
/* run.heap: the least key first. */
bool tn_tk_heap_push(tn_tk_run *r, uint64_t key);
uint64_t tn_tk_heap_pop(tn_tk_run *r);

/* A list of texts, one after the other; a decoder makes another list of it. */
typedef struct tn_tk_list {
  tn_buf text;
  TN_VEC(uint64_t) ends;
} tn_tk_list;
typedef struct tn_tk_decode {
  tn_tk_run run;
  tn_tk_list list, next;
} tn_tk_decode;
typedef void tn_tk_decoder(tn_tk_decode *d, const tn_tk_part *p);
extern tn_tk_decoder *const tn_tk_decoders[]; /* by kind of part */
/* The text that an id has for decoders (ptr NULL: none), and whether it is special. */
tn_str tn_tk_token_text(const tn_tokenizer *t, int32_t id, bool *special);
int tn_tk_byte_of(tn_str s); /* the byte that "<0x41>" stands for, or -1 */
#define TN_TK_DECODER(name, type, needs) tn_tk_decoder tn_tk_decode_##name;
#include "frontend/tokenizer/parts.def"

#endif
