/* find.c - all matches of a pattern, and what lies between them, in order: the common ground of Split,
 * Replace and ByteLevel. An empty match right behind the last match does not count (as in the reference). */
#include "frontend/tokenizer/engine.h"

static void push(tn_tk_run *r, uint32_t start, uint32_t end, bool is_match) {
  if (!tn_vec_push(&r->matches, ((tn_tk_match){start, end, is_match}))) tn_tk_fail(r, TN_OOM);
}

static tn_status find_literal(tn_str what, const char *s, uint32_t n, uint32_t from, uint32_t *start,
                              uint32_t *end) {
  const char *p = memmem(s + from, n - from, what.ptr, what.len);
  if (!p) return TN_NOT_FOUND;
  *start = (uint32_t)(p - s);
  *end = *start + (uint32_t)what.len;
  return TN_OK;
}

void tn_tk_find(tn_tk_run *r, const tn_tk_part *p, const char *s, uint32_t n) {
  const tn_tk_regex *x = r->t->regexes[p - r->t->parts];
  tn_str literal = tn_tk_text_of(r->t, p->s);
  uint32_t from = 0, covered = 0, start, end;
  bool any = false; /* a match ended at `covered` */
  r->matches.count = 0;
  while (from <= n && n && !r->status) {
    tn_status status = x ? tn_tk_regex_find(x, &r->matcher, s, n, from, &start, &end)
                         : find_literal(literal, s, n, from, &start, &end);
    if (status == TN_NOT_FOUND) break;
    if (status) {
      tn_tk_fail(r, status);
      return;
    }
    if (start == end && any && start == covered) {
      from = start < n ? start + tn_tk_char_bytes(s[start]) : n + 1;
      continue;
    }
    if (start > covered) push(r, covered, start, false);
    push(r, start, end, true);
    any = true;
    from = covered = end;
  }
  if (covered < n) push(r, covered, n, false);
}
