/* ops/sequence.c - sequences and optionals: lists whose length is known at import, and values whose presence
 * is. They have no counterpart in the IR; what is done with them is done here. */
#include "frontend/onnx/body.h"

enum { MAX_LENGTH = 1 << 16 };

static const tn_ox_item *list_in(tn_ox *x, tn_ox_node *n, uint32_t i, uint32_t *count) {
  const tn_ox_item *item = tn_ox_in_item(x, n, i);
  if (tn_ox_is_list(item, count)) return item;
  tn_ox_fail(x, n, "input %u is no sequence", i);
  return NULL;
}

/* Position input i, which must be known; `otherwise` where it is absent. At most `most`, counted from the end
 * when negative. */
static bool position(tn_ox *x, tn_ox_node *n, uint32_t i, uint32_t count, uint32_t most, uint32_t *out) {
  tn_value v = tn_ox_in(x, n, i);
  int64_t k;
  uint32_t one;
  if (!v || x->failed) return false;
  if (!tn_ox_known_ints(x, v, &k, 1, &one)) {
    tn_ox_refuse(x, n, NULL, "a position in a sequence that depends on data");
    return false;
  }
  if (k < 0) k += count;
  if (k < 0 || k > (int64_t)most)
    return tn_ox_fail(x, n, "position %lld of a sequence of %u", (long long)k, count), false;
  *out = (uint32_t)k;
  return true;
}

tn_status tn_ox_lower_sequence_empty(tn_ox *x, tn_ox_node *n) {
  return tn_ox_out_item(x, n, 0, tn_ox_list(x, NULL, 0));
}

tn_status tn_ox_lower_sequence_construct(tn_ox *x, tn_ox_node *n) {
  uint32_t count = tn_ox_nin(n);
  tn_value *items = tn_arena_alloc(&x->arena, (count + 1) * sizeof *items);
  for (uint32_t i = 0; items && i < count; i++) items[i] = tn_ox_in(x, n, i);
  return tn_ox_out_item(x, n, 0, items && !x->failed ? tn_ox_list(x, items, count) : NULL);
}

tn_status tn_ox_lower_sequence_at(tn_ox *x, tn_ox_node *n) {
  uint32_t count, at;
  const tn_ox_item *list = list_in(x, n, 0, &count);
  if (!list) return TN_INVALID;
  if (!count) return tn_ox_fail(x, n, "the sequence is empty");
  if (!position(x, n, 1, count, count - 1, &at))
    return x->failed ? TN_INVALID : tn_ox_fail(x, n, "no position");
  return tn_ox_out(x, n, 0, tn_ox_list_at(x, list, at));
}

/* The list with `in` at a position, or (0) without what is there. */
static tn_status edited(tn_ox *x, tn_ox_node *n, const tn_ox_item *list, uint32_t count, uint32_t at,
                        tn_value in) {
  uint32_t length = in ? count + 1 : count - 1;
  if (length > MAX_LENGTH) return tn_ox_refuse(x, n, NULL, "a sequence of more than %d tensors", MAX_LENGTH);
  tn_value *items = tn_arena_alloc(&x->arena, (length + 1) * sizeof *items);
  if (!items) return TN_OOM;
  for (uint32_t i = 0; i < length; i++)
    items[i] = in ? (i == at ? in : tn_ox_list_at(x, list, i < at ? i : i - 1))
                  : tn_ox_list_at(x, list, i < at ? i : i + 1);
  return tn_ox_out_item(x, n, 0, tn_ox_list(x, items, length));
}

tn_status tn_ox_lower_sequence_insert(tn_ox *x, tn_ox_node *n) {
  uint32_t count, at;
  const tn_ox_item *list = list_in(x, n, 0, &count);
  tn_value v = tn_ox_in(x, n, 1);
  if (!list || !v) return x->failed ? TN_INVALID : tn_ox_fail(x, n, "nothing to insert");
  at = count;
  if (!position(x, n, 2, count, count, &at) && x->failed) return TN_INVALID;
  return edited(x, n, list, count, at, v);
}

tn_status tn_ox_lower_sequence_erase(tn_ox *x, tn_ox_node *n) {
  uint32_t count, at;
  const tn_ox_item *list = list_in(x, n, 0, &count);
  if (!list) return TN_INVALID;
  if (!count) return tn_ox_fail(x, n, "the sequence is empty");
  at = count - 1;
  if (!position(x, n, 1, count, count - 1, &at) && x->failed) return TN_INVALID;
  return edited(x, n, list, count, at, 0);
}

tn_status tn_ox_lower_sequence_length(tn_ox *x, tn_ox_node *n) {
  uint32_t count;
  return list_in(x, n, 0, &count) ? tn_ox_out(x, n, 0, tn_ox_scalar_int(x, TN_DT_i64, count)) : TN_INVALID;
}

tn_status tn_ox_lower_concat_from_sequence(tn_ox *x, tn_ox_node *n) {
  uint32_t count;
  const tn_ox_item *list = list_in(x, n, 0, &count);
  if (!list) return TN_INVALID;
  if (!count) return tn_ox_fail(x, n, "the sequence is empty");
  bool stack = tn_ox_int(n, "new_axis", 0);
  int64_t axis = tn_ox_int(n, "axis", 0);
  tn_value *parts = tn_arena_alloc(&x->arena, count * sizeof *parts);
  if (!parts) return TN_OOM;
  for (uint32_t i = 0; i < count; i++) {
    parts[i] = tn_ox_list_at(x, list, i);
    if (stack) parts[i] = tn_ox_unsqueeze(x, parts[i], axis);
  }
  return tn_ox_out(x, n, 0, tn_ox_concat(x, parts, count, axis));
}

/* Sizes of the parts: the entries of `split`, or pieces of one size, or (absent) of 1. */
static bool piece_sizes(tn_ox *x, tn_ox_node *n, int64_t size, int64_t *sizes, uint32_t *count) {
  int64_t list[1024], k = 1, sum = 0;
  uint32_t given = 1;
  tn_value split = tn_ox_in(x, n, 1);
  if (split && !tn_ox_known_ints(x, split, list, TN_COUNT(list), &given))
    return tn_ox_refuse(x, n, NULL, "the sizes of the parts depend on data, or are more than 1024"), false;
  if (split && tn_ox_rank(x, split)) {
    for (uint32_t i = 0; i < given; i++) sum += sizes[i] = list[i] < 0 || list[i] > size ? size + 1 : list[i];
    *count = given;
    return sum == size || (tn_ox_fail(x, n, "the parts sum to other than %lld", (long long)size), false);
  }
  if (split) k = list[0];
  if (k < 1 || (size + k - 1) / k > 1024)
    return tn_ox_refuse(x, n, NULL, "%lld elements in parts of %lld", (long long)size, (long long)k), false;
  for (*count = 0; sum < size; sum += k) sizes[(*count)++] = size - sum < k ? size - sum : k;
  return true;
}

tn_status tn_ox_lower_split_to_sequence(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_in(x, n, 0), parts[1024];
  uint32_t count, axis = tn_ox_axis(x, n, tn_ox_int(n, "axis", 0), tn_ox_rank(x, v));
  int64_t size, sizes[1024], at = 0;
  if (!v || x->failed) return tn_ox_out(x, n, 0, 0);
  if (!tn_ox_dconst(x, tn_ox_dim(x, v, axis), &size))
    return tn_ox_refuse(x, n, "state the sizes of the inputs with --shapes",
                        "the length of the sequence depends on a size");
  if (!piece_sizes(x, n, size, sizes, &count)) return TN_INVALID;
  bool squeeze = !tn_ox_in(x, n, 1) && !tn_ox_int(n, "keepdims", 1);
  for (uint32_t i = 0; i < count; i++) {
    parts[i] = tn_ox_slice(x, v, axis, tn_ox_d(x, at), tn_ox_d(x, at + sizes[i]), 1);
    if (squeeze) parts[i] = tn_ox_squeeze(x, parts[i], axis);
    at += sizes[i];
  }
  return tn_ox_out_item(x, n, 0, x->failed ? NULL : tn_ox_list(x, parts, count));
}

/* ---- SequenceMap
 * -------------------------------------------------------------------------------------------- */

/* Element i of a list; a tensor is the same for all. */
static const tn_ox_item *element(tn_ox *x, const tn_ox_item *item, uint32_t i) {
  uint32_t count;
  if (!tn_ox_is_list(item, &count)) return item;
  tn_value v = tn_ox_list_at(x, item, i);
  if (v) return tn_ox_item_of(x, v);
  tn_ox_fail(x, x->node, "the sequences are of different lengths");
  return NULL;
}

tn_status tn_ox_lower_sequence_map(tn_ox *x, tn_ox_node *n) {
  uint32_t count, nin = tn_ox_nin(n), nout = tn_ox_nout(n);
  const tn_ox_graph *g = tn_ox_graph_attr(x, n, "body");
  const tn_ox_item *list = g ? list_in(x, n, 0, &count) : NULL;
  if (!list) return TN_INVALID;
  const tn_ox_item **in = tn_arena_alloc(&x->arena, (nin + 1) * sizeof *in);
  tn_value *out = tn_arena_alloc(&x->arena, ((size_t)count * nout + 1) * sizeof *out);
  if (!in || !out) return TN_OOM;
  if (g->n_output != nout) return tn_ox_fail(x, n, "%u outputs, but its graph has %zu", nout, g->n_output);
  for (uint32_t i = 0; i < count; i++) {
    for (uint32_t k = 0; k < nin; k++) in[k] = element(x, tn_ox_in_item(x, n, k), i);
    tn_ox_scope *s = tn_ox_graph_inline(x, n, g, in, nin);
    for (uint32_t k = 0; k < nout && s; k++)
      out[(size_t)k * count + i] = tn_ox_item_value(x, tn_ox_graph_output(x, n, s, g, k));
    if (!s || x->failed) return x->broken ? x->broken : TN_INVALID;
  }
  for (uint32_t k = 0; k < nout; k++)
    TN_TRY(tn_ox_out_item(x, n, k, tn_ox_list(x, out + (size_t)k * count, count)));
  return TN_OK;
}

/* ---- optionals
 * ---------------------------------------------------------------------------------------------- */

tn_status tn_ox_lower_optional(tn_ox *x, tn_ox_node *n) {
  const tn_ox_item *item = tn_ox_in_item(x, n, 0);
  return tn_ox_out_item(x, n, 0, item ? item : tn_ox_none(x));
}

tn_status tn_ox_lower_optional_has_element(tn_ox *x, tn_ox_node *n) {
  const tn_ox_item *item = tn_ox_in_item(x, n, 0);
  bool has = item && item->kind != TN_OX_NONE;
  return tn_ox_out(x, n, 0, x->failed ? 0 : tn_ox_constant(x, TN_DT_bool, NULL, 0, has ? "\1" : "\0", 1));
}

tn_status tn_ox_lower_optional_get_element(tn_ox *x, tn_ox_node *n) {
  const tn_ox_item *item = tn_ox_in_item(x, n, 0);
  if (!item || item->kind == TN_OX_NONE) return tn_ox_fail(x, n, "the optional is empty");
  return tn_ox_out_item(x, n, 0, item);
}
