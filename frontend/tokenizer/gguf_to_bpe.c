/* gguf_to_bpe.c - byte pair encoding as keys of GGUF files: merges, and the name of the splitter. Files have
 * no patterns, only names that every reader must know (pre.def). A name fits whose patterns are the folder's;
 * where none has the same, one that cuts all the texts of probe.def alike; at last one that only leaves out
 * the composition of characters (NFC), which a warning says. */
#include "frontend/tokenizer/gguf_to.h"
#include "frontend/tokenizer/part_ids.h"
#include "frontend/tokenizer/regex.h"

#define KEY(name) "tokenizer.ggml." name

tn_status tn_tk_to_merges(tn_tk_to *c, tn_gguf_writer *w) {
  const tn_tokenizer *t = c->t;
  tn_str *list = tn_arena_alloc(&c->arena, ((size_t)t->nmerges + 1) * sizeof *list);
  if (!list) return tn_tk_to_oom(c);
  for (uint32_t i = 0; i < t->nmerges; i++) {
    tn_str left = tn_tokenizer_token(t, (int32_t)t->merges[i].left),
           right = tn_tokenizer_token(t, (int32_t)t->merges[i].right);
    char *text = tn_arena_alloc(&c->arena, left.len + right.len + 2);
    if (!text) return tn_tk_to_oom(c);
    memcpy(text, left.ptr, left.len);
    text[left.len] = ' ';
    memcpy(text + left.len + 1, right.ptr, right.len);
    list[i] = (tn_str){text, left.len + right.len + 1};
  }
  tn_gguf_put_strings(w, KEY("merges"), list, t->nmerges);
  return TN_OK;
}

/* ---- a splitter on its own ------------------------------------------------------------------- */
typedef struct splitter {
  tn_buf blob;
  tn_tokenizer *t;
} splitter;

static void splitter_close(splitter *s) {
  tn_tokenizer_close(s->t);
  tn_buf_fini(&s->blob);
}

/* The tokenizer of a file that has a row's name and one token. */
static tn_status splitter_open(tn_tk_to *c, const char *model, const char *pre, bool prefix, splitter *out) {
  static const tn_str token = {"a", 1};
  tn_gguf_writer w;
  tn_gguf *g = NULL;
  const char *why;
  *out = (splitter){0};
  tn_gguf_writer_init(&w);
  tn_gguf_put_string(&w, KEY("model"), tn_str_of(model));
  tn_gguf_put_string(&w, KEY("pre"), tn_str_of(pre));
  tn_gguf_put_bool(&w, KEY("add_space_prefix"), prefix);
  tn_gguf_put_strings(&w, KEY("tokens"), &token, 1);
  tn_gguf_put_strings(&w, KEY("merges"), NULL, 0);
  tn_status s = tn_gguf_writer_keys(&w, c->diags, &g);
  if (s == TN_OK) s = tn_tokenizer_from_gguf(g, &out->blob, c->diags);
  tn_gguf_close(g);
  tn_gguf_writer_fini(&w);
  if (s != TN_OK) return s;
  s = tn_tokenizer_open((tn_bytes){out->blob.text, out->blob.len}, &out->t, &why);
  return s == TN_OK ? s : tn_tk_to_fail(c, s, pre, "its splitter cannot be opened: %s", why);
}

/* ---- its patterns ---------------------------------------------------------------------------- */
typedef struct patterns {
  tn_str items[16];
  uint32_t count;
  bool nfc, prefix;
} patterns;

/* What a cut at each digit is, in the words of the engine. */
static tn_str digit(tn_tk_to *c) {
  tn_buf text = {0};
  uint64_t at;
  const char *why, *copy = NULL;
  if (tn_tk_regex_translate(TN_STR("\\p{N}"), &text, &at, &why) == TN_OK && !text.failed)
    copy = tn_arena_str(&c->arena, (tn_str){text.text, text.len});
  tn_str s = tn_str_of(copy);
  tn_buf_fini(&text);
  return s;
}

/* false: parts that no row has. */
static bool list_patterns(tn_tk_to *c, const tn_tokenizer *t, patterns *out) {
  const uint32_t *stage = t->head->stage;
  uint32_t first = stage[TN_TK_STAGE_NORMALIZE], behind = stage[TN_TK_STAGE_SPLIT];
  *out = (patterns){.nfc = behind > first};
  if (behind > first + 1 || (out->nfc && t->parts[first].kind != NORMALIZER_nfc)) return false;
  for (uint32_t i = behind; i < stage[TN_TK_STAGE_SPLIT + 1]; i++) {
    const tn_tk_part *p = &t->parts[i];
    bool digits = p->kind == SPLIT_digits && p->flags & TN_TK_SPLIT;
    bool pattern = p->kind == SPLIT_split && p->flags & TN_TK_REGEX && !(p->flags & TN_TK_INVERT) &&
                   p->a == TN_TK_ISOLATED;
    bool bytes = p->kind == SPLIT_byte_level && i + 1 == stage[TN_TK_STAGE_SPLIT + 1];
    if (!digits && !pattern && !bytes) return false;
    if (bytes) out->prefix = p->flags & TN_TK_PREFIX_SPACE;
    if (bytes && !(p->flags & TN_TK_REGEX)) continue;
    if (out->count == TN_COUNT(out->items)) return false;
    out->items[out->count++] = digits ? digit(c) : tn_tk_text_of(t, p->s);
  }
  return true;
}

static bool same_patterns(const patterns *a, const patterns *b) {
  bool same = a->count == b->count;
  for (uint32_t i = 0; i < a->count && same; i++) same = tn_str_eq(a->items[i], b->items[i]);
  return same;
}

/* A space is put in front by the last part, before it cuts, so that it is not like one in the text. */
static bool has_prefix(const tn_tokenizer *t) {
  const uint32_t *stage = t->head->stage;
  for (uint32_t i = stage[TN_TK_STAGE_SPLIT]; i < stage[TN_TK_STAGE_SPLIT + 1]; i++)
    if (t->parts[i].kind == SPLIT_byte_level && t->parts[i].flags & TN_TK_PREFIX_SPACE) return true;
  return false;
}

/* ---- whole words ----------------------------------------------------------------------------- */
/* Whether the merges make every token: then it is all the same whether a word that is a token needs them. */
static tn_status merges_make_all(tn_tk_to *c, bool *all) {
  tn_tokenizer t = *c->t;
  tn_tk_header head = *t.head;
  tn_tk_run r;
  head.flags &= ~(uint32_t)TN_TK_IGNORE_MERGES;
  t.head = &head;
  tn_tk_run_init(&r, &t);
  *all = true;
  for (uint32_t i = 0; i < c->size && *all && !r.status; i++) {
    if (c->types[i] != TN_TK_TYPE_NORMAL) continue;
    r.text.len = r.tokens.count = 0;
    tn_tk_put(&r.text, c->tokens[i].ptr, (uint32_t)c->tokens[i].len, (tn_tk_span){0, 0});
    if (r.text.failed) tn_tk_fail(&r, TN_OOM);
    if (!r.status) tn_tk_model_bpe(&r, 0, r.text.len);
    *all = r.tokens.count == 1;
  }
  tn_status s = r.status;
  tn_tk_run_fini(&r);
  return s;
}

/* ---- names ----------------------------------------------------------------------------------- */
typedef enum likeness {
  OTHER,
  NO_NFC, /* the same patterns, but only one of them composes characters first */
  ALIKE,  /* all texts are cut alike */
  EQUAL   /* the same patterns */
} likeness;
typedef struct row_like {
  likeness like;
  uint32_t alike; /* texts */
} row_like;

static tn_status compare_row(tn_tk_to *c, const char *model, const tn_tk_pre *row, row_like *out) {
  splitter s;
  patterns mine, theirs;
  tn_status status = splitter_open(c, model, row->name, has_prefix(c->t), &s);
  *out = (row_like){OTHER, 0};
  if (status == TN_OK) status = tn_tk_probe_splits(c->t, s.t, &out->alike);
  bool same = status == TN_OK && list_patterns(c, c->t, &mine) && list_patterns(c, s.t, &theirs) &&
              same_patterns(&mine, &theirs);
  if (same)
    out->like = mine.nfc == theirs.nfc ? EQUAL : NO_NFC;
  else if (out->alike == tn_tk_probe_count())
    out->like = ALIKE;
  splitter_close(&s);
  return status;
}

static bool same_row(const tn_tk_pre *a, const tn_tk_pre *b) {
  for (size_t i = 0; i < TN_TK_PATTERNS; i++)
    if (!a->patterns[i] != !b->patterns[i] || (a->patterns[i] && strcmp(a->patterns[i], b->patterns[i]) != 0))
      return false;
  return !a->normalizer == !b->normalizer && !((a->flags ^ b->flags) & TN_TK_PRE_RAW);
}

/* What every row is; equal ones are looked at once. */
static tn_status compare_rows(tn_tk_to *c, const char *model, bool raw, row_like *out) {
  uint32_t n;
  const tn_tk_pre *rows = tn_tk_pre_rows(&n);
  for (uint32_t i = 0; i < n; i++) {
    uint32_t first = 0;
    out[i] = (row_like){OTHER, 0};
    if (!(rows[i].flags & TN_TK_PRE_RAW) == raw) continue;
    while (!same_row(&rows[first], &rows[i])) first++;
    if (first < i)
      out[i] = out[first];
    else
      TN_TRY(compare_row(c, model, &rows[i], &out[i]));
  }
  return TN_OK;
}

static const char *note_of(tn_tk_to *c, likeness like, const char *name) {
  if (like != ALIKE) return NULL;
  return tn_arena_printf(
      &c->arena,
      "the patterns of the pre-tokenizer have no name of their own in GGUF files; '%s' cuts "
      "all texts of the comparison alike",
      name);
}

/* Whether readers that know the name let special tokens take the spaces that these take, and put as many
 * separators between two texts. */
static bool fits_specials(const tn_tk_to *c, const tn_tk_pre *row) {
  const uint32_t sides = TN_TK_ADDED_LSTRIP | TN_TK_ADDED_RSTRIP;
  for (uint32_t i = 0; i < c->t->nadded; i++) {
    const tn_tk_added *a = &c->t->added[i];
    uint32_t taken = tn_tk_taken(tn_str_of(row->name), tn_tk_text_of(c->t, a->text));
    if (a->flags & TN_TK_ADDED_SPECIAL && (a->flags ^ taken) & sides) return false;
  }
  return !(row->flags & TN_TK_PRE_SEP) == !tn_tk_to_doubled(c->t);
}

/* First the names that fit the special tokens, too. */
static tn_status push_ways(tn_tk_to *c, const row_like *like, likeness want, bool whole, tn_tk_ways *out) {
  uint32_t n;
  const tn_tk_pre *rows = tn_tk_pre_rows(&n);
  for (uint32_t i = 0; i < 2 * n; i++) {
    const tn_tk_pre *row = &rows[i % n];
    bool has = row->flags & TN_TK_PRE_WHOLE;
    if (like[i % n].like != want || has != whole || fits_specials(c, row) != (i < n)) continue;
    tn_tk_way way = {i % n, want == NO_NFC ? row->name : NULL, note_of(c, want, row->name)};
    if (!tn_vec_push(out, way)) return tn_tk_to_oom(c);
  }
  return TN_OK;
}

/* The row that was asked for, whatever it does. */
static tn_status push_named(tn_tk_to *c, tn_tk_ways *out) {
  uint32_t n;
  const tn_tk_pre *rows = tn_tk_pre_rows(&n);
  const char **names = tn_arena_alloc(&c->arena, n * sizeof *names);
  if (!names) return tn_tk_to_oom(c);
  for (uint32_t i = 0; i < n; i++) {
    names[i] = rows[i].name;
    if (!strcmp(rows[i].name, c->pre))
      return tn_vec_push(out, ((tn_tk_way){i, rows[i].name, NULL})) ? TN_OK : tn_tk_to_oom(c);
  }
  int near = tn_str_nearest(c->pre, names, (int)n);
  return tn_tk_to_fail(c, TN_INVALID, "--pre", "'%.64s' is not known%s%s", c->pre,
                       near < 0 ? "" : "; the nearest is ", near < 0 ? "" : names[near]);
}

/* For the error: the row that comes nearest. */
static void note_nearest(tn_tk_to *c, const row_like *like) {
  uint32_t n, best = 0;
  const tn_tk_pre *rows = tn_tk_pre_rows(&n);
  for (uint32_t i = 1; i < n; i++)
    if (like[i].alike > like[best].alike) best = i;
  c->about = tn_arena_printf(&c->arena, "the nearest is '%s', which cuts %u of %u texts alike",
                             rows[best].name, like[best].alike, tn_tk_probe_count());
}

static tn_status find_ways(tn_tk_to *c, const char *model, bool raw, tn_tk_ways *out) {
  uint32_t n;
  bool whole = c->t->head->flags & TN_TK_IGNORE_MERGES, all = false;
  tn_tk_pre_rows(&n);
  if (c->pre) return push_named(c, out);
  row_like *like = tn_arena_alloc(&c->arena, n * sizeof *like);
  if (!like) return tn_tk_to_oom(c);
  TN_TRY(compare_rows(c, model, raw, like));
  TN_TRY(push_ways(c, like, EQUAL, whole, out));
  if (!out->count) TN_TRY(push_ways(c, like, ALIKE, whole, out));
  if (!out->count) TN_TRY(merges_make_all(c, &all));
  if (all) TN_TRY(push_ways(c, like, EQUAL, !whole, out));
  if (all && !out->count) TN_TRY(push_ways(c, like, ALIKE, !whole, out));
  if (!out->count) TN_TRY(push_ways(c, like, NO_NFC, whole, out));
  if (!out->count && !raw) note_nearest(c, like);
  return TN_OK;
}

/* ---- kinds ----------------------------------------------------------------------------------- */
static tn_status bpe_ways(tn_tk_to *c, tn_tk_ways *out) { return find_ways(c, "gpt2", false, out); }
static tn_status raw_ways(tn_tk_to *c, tn_tk_ways *out) { return find_ways(c, "gemma4", true, out); }

static tn_status put_bpe(tn_tk_to *c, tn_tk_way way, tn_gguf_writer *w) {
  uint32_t n;
  const tn_tk_pre *rows = tn_tk_pre_rows(&n);
  tn_gguf_put_string(w, KEY("pre"), tn_str_of(rows[way.number].name));
  if (has_prefix(c->t)) tn_gguf_put_bool(w, KEY("add_space_prefix"), true);
  return tn_tk_to_merges(c, w);
}

const tn_tk_to_kind tn_tk_to_bpe = {"gpt2", bpe_ways, put_bpe};
const tn_tk_to_kind tn_tk_to_raw_bpe = {"gemma4", raw_ways, put_bpe};
