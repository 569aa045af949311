/* regex.h - the only door to pcre2. A pattern of a tokenizer.json is in Oniguruma's syntax (as in Ruby): the
 * importer translates it once, the engine compiles what it gave. */
#ifndef TN_TK_REGEX_H
#define TN_TK_REGEX_H
#include "ir/base/base.h"

/* Appends the pattern in pcre2's syntax. *why: static text; *at: where in the pattern. TN_INVALID,
 * TN_UNSUPPORTED (Oniguruma has it, pcre2 has not), TN_OOM. */
tn_status tn_tk_regex_translate(tn_str pattern, tn_buf *out, uint64_t *at, const char **why);

typedef struct tn_tk_regex tn_tk_regex; /* compiled; shared by threads */
tn_tk_regex *tn_tk_regex_new(tn_str pattern, char *error,
                             size_t error_size); /* NULL: error, or no memory (empty error) */
void tn_tk_regex_free(tn_tk_regex *x);

typedef struct tn_tk_matcher { /* one thread's; zeroed at first */
  void *data, *context;
} tn_tk_matcher;
void tn_tk_matcher_fini(tn_tk_matcher *m);
/* Next match in s[from .. n): TN_OK and its place, TN_NOT_FOUND, TN_INVALID (too many steps), TN_OOM. */
tn_status tn_tk_regex_find(const tn_tk_regex *x, tn_tk_matcher *m, const char *s, uint32_t n, uint32_t from,
                           uint32_t *start, uint32_t *end);
#endif
