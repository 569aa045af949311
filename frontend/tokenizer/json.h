/* json.h - what the files of the importer share: the reader, and checked access to JSON with the place of
 * each value for messages ("model.merges[12]"). A reader function reports its own error and returns the
 * status. */
#ifndef TN_TK_JSON_H
#define TN_TK_JSON_H
#include "frontend/config/config.h"
#include "frontend/tokenizer/json_build.h"

typedef struct tn_tk_reader {
  tn_arena arena; /* JSON nodes, places, translated patterns */
  const char *file;
  tn_diags *diags;
  tn_tk_build build;
  tn_map vocabulary; /* token: id, of the model */
  uint32_t vocabulary_count;
  tn_map added, added_ids; /* content, and the bytes of an id: index in build.added */
  uint32_t next_id;        /* for an added token that the model lacks */
} tn_tk_reader;

tn_status tn_tk_bad(tn_tk_reader *r, const char *where, const char *fmt, ...)
    TN_PRINTF(3, 4); /* TN_INVALID */
tn_status tn_tk_unsupported(tn_tk_reader *r, const char *where, const char *fmt, ...) TN_PRINTF(3, 4);
tn_status tn_tk_oom(tn_tk_reader *r);
/* "where.key", "where[i]"; never NULL */
const char *tn_tk_at(tn_tk_reader *r, const char *where, const char *key);
const char *tn_tk_nth(tn_tk_reader *r, const char *where, uint32_t i);

/* Values of an object. A missing or null value gives the fallback where there is one, otherwise an error. */
tn_status tn_tk_need(tn_tk_reader *r, const tn_json *o, const char *where, const char *key, tn_json_kind kind,
                     const tn_json **out);
tn_status tn_tk_bool(tn_tk_reader *r, const tn_json *o, const char *where, const char *key,
                     bool *value); /* in: fallback */
tn_status tn_tk_string(tn_tk_reader *r, const tn_json *o, const char *where, const char *key, tn_str *value);
/* ptr NULL: missing or null */
tn_status tn_tk_optional(tn_tk_reader *r, const tn_json *o, const char *where, const char *key,
                         tn_str *value);
/* 0 .. limit */
tn_status tn_tk_number(tn_tk_reader *r, const tn_json *node, const char *where, uint32_t limit,
                       uint32_t *value);

/* json_parts.c: normalizer, pre_tokenizer, post_processor, decoder of the root into build.parts, pieces,
 * trims. */
tn_status tn_tk_read_parts(tn_tk_reader *r, const tn_json *root);
tn_status tn_tk_base64(tn_tk_reader *r, const char *where, tn_str s, tn_buf *out); /* decodes */
/* SentencePiece's precompiled_charsmap (raw bytes, copied) into a Precompiled part. */
tn_status tn_tk_put_charsmap(tn_tk_reader *r, const char *where, tn_str map, tn_tk_part *p);
/* A template in place of what there was: pieces for one text, then for two, each a type digit and one of 'A',
 * 'B' (sequences), 'C' (cls), 'S' (sep). */
tn_status tn_tk_put_template(tn_tk_reader *r, const char *single, const char *pair, uint32_t cls,
                             uint32_t sep);
/* json_model.c */
tn_status tn_tk_read_model(tn_tk_reader *r, const tn_json *root);
tn_status tn_tk_read_vocabulary(tn_tk_reader *r, const tn_json *vocab, const char *where);
tn_status tn_tk_add_merge(tn_tk_reader *r, const char *where, tn_str left, tn_str right);
/* The flags of an added token's object. */
tn_status tn_tk_read_flags(tn_tk_reader *r, const tn_json *item, const char *where, uint32_t *flags);
/* Adds a token that may be in the vocabulary; of one content the last flags count. *id TN_TK_NONE: empty,
 * left out. */
tn_status tn_tk_add_token(tn_tk_reader *r, tn_str content, uint32_t flags, uint32_t *id);
bool tn_tk_find_token(const tn_tk_reader *r, tn_str content, uint32_t *id);
/* json_config.c: what tokenizer_config.json and special_tokens_map.json (NULL: none) change. */
tn_status tn_tk_read_config(tn_tk_reader *r, const tn_json *config, const tn_json *special);
/* add_bos_token and add_eos_token: a template of them, in place of what there was. */
tn_status tn_tk_set_edges(tn_tk_reader *r, const tn_json *config, const char *bos_default,
                          const char *eos_default);
/* A special token that the config names ("cls_token"), or the fallback; ptr NULL: neither. */
tn_str tn_tk_named_token(const tn_json *config, const char *key, const char *fallback);
bool tn_tk_class_is(const tn_json *config, const char *const *prefixes, uint32_t n); /* tokenizer_class */

/* One import from begin to end (json.c). */
void tn_tk_reader_init(tn_tk_reader *r, const char *file, tn_diags *diags);
void tn_tk_reader_fini(tn_tk_reader *r);
tn_status tn_tk_read_root(tn_tk_reader *r, const tn_json *root);
tn_status tn_tk_reader_write(tn_tk_reader *r, tn_buf *out); /* appends the blob */

#endif
