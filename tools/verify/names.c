/* names.c - which entry point, input and output of one side is which of the other: pages say ids and mask,
 * what Optimum and transformers export says input_ids and attention_mask. */
#include "tools/verify/verify.h"

static const struct {
  const char *page, *other;
} aliases[] = {{"ids", "input_ids"},
               {"ids", "tokens"},
               {"mask", "attention_mask"},
               {"types", "token_type_ids"},
               {"types", "segment_ids"},
               {"positions", "position_ids"},
               {"hidden", "last_hidden_state"},
               {"hidden", "token_embeddings"},
               {"embedding", "sentence_embedding"},
               {"start", "start_logits"},
               {"end", "end_logits"},
               {"images", "pixel_values"}};

const char *tn_verify_name(const char *name) {
  for (size_t i = 0; i < TN_COUNT(aliases); i++)
    if (!strcmp(aliases[i].other, name)) return aliases[i].page;
  return name;
}

bool tn_verify_same(const char *a, const char *b) { return !strcmp(tn_verify_name(a), tn_verify_name(b)); }

static tn_entry_info entry_of(const tn_side *x, uint32_t entry) {
  tn_entry_info e = {0};
  x->o.api->entry(x->o.model, entry, &e);
  return e;
}

static bool has_arg(const tn_side *x, uint32_t entry, bool output, const char *name, uint32_t rank) {
  tn_entry_info e = entry_of(x, entry);
  for (uint32_t i = 0; i < (output ? e.noutputs : e.ninputs); i++) {
    tn_arg_info arg;
    (output ? x->o.api->output : x->o.api->input)(x->o.model, entry, i, &arg);
    if (tn_verify_same(arg.name, name) && arg.rank == rank) return true;
  }
  return false;
}

/* How many outputs of a's entry, and whether all its inputs, the other has. */
static uint32_t likeness(const tn_side *a, uint32_t ea, const tn_side *b, uint32_t eb) {
  tn_entry_info e = entry_of(a, ea);
  uint32_t n = 0;
  tn_arg_info arg;
  for (uint32_t i = 0; i < e.ninputs; i++)
    if (a->o.api->input(a->o.model, ea, i, &arg) == TN_OK && has_arg(b, eb, false, arg.name, arg.rank)) n++;
  if (n == 0 && e.ninputs) return 0;
  uint32_t outputs = 0;
  for (uint32_t i = 0; i < e.noutputs; i++)
    if (a->o.api->output(a->o.model, ea, i, &arg) == TN_OK && has_arg(b, eb, true, arg.name, arg.rank))
      outputs++;
  return outputs ? n + 8 * outputs : 0;
}

static int by_likeness(const tn_side *a, uint32_t ea, const tn_side *b) {
  uint32_t most = 0;
  int best = -1;
  for (uint32_t eb = 0; eb < b->o.api->entry_count(b->o.model); eb++) {
    uint32_t n = likeness(a, ea, b, eb);
    if (n > most) most = n, best = (int)eb;
  }
  return best;
}

/* Same names first. Without one, what has the same inputs and outputs; models of one entry point each are a
 * pair whatever their names. */
tn_status tn_verify_pairs(tn_verify *v, const char *wanted, int *other, uint32_t room) {
  tn_side *a = &v->sides[0], *b = &v->sides[1];
  uint32_t n = a->o.api->entry_count(a->o.model), pairs = 0, named = 0;
  if (n > room) return TN_UNSUPPORTED;
  for (uint32_t i = 0; i < n; i++) {
    const char *name = entry_of(a, i).name;
    other[i] = wanted && strcmp(wanted, name) ? -1 : tn_opened_entry(&b->o, name);
    named += other[i] >= 0;
  }
  for (uint32_t i = 0; i < n && !named; i++) {
    const char *name = entry_of(a, i).name;
    if (wanted && strcmp(wanted, name)) continue;
    other[i] = n == 1 && b->o.api->entry_count(b->o.model) == 1 ? 0 : by_likeness(a, i, b);
    pairs += other[i] >= 0;
  }
  if (named + pairs) return TN_OK;
  if (wanted) return tn_fail(v->d, TN_NOT_FOUND, a->spec, NULL, "the model has no entry point '%s'", wanted);
  return tn_fail(v->d, TN_INVALID, NULL, NULL,
                 "%s and %s have no entry point in common, and none with the same inputs and outputs",
                 a->spec, b->spec);
}

void tn_verify_outputs(const tn_side *a, const tn_side *b, int *other) {
  uint32_t found = 0;
  for (uint32_t i = 0; i < a->nout; i++) {
    tn_arg_info x, y;
    a->o.api->output(a->o.model, (uint32_t)a->entry, i, &x);
    other[i] = -1;
    for (uint32_t k = 0; k < b->nout && other[i] < 0; k++)
      if (b->o.api->output(b->o.model, (uint32_t)b->entry, k, &y) == TN_OK && tn_verify_same(x.name, y.name))
        other[i] = (int)k;
    found += other[i] >= 0;
  }
  for (uint32_t i = 0; !found && a->nout == b->nout && i < a->nout; i++) other[i] = (int)i;
}
