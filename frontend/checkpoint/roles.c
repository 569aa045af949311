/* roles.c - what a tensor is to its model, by its name. */
#include "frontend/checkpoint/ck.h"

static const struct {
  tn_ck_role role;
  const char *gguf, *hf;
} roles[] = {
#define TN_ROLE(role, gguf, hf) {TN_CK_##role, #gguf, #hf},
#include "frontend/checkpoint/roles.def"
#undef TN_ROLE
};

/* `name`, without ".weight", is `end` or ends with it behind a dot. */
static bool ends_with(tn_str name, const char *end) {
  size_t n = strlen(end);
  if (!tn_str_ends(name, end)) return false;
  return name.len == n || name.ptr[name.len - n - 1] == '.';
}

static tn_str without_weight(const char *name) {
  tn_str s = tn_str_of(name);
  if (tn_str_ends(s, ".weight")) s.len -= strlen(".weight");
  return s;
}

/* Vectors, norms and what stands in front of a norm's name are never quantized. */
static bool is_norm(tn_str name) {
  return tn_str_ends(name, "norm") || tn_str_ends(name, "Norm") || tn_str_ends(name, ".bias");
}

tn_ck_role ck_role_of(const char *gguf, const char *hf, uint32_t rank) {
  tn_str g = without_weight(gguf ? gguf : ""), h = without_weight(hf ? hf : "");
  if (rank < 2 || is_norm(g) || is_norm(h)) return TN_CK_OTHER;
  for (size_t i = 0; gguf && i < TN_COUNT(roles); i++)
    if (ends_with(g, roles[i].gguf)) return roles[i].role;
  size_t best = TN_COUNT(roles); /* the longest end says most */
  for (size_t i = 0; !gguf && hf && i < TN_COUNT(roles); i++)
    if (ends_with(h, roles[i].hf) &&
        (best == TN_COUNT(roles) || strlen(roles[i].hf) > strlen(roles[best].hf)))
      best = i;
  return best < TN_COUNT(roles) ? roles[best].role : TN_CK_MATRIX;
}

int32_t ck_layer_of(const char *name) {
  for (const char *p = name; (p = strchr(p, '.'));) {
    int32_t n = 0;
    const char *digit = ++p;
    while (*p >= '0' && *p <= '9' && n < 100000) n = n * 10 + (*p++ - '0');
    if (p > digit && *p == '.') return n;
  }
  return -1;
}
