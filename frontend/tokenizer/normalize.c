/* normalize.c - the normalizers that go character by character. Where the characters of a result stand in the
 * original follows the reference: a kept or replaced character where it stood, an inserted one with the one
 * before. */
#include "frontend/tokenizer/engine.h"

static tn_tk_normalizer *const normalizers[] = {
#define TN_TK_NORMALIZER(name, type, needs) tn_tk_normalize_##name,
#include "frontend/tokenizer/parts.def"
};

static void step(tn_tk_run *r, const tn_tk_part *p, tn_tk_normalizer *f) {
  r->normal.len = 0;
  r->unchanged = false;
  f(r, p, &r->segment, &r->normal);
  if (r->normal.failed) tn_tk_fail(r, TN_OOM);
  if (r->unchanged) return;
  tn_tk_text swap = r->segment;
  r->segment = r->normal;
  r->normal = swap;
}

void tn_tk_normalize(tn_tk_run *r) {
  const uint32_t *stage = r->t->head->stage;
  for (uint32_t i = stage[TN_TK_STAGE_NORMALIZE]; i < stage[TN_TK_STAGE_NORMALIZE + 1] && !r->status; i++)
    step(r, &r->t->parts[i], normalizers[r->t->parts[i].kind]);
}

tn_status tn_tk_normalize_text(const tn_tokenizer *t, tn_str text, tn_buf *out) {
  tn_tk_run r;
  tn_tk_run_init(&r, t);
  tn_tk_put_original(&r.segment, text, 0);
  if (r.segment.failed) tn_tk_fail(&r, TN_OOM);
  tn_tk_normalize(&r);
  if (!r.status) tn_buf_put(out, r.segment.s, r.segment.len);
  tn_tk_run_fini(&r);
  return r.status;
}

/* ---- steps of BertNormalizer ----------------------------------------------------------------- */
static void clean(tn_tk_run *r, const tn_tk_part *p, const tn_tk_text *in, tn_tk_text *out) {
  (void)r, (void)p;
  if (!tn_tk_text_room(out, in->len)) return;
  for (uint32_t i = 0, start; i < in->len;) {
    start = i;
    uint32_t c = tn_tk_char(in->s, &i);
    if (c >= ' ' && c < 0x7f)
      tn_tk_put(out, in->s + start, 1, in->at[start]);
    else if (!tn_tk_is_other(c) && tn_tk_is_space(c))
      tn_tk_put(out, " ", 1, in->at[start]);
    else if (!tn_tk_is_other(c))
      tn_tk_put_part(out, in, start, i);
  }
}

static bool is_chinese(uint32_t c) {
  static const uint32_t blocks[][2] = {{0x3400, 0x4dbf},   {0x4e00, 0x9fff},   {0xf900, 0xfaff},
                                       {0x20000, 0x2a6df}, {0x2a700, 0x2b73f}, {0x2b740, 0x2b81f},
                                       {0x2b920, 0x2ceaf}, {0x2f800, 0x2fa1f}};
  if (c < 0x3400) return false;
  for (size_t i = 0; i < TN_COUNT(blocks); i++) {
    if (c >= blocks[i][0] && c <= blocks[i][1]) return true;
  }
  return false;
}

static void space_chinese(tn_tk_run *r, const tn_tk_part *p, const tn_tk_text *in, tn_tk_text *out) {
  (void)p;
  r->unchanged = true;
  for (uint32_t i = 0; i < in->len && r->unchanged; i++) r->unchanged = (uint8_t)in->s[i] < 0xe3;
  if (r->unchanged) return;
  for (uint32_t i = 0, start; i < in->len;) {
    start = i;
    bool chinese = is_chinese(tn_tk_char(in->s, &i));
    if (chinese) tn_tk_put(out, " ", 1, in->at[start]);
    tn_tk_put_part(out, in, start, i);
    if (chinese) tn_tk_put(out, " ", 1, in->at[start]);
  }
}

static void filter(const tn_tk_text *in, tn_tk_text *out, bool (*drop)(uint32_t)) {
  for (uint32_t i = 0, start; i < in->len;) {
    start = i;
    if (!drop(tn_tk_char(in->s, &i))) tn_tk_put_part(out, in, start, i);
  }
}

static void drop_nonspacing(tn_tk_run *r, const tn_tk_part *p, const tn_tk_text *in, tn_tk_text *out) {
  (void)p;
  if (tn_tk_ascii(in->s, in->len))
    r->unchanged = true;
  else
    filter(in, out, tn_tk_is_nonspacing);
}

void tn_tk_normalize_bert(tn_tk_run *r, const tn_tk_part *p, const tn_tk_text *in, tn_tk_text *out) {
  (void)in, (void)out;
  if (p->flags & TN_TK_CLEAN) step(r, p, clean);
  if (p->flags & TN_TK_CHINESE) step(r, p, space_chinese);
  if (p->flags & TN_TK_ACCENTS) {
    step(r, p, tn_tk_normalize_nfd);
    step(r, p, drop_nonspacing);
  }
  if (p->flags & TN_TK_LOWER) step(r, p, tn_tk_normalize_lowercase);
  r->unchanged = true; /* the steps have put their result where it belongs */
}

/* ---- the others ------------------------------------------------------------------------------ */
void tn_tk_normalize_strip(tn_tk_run *r, const tn_tk_part *p, const tn_tk_text *in, tn_tk_text *out) {
  (void)r;
  uint32_t start = 0, end = in->len;
  for (uint32_t i = 0; p->flags & TN_TK_LEFT && i < end && tn_tk_is_space(tn_tk_char(in->s, &i));) start = i;
  for (uint32_t i = end; p->flags & TN_TK_RIGHT && i > start && tn_tk_is_space(tn_tk_char_before(in->s, &i));)
    end = i;
  tn_tk_put_part(out, in, start, end);
}

void tn_tk_normalize_strip_accents(tn_tk_run *r, const tn_tk_part *p, const tn_tk_text *in, tn_tk_text *out) {
  (void)r, (void)p;
  filter(in, out, tn_tk_is_mark);
}

void tn_tk_normalize_nfc(tn_tk_run *r, const tn_tk_part *p, const tn_tk_text *in, tn_tk_text *out) {
  (void)p;
  tn_tk_normal_form(r, in, out, false, true);
}
void tn_tk_normalize_nfd(tn_tk_run *r, const tn_tk_part *p, const tn_tk_text *in, tn_tk_text *out) {
  (void)p;
  tn_tk_normal_form(r, in, out, false, false);
}
void tn_tk_normalize_nfkc(tn_tk_run *r, const tn_tk_part *p, const tn_tk_text *in, tn_tk_text *out) {
  (void)p;
  tn_tk_normal_form(r, in, out, true, true);
}
void tn_tk_normalize_nfkd(tn_tk_run *r, const tn_tk_part *p, const tn_tk_text *in, tn_tk_text *out) {
  (void)p;
  tn_tk_normal_form(r, in, out, true, false);
}

void tn_tk_normalize_lowercase(tn_tk_run *r, const tn_tk_part *p, const tn_tk_text *in, tn_tk_text *out) {
  (void)r, (void)p;
  if (!tn_tk_text_room(out, in->len)) return;
  for (uint32_t i = 0, start; i < in->len;) {
    start = i;
    uint32_t c = tn_tk_char(in->s, &i);
    tn_tk_put_code(out, tn_tk_lower(c), in->at[start]);
    if (c == 0x130) tn_tk_put_code(out, 0x307, in->at[start]);
  }
}

static bool nmt_drops(uint32_t c) {
  return (c >= 1 && c <= 8) || c == 0xb || (c >= 0xe && c <= 0x1f) || c == 0x7f || c == 0x8f || c == 0x9f;
}
static bool nmt_spaces(uint32_t c) {
  return c == 9 || c == 0xa || c == 0xc || c == 0xd || c == 0x1680 || (c >= 0x200b && c <= 0x200f) ||
         c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xfeff || c == 0xfffd;
}
void tn_tk_normalize_nmt(tn_tk_run *r, const tn_tk_part *p, const tn_tk_text *in, tn_tk_text *out) {
  (void)r, (void)p;
  for (uint32_t i = 0, start; i < in->len;) {
    start = i;
    uint32_t c = tn_tk_char(in->s, &i);
    if (nmt_spaces(c))
      tn_tk_put(out, " ", 1, in->at[start]);
    else if (!nmt_drops(c))
      tn_tk_put_part(out, in, start, i);
  }
}

/* Every character of the content stands where the last byte that it replaces stood. */
void tn_tk_normalize_replace(tn_tk_run *r, const tn_tk_part *p, const tn_tk_text *in, tn_tk_text *out) {
  tn_str content = tn_tk_text_of(r->t, p->t);
  tn_tk_find(r, p, in->s, in->len);
  r->unchanged = true;
  for (uint32_t i = 0; i < r->matches.count && r->unchanged; i++)
    r->unchanged = !r->matches.items[i].is_match;
  if (r->unchanged) return;
  for (uint32_t i = 0; i < r->matches.count; i++) {
    const tn_tk_match *m = &r->matches.items[i];
    tn_tk_span at = m->end ? in->at[m->end - 1] : (tn_tk_span){r->base, r->base};
    if (m->is_match)
      tn_tk_put(out, content.ptr, (uint32_t)content.len, at);
    else
      tn_tk_put_part(out, in, m->start, m->end);
  }
}

void tn_tk_normalize_prepend(tn_tk_run *r, const tn_tk_part *p, const tn_tk_text *in, tn_tk_text *out) {
  tn_str s = tn_tk_text_of(r->t, p->s);
  if (!in->len) return;
  tn_tk_put(out, s.ptr, (uint32_t)s.len, in->at[0]);
  tn_tk_put_part(out, in, 0, in->len);
}

void tn_tk_normalize_byte_level(tn_tk_run *r, const tn_tk_part *p, const tn_tk_text *in, tn_tk_text *out) {
  (void)r, (void)p;
  for (uint32_t i = 0; i < in->len; i++)
    tn_tk_put_code(out, tn_tk_byte_to_char((uint8_t)in->s[i]), in->at[i]);
}
