/* overrides.c - REGEX=TYPE pairs of --tensor-type and of files of them: the first that matches a tensor's
 * name decides. A pair that matches none is said, since it is most likely misspelt. */
#include "frontend/tokenizer/regex.h"
#include "tools/quantize/quantize.h"

typedef struct pair {
  tn_tk_regex *regex;
  const char *text;
  tn_dtype type;
  bool used;
} pair;
struct tn_qoverrides {
  tn_arena arena;
  tn_diags *diags;
  tn_tk_matcher matcher;
  TN_VEC(pair) pairs;
};

static tn_status add(tn_qoverrides *o, const char *what, tn_str text) {
  char *pattern = tn_arena_str(&o->arena, text), why[160] = "";
  char *equals = pattern ? strrchr(pattern, '=') : NULL;
  if (!pattern) return TN_OOM;
  if (!equals || equals == pattern)
    return tn_fail(o->diags, TN_INVALID, NULL, NULL, "%s: '%s' is not REGEX=TYPE", what, pattern);
  pair p = {.text = pattern};
  p.type = tn_quantize_type(o->diags, what, equals + 1);
  if (!p.type) return TN_INVALID;
  *equals = 0;
  p.regex = tn_tk_regex_new(tn_str_of(pattern), why, sizeof why);
  if (!p.regex) return tn_fail(o->diags, TN_INVALID, NULL, NULL, "%s: '%s': %s", what, pattern, why);
  if (tn_vec_push(&o->pairs, p)) return TN_OK;
  tn_tk_regex_free(p.regex);
  return TN_OOM;
}

static tn_status read_file(tn_qoverrides *o, const char *path) {
  tn_file f;
  const char *why;
  tn_status s = tn_file_map(&f, path, &why);
  if (s) return tn_fail(o->diags, s, path, NULL, "%s", why);
  const char *text = (const char *)f.data;
  for (uint64_t i = 0; s == TN_OK && i < f.size;) {
    uint64_t n = 0;
    while (i < f.size && strchr(" \t\r\n", text[i])) i++;
    while (i + n < f.size && !strchr(" \t\r\n", text[i + n])) n++;
    if (n) s = add(o, path, (tn_str){text + i, n});
    i += n;
  }
  tn_file_unmap(&f);
  return s;
}

tn_status tn_qoverrides_read(const tn_args *a, tn_diags *d, tn_qoverrides **out) {
  tn_qoverrides *o = *out = tn_mem_alloc(sizeof *o);
  const char *text;
  if (!o) return TN_OOM;
  tn_arena_init(&o->arena);
  o->diags = d;
  for (uint32_t i = 0; (text = tn_args_nth(a, OPT_tensor_type, i)); i++)
    TN_TRY(add(o, "--tensor-type", tn_str_of(text)));
  for (uint32_t i = 0; (text = tn_args_nth(a, OPT_tensor_type_file, i)); i++) TN_TRY(read_file(o, text));
  return TN_OK;
}

tn_dtype tn_qoverrides_find(tn_qoverrides *o, const char *name, const char **pattern) {
  uint32_t from, to;
  for (uint32_t i = 0; i < o->pairs.count; i++) {
    pair *p = &o->pairs.items[i];
    if (tn_tk_regex_find(p->regex, &o->matcher, name, (uint32_t)strlen(name), 0, &from, &to)) continue;
    p->used = true;
    *pattern = p->text;
    return p->type;
  }
  return 0;
}

void tn_qoverrides_free(tn_qoverrides *o) {
  if (!o) return;
  for (uint32_t i = 0; i < o->pairs.count; i++) {
    if (!o->pairs.items[i].used && !o->diags->errors)
      tn_diags_add(o->diags, TN_WARNING, NULL, 0, 0, NULL,
                   "--tensor-type: '%s' matches no tensor that can change", o->pairs.items[i].text);
    tn_tk_regex_free(o->pairs.items[i].regex);
  }
  tn_tk_matcher_fini(&o->matcher);
  tn_vec_fini(&o->pairs);
  tn_arena_fini(&o->arena);
  tn_mem_free(o);
}
