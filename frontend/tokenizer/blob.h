/* blob.h - the flat form of a tokenizer: a header, then sections, all little-endian and 8-byte aligned. The
 * importer writes it (json_build.c), the engine reads it in place; blob.c checks every index in it once, so
 * that the engine need not. Text in a blob is valid UTF-8. */
#ifndef TN_TK_BLOB_H
#define TN_TK_BLOB_H
#include "frontend/tokenizer/tokenizer.h"

#define TN_TK_MAGIC "tn-token"
#define TN_TK_NONE UINT32_MAX
enum { TN_TK_VERSION = 2, TN_TK_AFFIX_MAX = 64 /* bytes of prefix and suffix */ };

static inline uint32_t tn_tk_pair_hash(uint32_t left, uint32_t right) {
  uint64_t k = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u;
  return (uint32_t)(k >> 32 ^ k >> 15);
}

typedef struct tn_tk_str {
  uint32_t off, len; /* in the section of strings; off TN_TK_NONE: not given */
} tn_tk_str;

/* Byte trie, nodes in breadth-first order: the children of node i are first[i] .. first[i + 1], sorted by
 * label. */
typedef struct tn_tk_node {
  uint32_t first, value; /* value + 1 of the key that ends here; 0: none */
} tn_tk_node;

typedef struct tn_tk_merge {
  uint32_t left, right, made; /* ids; the rank is the index */
} tn_tk_merge;

enum {
  TN_TK_ADDED_SINGLE_WORD = 1,
  TN_TK_ADDED_LSTRIP = 2,
  TN_TK_ADDED_RSTRIP = 4,
  TN_TK_ADDED_NORMALIZED = 8,
  TN_TK_ADDED_SPECIAL = 16
};
typedef struct tn_tk_added {
  uint32_t id, flags;
  tn_tk_str text, normal; /* normal: what the normalizer makes of it, where that differs */
} tn_tk_added;

/* Split behaviours, in the order of their names in behaviours[] of json_parts.c. */
typedef enum tn_tk_behaviour {
  TN_TK_REMOVED,
  TN_TK_ISOLATED,
  TN_TK_MERGED_WITH_PREVIOUS,
  TN_TK_MERGED_WITH_NEXT,
  TN_TK_CONTIGUOUS,
  TN_TK_BEHAVIOURS
} tn_tk_behaviour;
enum { TN_TK_PREPEND_ALWAYS, TN_TK_PREPEND_FIRST, TN_TK_PREPEND_NEVER, TN_TK_PREPENDS };

enum {
  TN_TK_REGEX = 1, /* s is a regex, in pcre2's syntax; otherwise a literal */
  TN_TK_INVERT = 2,
  TN_TK_PREFIX_SPACE = 4,
  TN_TK_CLEAN = 8, /* BertNormalizer clean_text; WordPiece and CTC decoders: cleanup */
  TN_TK_CHINESE = 16,
  TN_TK_ACCENTS = 32, /* strip_accents, decided */
  TN_TK_LOWER = 64,
  TN_TK_LEFT = 128,
  TN_TK_RIGHT = 256,
  TN_TK_SPLIT = 512, /* Metaspace: split; Digits: each digit alone */
  TN_TK_PART_FLAGS = 1023
};
typedef struct tn_tk_part {
  uint32_t kind, flags;
  uint32_t a, b;  /* behaviour, prepend scheme, or numbers: by kind */
  tn_tk_str s, t; /* pattern and content, or other texts */
} tn_tk_part;

/* Template: a piece is a sequence (id -1: A, -2: B) or a token. */
enum { TN_TK_PIECE_A = -1, TN_TK_PIECE_B = -2 };
typedef struct tn_tk_piece {
  int32_t id;
  uint32_t type;
} tn_tk_piece;

typedef enum tn_tk_section_id {
  TN_TK_STRINGS,      /* bytes */
  TN_TK_TOKENS,       /* tn_tk_str per id of the model; off TN_TK_NONE: a hole */
  TN_TK_INDEX,        /* uint32_t: hash slots, id + 1 or 0; a power of two of them */
  TN_TK_SCORES,       /* double per id (Unigram) */
  TN_TK_RANKS,        /* uint32_t per id (SentencePiece's BPE): the merge that makes the least goes first;
                         TN_TK_NONE: no merge makes it */
  TN_TK_MERGES,       /* tn_tk_merge (BPE) */
  TN_TK_MERGE_INDEX,  /* uint32_t: hash slots, rank + 1 or 0 */
  TN_TK_VOCAB_NODES,  /* trie of the tokens (Unigram, WordPiece) */
  TN_TK_VOCAB_LABELS, /* uint8_t per node */
  TN_TK_ADDED,        /* tn_tk_added, by id */
  TN_TK_RAW_NODES,    /* tries of the added tokens: value is the index in TN_TK_ADDED */
  TN_TK_RAW_LABELS,
  TN_TK_NORMAL_NODES,
  TN_TK_NORMAL_LABELS,
  TN_TK_PARTS,    /* tn_tk_part: normalizers, pre-tokenizers, decoders */
  TN_TK_TRIMS,    /* uint32_t: add_prefix_space of each trim of offsets */
  TN_TK_PIECES,   /* tn_tk_piece: the template for one text, then that for two */
  TN_TK_CHARSMAP, /* uint32_t units of all precompiled maps */
  TN_TK_SECTIONS
} tn_tk_section_id;
typedef struct tn_tk_section {
  uint64_t off, bytes;
} tn_tk_section;

enum { TN_TK_FUSE_UNK = 1, TN_TK_BYTE_FALLBACK = 2, TN_TK_IGNORE_MERGES = 4, TN_TK_HAS_DECODER = 8 };
enum { TN_TK_UNK_NONE = -1, TN_TK_UNK_MISSING = -2 /* named, but not in the vocabulary */ };
enum { TN_TK_STAGE_NORMALIZE, TN_TK_STAGE_SPLIT, TN_TK_STAGE_DECODE, TN_TK_STAGES };
typedef struct tn_tk_header {
  char magic[8];
  uint32_t version, model, flags;
  int32_t unk;
  uint64_t bytes;
  uint32_t size;                    /* highest id + 1, added tokens included */
  uint32_t max_length;              /* 0: not said */
  uint32_t max_chars;               /* WordPiece */
  uint32_t single;                  /* pieces of the template for one text */
  uint32_t stage[TN_TK_STAGES + 1]; /* parts of stage i: stage[i] .. stage[i + 1] */
  tn_tk_str prefix, suffix;         /* continuing_subword_prefix, end_of_word_suffix */
  double min_score;                 /* Unigram */
  tn_tk_section sections[TN_TK_SECTIONS];
} tn_tk_header;

#endif
