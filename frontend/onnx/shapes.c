/* shapes.c - the option "shapes". */
#include "frontend/onnx/shapes.h"
#include <stdlib.h>

enum { MAX_LENGTH = 1024 };

static tn_status bad(tn_diags *diags, const char *part, const char *why) {
  return tn_fail(diags, TN_INVALID, NULL, "--shapes", "'%.200s': %s", part, why);
}

static uint32_t count_dims(tn_str s) {
  uint32_t n = s.len ? 1 : 0;
  for (uint64_t i = 0; i < s.len; i++) n += s.ptr[i] == 'x';
  return n;
}

tn_str tn_ox_shape_dim(const tn_ox_shape *s, uint32_t i) {
  const char *p = s->dims.ptr, *end = p + s->dims.len;
  for (; i; i--) p = (const char *)memchr(p, 'x', (size_t)(end - p)) + 1;
  const char *stop = memchr(p, 'x', (size_t)(end - p));
  return (tn_str){p, (uint64_t)((stop ? stop : end) - p)};
}

/* "NAME:SIZES", "NAME:[LENGTH]SIZES" or "NAME:none". */
static tn_status parse_one(char *part, tn_diags *diags, tn_ox_shape *out) {
  char *colon = strrchr(part, ':'), *s;
  if (!colon || colon == part) return bad(diags, part, "expected NAME:1x3x224x224");
  out->name = part;
  s = colon + 1;
  out->none = !strcmp(s, "none");
  if (*s == '[') {
    char *end;
    unsigned long n = strtoul(s + 1, &end, 10);
    if (*end != ']' || end == s + 1 || s[1] == '-' || n > MAX_LENGTH)
      return bad(diags, part, "expected a length of 0 to 1024 in []");
    out->is_list = true;
    out->length = (uint32_t)n;
    s = end + 1;
  }
  out->has_dims = !out->none && (*s || !out->is_list);
  out->dims = tn_str_of(out->none ? "" : s);
  out->rank = count_dims(out->dims);
  for (uint32_t i = 0; i < out->rank; i++)
    if (!tn_ox_shape_dim(out, i).len) return bad(diags, part, "a size is empty");
  *colon = 0;
  return TN_OK;
}

tn_status tn_ox_shapes_parse(tn_arena *arena, const char *text, tn_diags *diags, tn_ox_shapes *out) {
  while (text && *text) {
    size_t n = strcspn(text, ",");
    char *part = tn_arena_str(arena, (tn_str){text, n});
    tn_ox_shape s = {0};
    if (!part) return TN_OOM;
    if (n) TN_TRY(parse_one(part, diags, &s));
    if (n && !tn_vec_push(&out->list, s)) return TN_OOM;
    text += n + (text[n] == ',');
  }
  return TN_OK;
}

const tn_ox_shape *tn_ox_shapes_find(tn_ox_shapes *s, const char *name) {
  for (uint32_t i = 0; i < s->list.count; i++)
    if (!strcmp(s->list.items[i].name, name)) return s->list.items[i].used = true, &s->list.items[i];
  return NULL;
}

tn_status tn_ox_shapes_unused(const tn_ox_shapes *s, const char *file, tn_diags *diags) {
  for (uint32_t i = 0; i < s->list.count; i++)
    if (!s->list.items[i].used)
      return tn_fail(diags, TN_INVALID, file, "--shapes", "the model has no input '%.200s'",
                     s->list.items[i].name);
  return TN_OK;
}
