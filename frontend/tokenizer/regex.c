/* regex.c - pcre2, compiled to machine code where the system lets it. A match may take STEPS steps; a pattern
 * that needs more on some text is an error there, not a hang. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "frontend/tokenizer/regex.h"
#include <pcre2.h>
#include <stdio.h>

enum { STEPS = 10 * 1000 * 1000, DEPTH = 100 * 1000, HEAP_KIB = 64 * 1024 };

struct tn_tk_regex {
  pcre2_code *code;
};

static void *allocate(size_t n, void *user) {
  (void)user;
  return tn_mem_alloc(n);
}
static void release(void *p, void *user) {
  (void)user;
  tn_mem_free(p);
}

static pcre2_code *compile(tn_str pattern, char *error, size_t error_size) {
  pcre2_general_context *general = pcre2_general_context_create(allocate, release, NULL);
  pcre2_compile_context *context = general ? pcre2_compile_context_create(general) : NULL;
  pcre2_code *code = NULL;
  if (context) {
    int number;
    size_t at;
    uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NO_UTF_CHECK | PCRE2_NEVER_BACKSLASH_C;
    pcre2_set_parens_nest_limit(context, 100);
    code = pcre2_compile((PCRE2_SPTR)pattern.ptr, pattern.len, options, &number, &at, context);
    if (!code && number != PCRE2_ERROR_HEAP_FAILED) {
      char text[128];
      pcre2_get_error_message(number, (PCRE2_UCHAR *)text, sizeof text);
      snprintf(error, error_size, "%s", text);
    }
  }
  pcre2_compile_context_free(context);
  pcre2_general_context_free(general);
  return code;
}

tn_tk_regex *tn_tk_regex_new(tn_str pattern, char *error, size_t error_size) {
  *error = 0;
  tn_tk_regex *x = tn_mem_alloc(sizeof *x);
  if (!x) return NULL;
  x->code = compile(pattern, error, error_size);
  if (!x->code) {
    tn_mem_free(x);
    return NULL;
  }
  pcre2_jit_compile(x->code, PCRE2_JIT_COMPLETE); /* refused: the interpreter does it */
  return x;
}

void tn_tk_regex_free(tn_tk_regex *x) {
  if (!x) return;
  pcre2_code_free(x->code);
  tn_mem_free(x);
}

void tn_tk_matcher_fini(tn_tk_matcher *m) {
  pcre2_match_data_free(m->data);
  pcre2_match_context_free(m->context);
  memset(m, 0, sizeof *m);
}

static bool matcher_ready(tn_tk_matcher *m) {
  if (m->data) return true;
  pcre2_general_context *general = pcre2_general_context_create(allocate, release, NULL);
  if (!general) return false;
  m->context = pcre2_match_context_create(general);
  if (m->context) {
    pcre2_set_match_limit(m->context, STEPS);
    pcre2_set_depth_limit(m->context, DEPTH);
    pcre2_set_heap_limit(m->context, HEAP_KIB);
    m->data = pcre2_match_data_create(1, general);
  }
  pcre2_general_context_free(general);
  return m->data;
}

tn_status tn_tk_regex_find(const tn_tk_regex *x, tn_tk_matcher *m, const char *s, uint32_t n, uint32_t from,
                           uint32_t *start, uint32_t *end) {
  if (!matcher_ready(m)) return TN_OOM;
  int got = pcre2_match(x->code, (PCRE2_SPTR)s, n, from, PCRE2_NO_UTF_CHECK, m->data, m->context);
  if (got == PCRE2_ERROR_NOMATCH) return TN_NOT_FOUND;
  if (got == PCRE2_ERROR_NOMEMORY) return TN_OOM;
  if (got < 0) return TN_INVALID;
  const size_t *place = pcre2_get_ovector_pointer(m->data);
  if (place[0] < from || place[1] < place[0] || place[1] > n) return TN_INVALID; /* \K in a look-around */
  *start = (uint32_t)place[0];
  *end = (uint32_t)place[1];
  return TN_OK;
}
