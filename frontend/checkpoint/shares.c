/* shares.c - which tensors are made of which bytes: how the weights of an imported graph, whose names come
 * from its page, are found among the tensors of a checkpoint or a view. */
#include "frontend/checkpoint/ck.h"

static const char *base_name(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

static bool overlap(const tn_part *a, const tn_part *b) {
  return a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes &&
         !strcmp(base_name(a->file), base_name(b->file));
}

static bool any_overlaps(const tn_ck_tensor *t, const tn_part *parts, uint32_t n) {
  for (uint32_t i = 0; i < t->nparts; i++)
    for (uint32_t k = 0; k < n; k++)
      if (overlap(&t->parts[i], &parts[k])) return true;
  return false;
}

bool tn_checkpoint_shares(const tn_checkpoint *ck, uint32_t tensor, const tn_part *parts, uint32_t n) {
  const ck_tensor *t = &ck->tensors.items[tensor];
  if (!ck->behind) return any_overlaps(&t->pub, parts, n);
  for (uint32_t i = 0; i < t->npieces; i++)
    if (tn_checkpoint_shares(ck->behind, t->pieces[i].tensor, parts, n)) return true;
  return false;
}
