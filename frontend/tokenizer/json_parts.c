/* json_parts.c - normalizers, pre-tokenizers, post-processors and decoders of a tokenizer.json. A Sequence
 * becomes its items; the post-processors become one template and the trims of offsets. */
#include "frontend/tokenizer/json.h"
#include "frontend/tokenizer/regex.h"
#include <stdlib.h>

#define SHOWN(s) (int)((s).len > 64 ? 64 : (s).len), (s).ptr
/* The pattern of GPT-2's splitter, which ByteLevel means by use_regex. */
#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

/* ---- values of parts ------------------------------------------------------------------------- */
typedef struct source {
  const tn_json *o;
  const char *where;
} source;

static tn_status flag(tn_tk_reader *r, source from, const char *key, bool fallback, uint32_t bit,
                      tn_tk_part *p) {
  bool on = fallback;
  TN_TRY(tn_tk_bool(r, from.o, from.where, key, &on));
  if (on) p->flags |= bit;
  return TN_OK;
}

static tn_status text(tn_tk_reader *r, source from, const char *key, tn_tk_str *out) {
  tn_str s;
  TN_TRY(tn_tk_string(r, from.o, from.where, key, &s));
  *out = tn_tk_build_str(&r->build, s);
  return TN_OK;
}

static tn_status some_text(tn_tk_reader *r, source from, const char *key, tn_tk_str *out) {
  TN_TRY(text(r, from, key, out));
  return out->len ? TN_OK : tn_tk_bad(r, tn_tk_at(r, from.where, key), "is empty");
}

static tn_status one_char(tn_tk_reader *r, source from, const char *key, tn_tk_str *out) {
  tn_str s;
  TN_TRY(tn_tk_string(r, from.o, from.where, key, &s));
  uint64_t chars = 0;
  for (uint64_t i = 0; i < s.len; i++) chars += (s.ptr[i] & 0xc0) != 0x80;
  if (chars != 1) return tn_tk_bad(r, tn_tk_at(r, from.where, key), "'%.*s' is not one character", SHOWN(s));
  *out = tn_tk_build_str(&r->build, s);
  return TN_OK;
}

static tn_status choice(tn_tk_reader *r, source from, const char *key, const char *const *names, uint32_t n,
                        uint32_t *out) {
  tn_str s;
  TN_TRY(tn_tk_string(r, from.o, from.where, key, &s));
  for (*out = 0; *out < n; ++*out) {
    if (tn_str_is(s, names[*out])) return TN_OK;
  }
  return tn_tk_bad(r, tn_tk_at(r, from.where, key), "'%.*s' is not known", SHOWN(s));
}

static tn_status count(tn_tk_reader *r, source from, const char *key, uint32_t *out) {
  return tn_tk_number(r, tn_json_get(from.o, key), tn_tk_at(r, from.where, key), INT32_MAX, out);
}

static tn_status set_regex(tn_tk_reader *r, const char *where, tn_str pattern, tn_tk_part *p) {
  tn_buf out = {0};
  uint64_t at;
  const char *why;
  char error[160] = "";
  tn_status status = tn_tk_regex_translate(pattern, &out, &at, &why);
  if (status == TN_UNSUPPORTED)
    tn_tk_unsupported(r, where, "at character %llu of '%.*s': %s", (unsigned long long)at, SHOWN(pattern),
                      why);
  else if (status == TN_INVALID)
    tn_tk_bad(r, where, "at character %llu of '%.*s': %s", (unsigned long long)at, SHOWN(pattern), why);
  tn_str translated = {out.text ? out.text : "", out.len};
  tn_tk_regex *x = status ? NULL : tn_tk_regex_new(translated, error, sizeof error);
  if (!status && !x && *error) status = tn_tk_bad(r, where, "'%.*s': %s", SHOWN(pattern), error);
  if (status == TN_OOM || (!status && !x)) status = tn_tk_oom(r);
  tn_tk_regex_free(x);
  if (!status) {
    p->s = tn_tk_build_str(&r->build, translated);
    p->flags |= TN_TK_REGEX;
  }
  tn_buf_fini(&out);
  return status;
}

/* {"String": "..."} or {"Regex": "..."} */
static tn_status pattern(tn_tk_reader *r, source from, tn_tk_part *p) {
  const tn_json *o;
  tn_str literal, regex;
  const char *where = tn_tk_at(r, from.where, "pattern");
  TN_TRY(tn_tk_need(r, from.o, from.where, "pattern", TN_JSON_OBJECT, &o));
  TN_TRY(tn_tk_optional(r, o, where, "String", &literal));
  TN_TRY(tn_tk_optional(r, o, where, "Regex", &regex));
  if (!literal.ptr == !regex.ptr) return tn_tk_bad(r, where, "has not one of 'String' and 'Regex'");
  if (regex.ptr) return set_regex(r, tn_tk_at(r, where, "Regex"), regex, p);
  if (!literal.len) return set_regex(r, where, literal, p); /* matches everywhere */
  p->s = tn_tk_build_str(&r->build, literal);
  return TN_OK;
}

/* ---- normalizers ----------------------------------------------------------------------------- */
typedef tn_status part_reader(tn_tk_reader *r, source from, tn_tk_part *p);

static tn_status nothing(tn_tk_reader *r, source from, tn_tk_part *p) {
  (void)r, (void)from, (void)p;
  return TN_OK;
}

static tn_status normalizer_bert(tn_tk_reader *r, source from, tn_tk_part *p) {
  TN_TRY(flag(r, from, "clean_text", true, TN_TK_CLEAN, p));
  TN_TRY(flag(r, from, "handle_chinese_chars", true, TN_TK_CHINESE, p));
  TN_TRY(flag(r, from, "lowercase", true, TN_TK_LOWER, p));
  return flag(r, from, "strip_accents", p->flags & TN_TK_LOWER, TN_TK_ACCENTS, p);
}

static tn_status normalizer_strip(tn_tk_reader *r, source from, tn_tk_part *p) {
  TN_TRY(flag(r, from, "strip_left", false, TN_TK_LEFT, p));
  return flag(r, from, "strip_right", false, TN_TK_RIGHT, p);
}

static tn_status normalizer_replace(tn_tk_reader *r, source from, tn_tk_part *p) {
  TN_TRY(pattern(r, from, p));
  return text(r, from, "content", &p->t);
}

static tn_status normalizer_prepend(tn_tk_reader *r, source from, tn_tk_part *p) {
  return text(r, from, "prepend", &p->s);
}

static int base64_value(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

tn_status tn_tk_base64(tn_tk_reader *r, const char *where, tn_str s, tn_buf *out) {
  uint32_t bits = 0, nbits = 0;
  uint64_t n = s.len;
  if (n % 4) return tn_tk_bad(r, where, "is not base64: %llu characters", (unsigned long long)n);
  for (int i = 0; i < 2 && n && s.ptr[n - 1] == '='; i++) n--;
  for (uint64_t i = 0; i < n; i++) {
    int v = base64_value(s.ptr[i]);
    if (v < 0) return tn_tk_bad(r, where, "is not base64: character %llu", (unsigned long long)i);
    bits = bits << 6 | (uint32_t)v;
    nbits += 6;
    if (nbits < 8) continue;
    nbits -= 8;
    tn_buf_put(out, &(char){(char)(bits >> nbits)}, 1);
  }
  return out->failed ? tn_tk_oom(r) : TN_OK;
}

/* Bytes of the trie, the trie, the texts. */
tn_status tn_tk_put_charsmap(tn_tk_reader *r, const char *where, tn_str map, tn_tk_part *p) {
  uint32_t bytes = 0;
  uint64_t bad;
  if (map.len >= 4) memcpy(&bytes, map.ptr, 4);
  if (map.len < 4 || bytes > map.len - 4 || bytes % 4)
    return tn_tk_bad(r, where, "%llu bytes with a trie of %u are no map", (unsigned long long)map.len, bytes);
  tn_str texts = {map.ptr + 4 + bytes, map.len - 4 - bytes};
  if (!tn_utf8_valid(texts, &bad))
    return tn_tk_bad(r, where, "byte %llu of its texts is not UTF-8", (unsigned long long)bad);
  p->a = r->build.charsmap.count;
  p->b = bytes / 4;
  if (p->b > INT32_MAX - p->a || !tn_vec_reserve(&r->build.charsmap, p->a + p->b + 1)) return tn_tk_oom(r);
  memcpy(r->build.charsmap.items + p->a, map.ptr + 4, bytes);
  r->build.charsmap.count += p->b;
  p->s = tn_tk_build_str(&r->build, texts);
  return TN_OK;
}

static tn_status normalizer_precompiled(tn_tk_reader *r, source from, tn_tk_part *p) {
  tn_str s;
  const char *key = "precompiled_charsmap", *where = tn_tk_at(r, from.where, key);
  TN_TRY(tn_tk_string(r, from.o, from.where, key, &s));
  tn_buf map = {0};
  tn_status status = tn_tk_base64(r, where, s, &map);
  if (!status) status = tn_tk_put_charsmap(r, where, (tn_str){map.text, map.len}, p);
  tn_buf_fini(&map);
  return status;
}

/* ---- pre-tokenizers -------------------------------------------------------------------------- */
static const char *const behaviours[TN_TK_BEHAVIOURS] = {"Removed", "Isolated", "MergedWithPrevious",
                                                         "MergedWithNext", "Contiguous"};
static const char *const schemes[TN_TK_PREPENDS] = {"always", "first", "never"};

static tn_status split_byte_level(tn_tk_reader *r, source from, tn_tk_part *p) {
  bool use_regex = true;
  TN_TRY(flag(r, from, "add_prefix_space", true, TN_TK_PREFIX_SPACE, p));
  TN_TRY(tn_tk_bool(r, from.o, from.where, "use_regex", &use_regex));
  return use_regex ? set_regex(r, from.where, TN_STR(GPT2), p) : TN_OK;
}

static tn_status split_delimiter(tn_tk_reader *r, source from, tn_tk_part *p) {
  p->a = TN_TK_REMOVED;
  return one_char(r, from, "delimiter", &p->s);
}

static tn_status read_metaspace(tn_tk_reader *r, source from, tn_tk_part *p) {
  bool prefix = true;
  TN_TRY(one_char(r, from, "replacement", &p->s));
  TN_TRY(flag(r, from, "split", true, TN_TK_SPLIT, p));
  TN_TRY(tn_tk_bool(r, from.o, from.where, "add_prefix_space", &prefix));
  p->a = prefix ? TN_TK_PREPEND_ALWAYS : TN_TK_PREPEND_NEVER;
  if (!tn_json_get(from.o, "prepend_scheme")) return TN_OK;
  TN_TRY(choice(r, from, "prepend_scheme", schemes, TN_TK_PREPENDS, &p->a));
  if (!prefix && p->a != TN_TK_PREPEND_NEVER)
    return tn_tk_bad(r, from.where, "add_prefix_space is false, but prepend_scheme is '%s'", schemes[p->a]);
  return TN_OK;
}

static tn_status split_split(tn_tk_reader *r, source from, tn_tk_part *p) {
  TN_TRY(pattern(r, from, p));
  TN_TRY(flag(r, from, "invert", false, TN_TK_INVERT, p));
  return choice(r, from, "behavior", behaviours, TN_TK_BEHAVIOURS, &p->a);
}

static tn_status split_punctuation(tn_tk_reader *r, source from, tn_tk_part *p) {
  p->a = TN_TK_ISOLATED;
  if (!tn_json_get(from.o, "behavior")) return TN_OK;
  return choice(r, from, "behavior", behaviours, TN_TK_BEHAVIOURS, &p->a);
}

static tn_status split_digits(tn_tk_reader *r, source from, tn_tk_part *p) {
  return flag(r, from, "individual_digits", false, TN_TK_SPLIT, p);
}

static tn_status split_fixed_length(tn_tk_reader *r, source from, tn_tk_part *p) {
  p->a = 5;
  if (!tn_json_get(from.o, "length")) return TN_OK;
  TN_TRY(count(r, from, "length", &p->a));
  return p->a ? TN_OK : tn_tk_bad(r, tn_tk_at(r, from.where, "length"), "is 0");
}

/* ---- decoders -------------------------------------------------------------------------------- */
static tn_status decoder_wordpiece(tn_tk_reader *r, source from, tn_tk_part *p) {
  TN_TRY(flag(r, from, "cleanup", true, TN_TK_CLEAN, p));
  return text(r, from, "prefix", &p->s);
}

static tn_status decoder_bpe(tn_tk_reader *r, source from, tn_tk_part *p) {
  return some_text(r, from, "suffix", &p->s);
}

static tn_status decoder_ctc(tn_tk_reader *r, source from, tn_tk_part *p) {
  TN_TRY(some_text(r, from, "pad_token", &p->s));
  TN_TRY(some_text(r, from, "word_delimiter_token", &p->t));
  return flag(r, from, "cleanup", true, TN_TK_CLEAN, p);
}

static tn_status decoder_strip(tn_tk_reader *r, source from, tn_tk_part *p) {
  TN_TRY(one_char(r, from, "content", &p->s));
  TN_TRY(count(r, from, "start", &p->a));
  return count(r, from, "stop", &p->b);
}

/* ---- stages ---------------------------------------------------------------------------------- */
typedef struct kind {
  const char *type;
  part_reader *read;
} kind;
#define normalizer_strip_accents nothing
#define normalizer_nfc nothing
#define normalizer_nfd nothing
#define normalizer_nfkc nothing
#define normalizer_nfkd nothing
#define normalizer_lowercase nothing
#define normalizer_nmt nothing
#define normalizer_byte_level nothing
static const kind normalizers[] = {
#define TN_TK_NORMALIZER(name, type, needs) {type, normalizer_##name},
#include "frontend/tokenizer/parts.def"
};
#define split_bert nothing
#define split_metaspace read_metaspace
#define split_whitespace nothing
#define split_whitespace_split nothing
#define split_scripts nothing
static const kind pre_tokenizers[] = {
#define TN_TK_PRE_TOKENIZER(name, type, needs) {type, split_##name},
#include "frontend/tokenizer/parts.def"
};
#define decoder_byte_level nothing
#define decoder_metaspace read_metaspace
#define decoder_replace normalizer_replace
#define decoder_fuse nothing
#define decoder_byte_fallback nothing
#define decoder_clean_up nothing
static const kind decoders[] = {
#define TN_TK_DECODER(name, type, needs) {type, decoder_##name},
#include "frontend/tokenizer/parts.def"
};

static const struct stage {
  const char *key, *list; /* of the root, and of a Sequence */
  const kind *kinds;
  uint32_t count;
} stages[TN_TK_STAGES] = {{"normalizer", "normalizers", normalizers, TN_COUNT(normalizers)},
                          {"pre_tokenizer", "pretokenizers", pre_tokenizers, TN_COUNT(pre_tokenizers)},
                          {"decoder", "decoders", decoders, TN_COUNT(decoders)}};

static tn_status unknown_type(tn_tk_reader *r, source from, tn_str type) {
  return tn_tk_unsupported(r, tn_tk_at(r, from.where, "type"), "'%.*s' is not known", SHOWN(type));
}

static tn_status read_part(tn_tk_reader *r, uint32_t stage, source from, tn_str type) {
  const struct stage *s = &stages[stage];
  tn_tk_part p = {.s = {TN_TK_NONE, 0}, .t = {TN_TK_NONE, 0}};
  while (p.kind < s->count && !tn_str_is(type, s->kinds[p.kind].type)) p.kind++;
  if (p.kind == s->count) return unknown_type(r, from, type);
  TN_TRY(s->kinds[p.kind].read(r, from, &p));
  if (r->build.parts[stage].count >= 1000) return tn_tk_bad(r, from.where, "is the 1001st part of its kind");
  return tn_vec_push(&r->build.parts[stage], p) ? TN_OK : tn_tk_oom(r);
}

/* The parser has limited the depth of a Sequence of Sequences. */
static tn_status read_stage(tn_tk_reader *r, uint32_t stage, const tn_json *node, const char *where) {
  tn_str type;
  const tn_json *list;
  source from = {node, where};
  if (node->kind != TN_JSON_OBJECT)
    return tn_tk_bad(r, where, "should be an object, is %s", tn_json_kind_name(node->kind));
  TN_TRY(tn_tk_string(r, node, where, "type", &type));
  if (!tn_str_is(type, "Sequence")) return read_part(r, stage, from, type);
  TN_TRY(tn_tk_need(r, node, where, stages[stage].list, TN_JSON_LIST, &list));
  const char *inside = tn_tk_at(r, where, stages[stage].list);
  for (uint32_t i = 0; i < list->count; i++)
    TN_TRY(read_stage(r, stage, &list->u.items[i], tn_tk_nth(r, inside, i)));
  return TN_OK;
}

/* ---- post-processors ------------------------------------------------------------------------- */
static tn_status push_piece(tn_tk_reader *r, int32_t id, uint32_t type) {
  return tn_vec_push(&r->build.pieces, ((tn_tk_piece){id, type})) ? TN_OK : tn_tk_oom(r);
}

tn_status tn_tk_put_template(tn_tk_reader *r, const char *single, const char *pair, uint32_t cls,
                             uint32_t sep) {
  const char *both[] = {single, pair};
  r->build.pieces.count = 0;
  for (int i = 0; i < 2; i++) {
    for (const char *p = both[i]; *p; p += 2) {
      int32_t id = p[1] == 'A'   ? TN_TK_PIECE_A
                   : p[1] == 'B' ? TN_TK_PIECE_B
                   : p[1] == 'C' ? (int32_t)cls
                                 : (int32_t)sep;
      TN_TRY(push_piece(r, id, (uint32_t)(p[0] - '0')));
    }
    if (!i) r->build.head.single = r->build.pieces.count;
  }
  return TN_OK;
}

static tn_status put_trim(tn_tk_reader *r, source from) {
  bool trim = true, prefix = true;
  TN_TRY(tn_tk_bool(r, from.o, from.where, "trim_offsets", &trim));
  TN_TRY(tn_tk_bool(r, from.o, from.where, "add_prefix_space", &prefix));
  if (trim && r->build.trims.count >= 16) return tn_tk_bad(r, from.where, "trims offsets for the 17th time");
  return !trim || tn_vec_push(&r->build.trims, prefix) ? TN_OK : tn_tk_oom(r);
}

/* ["[SEP]", 102] */
static tn_status named_id(tn_tk_reader *r, source from, const char *key, uint32_t *id) {
  const tn_json *pair;
  TN_TRY(tn_tk_need(r, from.o, from.where, key, TN_JSON_LIST, &pair));
  if (pair->count != 2) return tn_tk_bad(r, tn_tk_at(r, from.where, key), "is not a token and its id");
  return tn_tk_number(r, &pair->u.items[1], tn_tk_nth(r, tn_tk_at(r, from.where, key), 1), INT32_MAX - 1, id);
}

static tn_status special_piece(tn_tk_reader *r, source from, const tn_json *specials, const char *where) {
  tn_str name;
  const tn_json *ids;
  uint32_t type, id;
  TN_TRY(tn_tk_string(r, from.o, from.where, "id", &name));
  TN_TRY(count(r, from, "type_id", &type));
  char *key = tn_arena_str(&r->arena, name);
  const tn_json *special = key ? tn_json_get(specials, key) : NULL;
  if (!special) return tn_tk_bad(r, from.where, "'%.*s' is not one of the special_tokens", SHOWN(name));
  const char *place = tn_tk_at(r, where, key);
  TN_TRY(tn_tk_need(r, special, place, "ids", TN_JSON_LIST, &ids));
  for (uint32_t i = 0; i < ids->count; i++) {
    TN_TRY(tn_tk_number(r, &ids->u.items[i], tn_tk_nth(r, tn_tk_at(r, place, "ids"), i), INT32_MAX - 1, &id));
    TN_TRY(push_piece(r, (int32_t)id, type));
  }
  return TN_OK;
}

static tn_status sequence_piece(tn_tk_reader *r, source from, bool single) {
  static const char *const names[] = {"A", "B"};
  uint32_t which, type;
  TN_TRY(choice(r, from, "id", names, 2, &which));
  TN_TRY(count(r, from, "type_id", &type));
  if (which && single) return tn_tk_bad(r, from.where, "sequence B in the template for one text");
  return push_piece(r, which ? TN_TK_PIECE_B : TN_TK_PIECE_A, type);
}

static tn_status read_pieces(tn_tk_reader *r, source from, const char *key, const tn_json *specials) {
  const tn_json *list;
  const char *at = tn_tk_at(r, from.where, key), *special_at = tn_tk_at(r, from.where, "special_tokens");
  TN_TRY(tn_tk_need(r, from.o, from.where, key, TN_JSON_LIST, &list));
  for (uint32_t i = 0; i < list->count; i++) {
    const char *where = tn_tk_nth(r, at, i);
    const tn_json *item = &list->u.items[i], *special = tn_json_get(item, "SpecialToken"),
                  *sequence = tn_json_get(item, "Sequence");
    if (r->build.pieces.count > 900) return tn_tk_bad(r, where, "the template is longer than 900 tokens");
    if (!special == !sequence) return tn_tk_bad(r, where, "is neither a SpecialToken nor a Sequence");
    if (special)
      TN_TRY(special_piece(r, (source){special, tn_tk_at(r, where, "SpecialToken")}, specials, special_at));
    else
      TN_TRY(sequence_piece(r, (source){sequence, tn_tk_at(r, where, "Sequence")}, *key == 's'));
  }
  return TN_OK;
}

static tn_status read_template(tn_tk_reader *r, source from) {
  const tn_json *specials;
  TN_TRY(tn_tk_need(r, from.o, from.where, "special_tokens", TN_JSON_OBJECT, &specials));
  r->build.pieces.count = 0;
  TN_TRY(read_pieces(r, from, "single", specials));
  r->build.head.single = r->build.pieces.count;
  return read_pieces(r, from, "pair", specials);
}

/* *templates counts those that put tokens around: the reference cannot have two either. */
static tn_status read_processor(tn_tk_reader *r, const tn_json *node, const char *where, int *templates) {
  tn_str type;
  uint32_t cls, sep;
  source from = {node, where};
  const tn_json *list;
  TN_TRY(tn_tk_string(r, node, where, "type", &type));
  if (tn_str_is(type, "Sequence")) {
    TN_TRY(tn_tk_need(r, node, where, "processors", TN_JSON_LIST, &list));
    const char *inside = tn_tk_at(r, where, "processors");
    for (uint32_t i = 0; i < list->count; i++)
      TN_TRY(read_processor(r, &list->u.items[i], tn_tk_nth(r, inside, i), templates));
    return TN_OK;
  }
  if (tn_str_is(type, "ByteLevel")) return put_trim(r, from);
  if (++*templates > 1)
    return tn_tk_unsupported(r, where, "a second processor that puts tokens around the text");
  if (tn_str_is(type, "TemplateProcessing")) return read_template(r, from);
  bool roberta = tn_str_is(type, "RobertaProcessing");
  if (!roberta && !tn_str_is(type, "BertProcessing")) return unknown_type(r, from, type);
  TN_TRY(named_id(r, from, "cls", &cls));
  TN_TRY(named_id(r, from, "sep", &sep));
  if (roberta) TN_TRY(put_trim(r, from));
  return roberta ? tn_tk_put_template(r, "0C0A0S", "0C0A0S0S0B0S", cls, sep)
                 : tn_tk_put_template(r, "0C0A0S", "0C0A0S1B1S", cls, sep);
}

tn_status tn_tk_read_parts(tn_tk_reader *r, const tn_json *root) {
  for (uint32_t i = 0; i < TN_TK_STAGES; i++) {
    const tn_json *node = tn_json_get(root, stages[i].key);
    if (!node || node->kind == TN_JSON_NULL) continue;
    TN_TRY(read_stage(r, i, node, stages[i].key));
    if (i == TN_TK_STAGE_DECODE) r->build.head.flags |= TN_TK_HAS_DECODER;
  }
  TN_TRY(tn_tk_put_template(r, "0A", "0A1B", 0, 0));
  const tn_json *post = tn_json_get(root, "post_processor");
  int templates = 0;
  return post && post->kind != TN_JSON_NULL ? read_processor(r, post, "post_processor", &templates) : TN_OK;
}
