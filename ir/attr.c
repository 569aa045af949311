/* attr.c - attributes: defaults from ops.def's text, checked copies, comparison. */
#include "ir/module.h"
#include <math.h>
#include <stdlib.h>

#define ATTR_LIST_MAX 65536u

static const char *const kinds[] = {
    [TN_ATTR_NONE] = "none",   [TN_ATTR_BOOL] = "bool",         [TN_ATTR_INT] = "integer",
    [TN_ATTR_FLOAT] = "float", [TN_ATTR_STR] = "string",        [TN_ATTR_INTS] = "list of integers",
    [TN_ATTR_DIM] = "dim",     [TN_ATTR_DIMS] = "list of dims", [TN_ATTR_DTYPE] = "element type",
    [TN_ATTR_DATA] = "data"};

const char *tn_attr_kind_name(uint32_t kind) { return kind < TN_COUNT(kinds) ? kinds[kind] : "unknown"; }

int tn_attr_find(const tn_op_spec *s, const char *name) {
  for (uint32_t i = 0; s && i < s->nattrs; i++)
    if (!strcmp(s->attrs[i].name, name)) return (int)i;
  return -1;
}

static tn_status bad(tn_module *m, tn_loc l, const char *name, const char *what) {
  return tn_module_fail(m, TN_INVALID, l, "attribute '%s' %s", name, what);
}

static tn_status copy_list(tn_module *m, tn_loc l, const char *name, const tn_attr *in, tn_attr *out) {
  if (in->count > ATTR_LIST_MAX) return bad(m, l, name, "has too many entries");
  out->count = in->count;
  if (in->kind == TN_ATTR_INTS) {
    out->u.ints = tn_arena_copy(&m->arena, in->u.ints, in->count * sizeof *in->u.ints);
    return out->u.ints ? TN_OK : tn_module_oom(m);
  }
  for (uint32_t i = 0; i < in->count; i++)
    if (!tn_dim_row_of(m, in->u.dims[i])->kind) return bad(m, l, name, "has an entry that is no dim");
  out->u.dims = tn_arena_copy(&m->arena, in->u.dims, in->count * sizeof *in->u.dims);
  return out->u.dims ? TN_OK : tn_module_oom(m);
}

tn_status tn_attr_copy(tn_module *m, tn_loc l, const char *name, uint32_t kind, const tn_attr *in,
                       tn_attr *out) {
  if (in->kind != kind)
    return tn_module_fail(m, TN_INVALID, l, "attribute '%s' wants %s, not %s", name, tn_attr_kind_name(kind),
                          tn_attr_kind_name(in->kind));
  *out = (tn_attr){.kind = kind};
  switch (kind) {
  case TN_ATTR_BOOL: out->u.i = in->u.i != 0; return TN_OK;
  case TN_ATTR_INT: out->u.i = in->u.i; return TN_OK;
  case TN_ATTR_FLOAT: out->u.f = isnan(in->u.f) ? (double)NAN : in->u.f; return TN_OK;
  case TN_ATTR_STR:
    out->u.s = tn_module_text(m, in->u.s ? in->u.s : "", "an attribute's text");
    return out->u.s ? TN_OK : TN_INVALID;
  case TN_ATTR_INTS:
  case TN_ATTR_DIMS: return copy_list(m, l, name, in, out);
  case TN_ATTR_DIM:
    if (!tn_dim_row_of(m, in->u.dim)->kind) return bad(m, l, name, "is no dim");
    out->u.dim = in->u.dim;
    return TN_OK;
  case TN_ATTR_DTYPE:
    if (in->u.i < 0 || in->u.i > UINT32_MAX || !tn_ir_dtype_info((tn_dtype)in->u.i))
      return bad(m, l, name, "is no element type");
    out->u.i = in->u.i;
    return TN_OK;
  case TN_ATTR_DATA:
    out->u.data.len = in->u.data.len;
    out->u.data.ptr =
        in->u.data.len < SIZE_MAX ? tn_arena_copy(&m->arena, in->u.data.ptr, in->u.data.len) : NULL;
    return out->u.data.ptr ? TN_OK : tn_module_oom(m);
  }
  return bad(m, l, name, "is of no known kind");
}

/* Defaults in ops.def are plain: numbers, names, and [] for lists. */
tn_status tn_attr_default(tn_module *m, const tn_attr_spec *s, tn_attr *out) {
  const char *def = s->def;
  *out = (tn_attr){.kind = s->kind};
  switch (s->kind) {
  case TN_ATTR_BOOL:
  case TN_ATTR_INT: out->u.i = strtoll(def, NULL, 10); break;
  case TN_ATTR_FLOAT: out->u.f = strtod(def, NULL); break;
  case TN_ATTR_STR: out->u.s = tn_module_intern(m, strcmp(def, "\"\"") ? tn_str_of(def) : TN_STR("")); break;
  case TN_ATTR_DIM: out->u.dim = tn_ir_dim_const(m, strtoll(def, NULL, 10)); break;
  case TN_ATTR_DTYPE: out->u.i = tn_ir_dtype_by_name(def); break;
  case TN_ATTR_INTS: out->u.ints = tn_arena_alloc(&m->arena, sizeof *out->u.ints); break;
  case TN_ATTR_DIMS: out->u.dims = tn_arena_alloc(&m->arena, sizeof *out->u.dims); break;
  }
  bool missing = (s->kind == TN_ATTR_STR && !out->u.s) || (s->kind == TN_ATTR_INTS && !out->u.ints) ||
                 (s->kind == TN_ATTR_DIMS && !out->u.dims) || (s->kind == TN_ATTR_DIM && !out->u.dim);
  return missing ? tn_module_oom(m) : TN_OK;
}

bool tn_attr_is_default(tn_module *m, const tn_attr_spec *s, const tn_attr *a) {
  int64_t v;
  double f = strtod(s->def, NULL);
  if (s->required) return false;
  switch (s->kind) {
  case TN_ATTR_BOOL:
  case TN_ATTR_INT: return a->u.i == strtoll(s->def, NULL, 10);
  case TN_ATTR_FLOAT: return !memcmp(&a->u.f, &f, sizeof f); /* -0 is not 0 */
  case TN_ATTR_STR: return !strcmp(a->u.s, strcmp(s->def, "\"\"") ? s->def : "");
  case TN_ATTR_DIM: return tn_ir_dim_is_const(m, a->u.dim, &v) && v == strtoll(s->def, NULL, 10);
  case TN_ATTR_DTYPE: return a->u.i == tn_ir_dtype_by_name(s->def);
  }
  return !a->count; /* lists */
}

bool tn_attr_equal(const tn_attr *a, const tn_attr *b) {
  if (a->kind != b->kind || a->count != b->count) return false;
  switch (a->kind) {
  case TN_ATTR_FLOAT: return !memcmp(&a->u.f, &b->u.f, sizeof a->u.f);
  case TN_ATTR_STR: return !strcmp(a->u.s, b->u.s);
  case TN_ATTR_INTS: return !memcmp(a->u.ints, b->u.ints, a->count * sizeof *a->u.ints);
  case TN_ATTR_DIM: return a->u.dim == b->u.dim;
  case TN_ATTR_DIMS: return !memcmp(a->u.dims, b->u.dims, a->count * sizeof *a->u.dims);
  case TN_ATTR_DATA:
    return a->u.data.len == b->u.data.len && !memcmp(a->u.data.ptr, b->u.data.ptr, a->u.data.len);
  }
  return a->u.i == b->u.i;
}
