/* split.c - the pre-tokenizers: each cuts every split that is not an added token. Most only cut; Metaspace
 * and ByteLevel also rewrite, so they build the next text beside the present one. Empty pieces vanish. */
#include "frontend/tokenizer/engine.h"

static tn_tk_pre_tokenizer *const pre_tokenizers[] = {
#define TN_TK_PRE_TOKENIZER(name, type, needs) tn_tk_split_##name,
#include "frontend/tokenizer/parts.def"
};

static void push(tn_tk_run *r, uint32_t start, uint32_t end, int32_t added) {
  if (start < end && !tn_vec_push(&r->more, ((tn_tk_split){start, end, added}))) tn_tk_fail(r, TN_OOM);
}

void tn_tk_pre_tokenize(tn_tk_run *r) {
  const uint32_t *stage = r->t->head->stage;
  for (uint32_t i = stage[TN_TK_STAGE_SPLIT]; i < stage[TN_TK_STAGE_SPLIT + 1] && !r->status; i++) {
    r->more.count = 0;
    pre_tokenizers[r->t->parts[i].kind](r, &r->t->parts[i]);
    tn_tk_split *items = r->splits.items;
    uint32_t capacity = r->splits.capacity;
    r->splits.items = r->more.items, r->splits.count = r->more.count, r->splits.capacity = r->more.capacity;
    r->more.items = items, r->more.capacity = capacity;
    if (r->text.failed || r->side.failed) tn_tk_fail(r, TN_OOM);
  }
}

/* ---- cutting --------------------------------------------------------------------------------- */
typedef void cutter(tn_tk_run *r, const tn_tk_part *p, uint32_t start, uint32_t end);
static void each(tn_tk_run *r, const tn_tk_part *p, cutter *cut) {
  for (uint32_t i = 0; i < r->splits.count && !r->status; i++) {
    tn_tk_split s = r->splits.items[i];
    if (s.added >= 0)
      push(r, s.start, s.end, s.added);
    else
      cut(r, p, s.start, s.end);
  }
}

/* Merges r->matches as the behaviour wants; r->matches are then the pieces, those with is_match go. */
static void behave(tn_tk_run *r, tn_tk_behaviour how) {
  tn_tk_match *m = r->matches.items;
  uint32_t n = r->matches.count, count = 0;
  bool before = false;
  switch (how) {
  case TN_TK_REMOVED: return;
  case TN_TK_ISOLATED:
  case TN_TK_BEHAVIOURS: count = n; break;
  case TN_TK_CONTIGUOUS:
  case TN_TK_MERGED_WITH_PREVIOUS:
    for (uint32_t i = 0; i < n; i++) {
      bool is = m[i].is_match, join = how == TN_TK_CONTIGUOUS ? is == before : is && !before;
      if (join && count)
        m[count - 1].end = m[i].end;
      else
        m[count++] = m[i];
      before = is;
    }
    break;
  case TN_TK_MERGED_WITH_NEXT: /* from the end; the pieces gather there */
    for (uint32_t i = n; i-- > 0;) {
      bool is = m[i].is_match, join = is && !before;
      if (join && count)
        m[n - count].start = m[i].start;
      else
        m[n - ++count] = m[i];
      before = is;
    }
    memmove(m, m + n - count, count * sizeof *m);
    break;
  }
  r->matches.count = count;
  for (uint32_t i = 0; i < count; i++) m[i].is_match = false;
}

static void push_matches(tn_tk_run *r, uint32_t base) {
  for (uint32_t i = 0; i < r->matches.count; i++) {
    tn_tk_match m = r->matches.items[i];
    if (!m.is_match) push(r, base + m.start, base + m.end, -1);
  }
}

static void cut_pattern(tn_tk_run *r, const tn_tk_part *p, uint32_t start, uint32_t end) {
  tn_tk_find(r, p, r->text.s + start, end - start);
  for (uint32_t i = 0; i < r->matches.count && p->flags & TN_TK_INVERT; i++)
    r->matches.items[i].is_match = !r->matches.items[i].is_match;
  behave(r, (tn_tk_behaviour)p->a);
  push_matches(r, start);
}
void tn_tk_split_split(tn_tk_run *r, const tn_tk_part *p) { each(r, p, cut_pattern); }
void tn_tk_split_delimiter(tn_tk_run *r, const tn_tk_part *p) { each(r, p, cut_pattern); }

/* Matches are single characters of a class. */
static void cut_class(tn_tk_run *r, uint32_t start, uint32_t end, bool (*is)(uint32_t), tn_tk_behaviour how) {
  uint32_t covered = start;
  r->matches.count = 0;
  for (uint32_t i = start, from; i < end;) {
    from = i;
    if (!is(tn_tk_char(r->text.s, &i))) continue;
    bool ok = covered == from || tn_vec_push(&r->matches, ((tn_tk_match){covered, from, false}));
    if (!ok || !tn_vec_push(&r->matches, ((tn_tk_match){from, i, true}))) tn_tk_fail(r, TN_OOM);
    covered = i;
  }
  if (covered < end && !tn_vec_push(&r->matches, ((tn_tk_match){covered, end, false}))) tn_tk_fail(r, TN_OOM);
  behave(r, how);
  push_matches(r, 0);
}

static void cut_spaces(tn_tk_run *r, const tn_tk_part *p, uint32_t start, uint32_t end) {
  (void)p;
  cut_class(r, start, end, tn_tk_is_space, TN_TK_REMOVED);
}
void tn_tk_split_whitespace_split(tn_tk_run *r, const tn_tk_part *p) { each(r, p, cut_spaces); }

static void cut_digits(tn_tk_run *r, const tn_tk_part *p, uint32_t start, uint32_t end) {
  cut_class(r, start, end, tn_tk_is_numeric, p->flags & TN_TK_SPLIT ? TN_TK_ISOLATED : TN_TK_CONTIGUOUS);
}
void tn_tk_split_digits(tn_tk_run *r, const tn_tk_part *p) { each(r, p, cut_digits); }

static void cut_punctuation(tn_tk_run *r, const tn_tk_part *p, uint32_t start, uint32_t end) {
  cut_class(r, start, end, tn_tk_is_punct, (tn_tk_behaviour)p->a);
}
void tn_tk_split_punctuation(tn_tk_run *r, const tn_tk_part *p) { each(r, p, cut_punctuation); }

/* Spaces go, punctuation stands alone. */
static void cut_bert(tn_tk_run *r, const tn_tk_part *p, uint32_t start, uint32_t end) {
  (void)p;
  uint32_t word = start;
  for (uint32_t i = start, from; i < end;) {
    from = i;
    uint32_t c = tn_tk_char(r->text.s, &i);
    bool punct = tn_tk_is_punct(c);
    if (!punct && !tn_tk_is_space(c)) continue;
    push(r, word, from, -1);
    if (punct) push(r, from, i, -1);
    word = i;
  }
  push(r, word, end, -1);
}
void tn_tk_split_bert(tn_tk_run *r, const tn_tk_part *p) { each(r, p, cut_bert); }

/* Runs of \w, runs of what is neither \w nor \s; \s goes. */
static void cut_words(tn_tk_run *r, const tn_tk_part *p, uint32_t start, uint32_t end) {
  (void)p;
  uint32_t run = start;
  int last = 0; /* 0: space, 1: word, 2: other */
  for (uint32_t i = start, from; i < end;) {
    from = i;
    uint32_t c = tn_tk_char(r->text.s, &i);
    int is = tn_tk_is_word(c) ? 1 : tn_tk_is_space(c) ? 0 : 2;
    if (is == last) continue;
    if (last) push(r, run, from, -1);
    run = from;
    last = is;
  }
  if (last) push(r, run, end, -1);
}
void tn_tk_split_whitespace(tn_tk_run *r, const tn_tk_part *p) { each(r, p, cut_words); }

/* As the reference: what comes before the first character that has a script is lost. */
static void cut_scripts(tn_tk_run *r, const tn_tk_part *p, uint32_t start, uint32_t end) {
  (void)p;
  uint32_t piece = end, last = 0;
  for (uint32_t i = start, from; i < end;) {
    from = i;
    uint32_t script = tn_tk_script(tn_tk_char(r->text.s, &i));
    if (!script || script == last) continue;
    if (piece < end) push(r, piece, from, -1);
    piece = from;
    last = script;
  }
  push(r, piece, end, -1);
}
void tn_tk_split_scripts(tn_tk_run *r, const tn_tk_part *p) { each(r, p, cut_scripts); }

static void cut_fixed(tn_tk_run *r, const tn_tk_part *p, uint32_t start, uint32_t end) {
  uint32_t piece = start, n = 0;
  for (uint32_t i = start; i < end;) {
    i += tn_tk_char_bytes(r->text.s[i]);
    if (++n < p->a) continue;
    push(r, piece, i, -1);
    piece = i;
    n = 0;
  }
  push(r, piece, end, -1);
}
void tn_tk_split_fixed_length(tn_tk_run *r, const tn_tk_part *p) { each(r, p, cut_fixed); }

/* ---- rewriting ------------------------------------------------------------------------------- */
/* Calls `cut` for every split; it writes to r->side and pushes splits of that, which then becomes r->text. */
static void rewrite(tn_tk_run *r, const tn_tk_part *p, cutter *cut) {
  r->side.len = 0;
  for (uint32_t i = 0; i < r->splits.count && !r->status; i++) {
    tn_tk_split s = r->splits.items[i];
    if (s.added < 0) {
      cut(r, p, s.start, s.end);
      continue;
    }
    uint32_t start = r->side.len;
    tn_tk_put_part(&r->side, &r->text, s.start, s.end);
    push(r, start, r->side.len, s.added);
  }
  tn_tk_text swap = r->text;
  r->text = r->side;
  r->side = swap;
}

static bool begins_with(const char *s, uint32_t n, tn_str what) {
  return n >= what.len && !memcmp(s, what.ptr, what.len);
}

/* s: the replacement of spaces; a: when it is put in front. */
static void cut_metaspace(tn_tk_run *r, const tn_tk_part *p, uint32_t start, uint32_t end) {
  const tn_tk_text *in = &r->text;
  tn_str mark = tn_tk_text_of(r->t, p->s);
  tn_tk_text *out = &r->side;
  uint32_t piece = out->len, n = (uint32_t)mark.len;
  bool marked = in->s[start] == ' ' || begins_with(in->s + start, end - start, mark);
  bool prepend = p->a == TN_TK_PREPEND_ALWAYS || (p->a == TN_TK_PREPEND_FIRST && in->at[start].start == 0);
  if (prepend && !marked) tn_tk_put(out, mark.ptr, n, in->at[start]);
  for (uint32_t i = start, next; i < end; i = next) {
    next = i + tn_tk_char_bytes(in->s[i]);
    bool is_mark = in->s[i] == ' ' || begins_with(in->s + i, end - i, mark);
    if (is_mark && p->flags & TN_TK_SPLIT) push(r, piece, out->len, -1), piece = out->len;
    if (is_mark)
      tn_tk_put(out, mark.ptr, n, in->at[i]);
    else
      tn_tk_put_part(out, in, i, next);
  }
  push(r, piece, out->len, -1);
}
void tn_tk_split_metaspace(tn_tk_run *r, const tn_tk_part *p) { rewrite(r, p, cut_metaspace); }

/* Puts bytes i .. end of the segment as stand-ins; each stands where its character did. */
static void put_stand_ins(tn_tk_run *r, uint32_t i, uint32_t end) {
  if (!tn_tk_text_room(&r->side, 2 * (uint64_t)(end - i))) return;
  for (; i < end; i++)
    tn_tk_put_code(&r->side, tn_tk_byte_to_char((uint8_t)r->segment.s[i]), r->segment.at[i]);
}

static void cut_byte_level(tn_tk_run *r, const tn_tk_part *p, uint32_t start, uint32_t end) {
  r->segment.len = 0;
  if (p->flags & TN_TK_PREFIX_SPACE && r->text.s[start] != ' ')
    tn_tk_put(&r->segment, " ", 1, r->text.at[start]);
  tn_tk_put_part(&r->segment, &r->text, start, end);
  if (r->segment.failed) {
    tn_tk_fail(r, TN_OOM);
    return;
  }
  if (p->flags & TN_TK_REGEX) {
    tn_tk_find(r, p, r->segment.s, r->segment.len);
  } else {
    r->matches.count = 0;
    if (!tn_vec_push(&r->matches, ((tn_tk_match){0, r->segment.len, false}))) tn_tk_fail(r, TN_OOM);
  }
  for (uint32_t i = 0; i < r->matches.count; i++) {
    uint32_t piece = r->side.len;
    put_stand_ins(r, r->matches.items[i].start, r->matches.items[i].end);
    push(r, piece, r->side.len, -1);
  }
}
void tn_tk_split_byte_level(tn_tk_run *r, const tn_tk_part *p) { rewrite(r, p, cut_byte_level); }
