/* json_build.h - makes a blob (blob.h) from what an importer finds. Nothing of it is linked into an artefact.
 */
#ifndef TN_TK_JSON_BUILD_H
#define TN_TK_JSON_BUILD_H
#include "frontend/tokenizer/blob.h"

typedef struct tn_tk_build_added {
  uint32_t id, flags;
  tn_str text, normal; /* not owned; normal.ptr NULL: the same */
} tn_tk_build_added;

/* Zero it first. Texts that are handed in must live until the end. A failed allocation sets `failed`. */
typedef struct tn_tk_build {
  tn_tk_header head; /* the importer fills model, flags, unk, max_*, single, prefix, suffix, min_score */
  bool failed;
  tn_buf strings;
  tn_map interned;        /* short strings: offset */
  TN_VEC(tn_str) tokens;  /* by id; ptr NULL: a hole */
  TN_VEC(double) scores;  /* by id, or empty */
  TN_VEC(uint32_t) ranks; /* by id, or empty */
  TN_VEC(tn_tk_merge) merges;
  bool vocabulary_trie;
  TN_VEC(tn_tk_build_added) added; /* sorted by tn_tk_build_write */
  TN_VEC(tn_tk_part) parts[TN_TK_STAGES];
  TN_VEC(uint32_t) trims;
  TN_VEC(tn_tk_piece) pieces;
  TN_VEC(uint32_t) charsmap;
} tn_tk_build;
void tn_tk_build_fini(tn_tk_build *b);

tn_tk_str tn_tk_build_str(tn_tk_build *b, tn_str s); /* ptr NULL: none */
/* Token `id`; ids may come in any order and leave holes. */
void tn_tk_build_token(tn_tk_build *b, uint32_t id, tn_str text);
/* Appends the blob. TN_OOM, or TN_INVALID: larger than 4 GiB. */
tn_status tn_tk_build_write(tn_tk_build *b, tn_buf *out);
#endif
