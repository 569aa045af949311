/* jinja_args.c - arguments of filters, tests, methods and globals: by place or by name. */
#include "frontend/chat/jinja.h"

bool tn_jinja_given(tn_jv v) { return v.kind != TN_JV_UNDEFINED || v.u.s.ptr; }

tn_jv tn_jinja_arg(const tn_jinja_args *a, uint32_t i, const char *name) {
  if (i < a->count) return a->items[i];
  for (uint32_t k = 0; name && k < a->nnamed; k++)
    if (tn_str_is(a->names[k], name)) return a->named[k];
  return tn_jv_undefined(NULL);
}

tn_str tn_jinja_str_arg(tn_jinja_run *r, const tn_jinja_args *a, uint32_t i, const char *name,
                        const char *fallback) {
  tn_jv v = tn_jinja_arg(a, i, name);
  if (v.kind == TN_JV_STR) return v.u.s;
  if (tn_jinja_given(v)) tn_jinja_fail(r, "argument '%s' should be a string, is a %s", name, tn_jv_type(v));
  return tn_str_of(fallback);
}

int64_t tn_jinja_int_arg(tn_jinja_run *r, const tn_jinja_args *a, uint32_t i, const char *name,
                         int64_t fallback) {
  tn_jv v = tn_jinja_arg(a, i, name);
  if (tn_jv_is_whole(v)) return tn_jv_whole(v);
  if (tn_jinja_given(v))
    tn_jinja_fail(r, "argument '%s' should be a whole number, is a %s", name, tn_jv_type(v));
  return fallback;
}

bool tn_jinja_bool_arg(const tn_jinja_args *a, uint32_t i, const char *name, bool fallback) {
  tn_jv v = tn_jinja_arg(a, i, name);
  return tn_jinja_given(v) ? tn_jv_true(v) : fallback;
}

bool tn_jinja_takes(tn_jinja_run *r, const tn_jinja_args *a, const char *what, uint32_t least,
                    uint32_t most) {
  uint32_t n = a->count + a->nnamed;
  if (n >= least && n <= most) return !r->status;
  if (least == most)
    tn_jinja_fail(r, "'%s' takes %u argument%s, %u are given", what, least, least == 1 ? "" : "s", n);
  else
    tn_jinja_fail(r, "'%s' takes %u to %u arguments, %u are given", what, least, most, n);
  return false;
}

const tn_jinja_row *tn_jinja_row_of(const tn_jinja_row *rows, size_t n, tn_str name) {
  for (size_t i = 0; i < n; i++)
    if (tn_str_is(name, rows[i].name)) return &rows[i];
  return NULL;
}
