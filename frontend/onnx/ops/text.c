/* text.c - tensors of strings. They have no element type in the IR: a tensor of text is three tensors, all
 * its bytes and, for each element, where it starts and how long it is, so that what moves elements moves
 * starts and lengths and leaves the bytes alone. An input `x` of strings becomes the inputs x.bytes, x.starts
 * and x.lengths; an output likewise, with its elements one after the other. */
#include "frontend/onnx/import.h"

enum { STRING = ONNX__TENSOR_PROTO__DATA_TYPE__STRING };

/* ---- making
 * ------------------------------------------------------------------------------------------------- */
static tn_ox_item *item_of(tn_ox *x, tn_ox_text t) {
  tn_ox_item *item = tn_arena_alloc(&x->arena, sizeof *item);
  tn_value *values = tn_arena_alloc(&x->arena, 3 * sizeof *values);
  if (!item || !values) {
    x->broken = TN_OOM;
    return NULL;
  }
  values[0] = t.bytes, values[1] = t.starts, values[2] = t.lengths;
  *item = (tn_ox_item){.kind = TN_OX_TEXT, .count = 3, .values = values, .body = x->body};
  return item;
}

static tn_ox_text constant(tn_ox *x, const tn_str *strings, const int64_t *dims, uint32_t rank) {
  uint64_t n = 1;
  tn_buf bytes = {0};
  for (uint32_t i = 0; i < rank; i++) n *= (uint64_t)dims[i];
  int64_t *starts = tn_arena_alloc(&x->arena, (2 * n + 1) * sizeof *starts),
          *lengths = starts ? starts + n : NULL;
  if (!starts) {
    x->broken = TN_OOM;
    return (tn_ox_text){0};
  }
  for (uint64_t i = 0; i < n; i++) {
    starts[i] = (int64_t)bytes.len, lengths[i] = (int64_t)strings[i].len;
    tn_buf_put(&bytes, strings[i].ptr, strings[i].len);
  }
  int64_t total = (int64_t)bytes.len;
  tn_ox_text t = {tn_ox_constant(x, TN_DT_u8, &total, 1, total ? bytes.text : "", bytes.len),
                  tn_ox_constant(x, TN_DT_i64, dims, rank, starts, n * sizeof *starts),
                  tn_ox_constant(x, TN_DT_i64, dims, rank, lengths, n * sizeof *lengths)};
  tn_buf_fini(&bytes);
  return t;
}

static tn_ox_text one_string(tn_ox *x, const char *s) {
  tn_str text = tn_str_of(s);
  return constant(x, &text, NULL, 0);
}

static tn_ox_text of_proto(tn_ox *x, const tn_ox_tensor_proto *t) {
  uint64_t n = 1;
  bool good = t->n_dims <= TN_MAX_RANK;
  for (size_t i = 0; i < t->n_dims && good; i++)
    good = t->dims[i] >= 0 && tn_mul_u64(n, (uint64_t)t->dims[i], &n);
  tn_str *strings =
      good && n == t->n_string_data ? tn_arena_alloc(&x->arena, (n + 1) * sizeof *strings) : NULL;
  if (!strings) {
    tn_ox_fail(x, x->node, "tensor '%.200s' has %zu strings, which do not fit its sizes",
               t->name ? t->name : "", t->n_string_data);
    return (tn_ox_text){0};
  }
  for (uint64_t i = 0; i < n; i++)
    strings[i] = (tn_str){(char *)t->string_data[i].data, t->string_data[i].len};
  return constant(x, strings, t->dims, (uint32_t)t->n_dims);
}

/* ---- operands and results
 * ----------------------------------------------------------------------------------- */
bool tn_ox_is_text(tn_ox *x, tn_ox_node *n, uint32_t i) {
  const tn_ox_item *item = tn_ox_operand(x, n, i);
  return item &&
         (item->kind == TN_OX_TEXT || (item->kind == TN_OX_INIT && item->t && item->t->data_type == STRING));
}

tn_ox_text tn_ox_in_text(tn_ox *x, tn_ox_node *n, uint32_t i) {
  const tn_ox_item *item = tn_ox_operand(x, n, i);
  if (!tn_ox_is_text(x, n, i)) {
    tn_ox_fail(x, n, "input %u is no tensor of strings", i);
    return (tn_ox_text){0};
  }
  if (item->kind == TN_OX_INIT) return of_proto(x, item->t);
  if (item->body != x->body) {
    tn_ox_refuse(x, n, NULL, "strings of an outer graph are not supported");
    return (tn_ox_text){0};
  }
  return (tn_ox_text){item->values[0], item->values[1], item->values[2]};
}

tn_status tn_ox_out_text(tn_ox *x, tn_ox_node *n, uint32_t i, tn_ox_text t) {
  bool whole = t.bytes && t.starts && t.lengths && !x->failed;
  return tn_ox_out_item(x, n, i, whole ? item_of(x, t) : NULL);
}

tn_status tn_ox_out_strings(tn_ox *x, tn_ox_node *n, uint32_t i, const tn_ox_tensor_proto *t) {
  return tn_ox_out_text(x, n, i, of_proto(x, t));
}

tn_ox_item *tn_ox_text_input(tn_ox *x, const char *name, tn_type positions) {
  tn_type_info t;
  x->ir->type_get(x->m, positions, &t);
  tn_dim length = tn_ox_fresh_dim(x, tn_arena_printf(&x->arena, "%.60s_bytes", name));
  const char *names[3] = {tn_arena_printf(&x->arena, "%s.bytes", name),
                          tn_arena_printf(&x->arena, "%s.starts", name),
                          tn_arena_printf(&x->arena, "%s.lengths", name)};
  tn_value v[3];
  for (int i = 0; i < 3; i++) {
    tn_type type = i ? positions : x->ir->type_make(x->m, TN_DT_u8, 1, &length, NULL);
    v[i] = names[i] && type ? x->ir->func_arg_add(x->m, x->func, names[i], type) : 0;
    if (!v[i]) return tn_ox_poison(x);
  }
  return item_of(x, (tn_ox_text){v[0], v[1], v[2]});
}

/* The elements one after the other in bytes of their own. */
static tn_ox_text packed(tn_ox *x, tn_ox_text t) {
  tn_dim dims[TN_MAX_RANK];
  uint32_t rank = tn_ox_rank(x, t.lengths);
  tn_ox_dims(x, t.lengths, dims);
  tn_value lengths = tn_ox_flat(x, t.lengths), in[] = {t.bytes, tn_ox_flat(x, t.starts), lengths};
  tn_dim total = tn_ox_let_dim(x, tn_ox_reduce(x, "reduce_sum", lengths, NULL, 0, false), 0, "bytes");
  tn_value starts =
      tn_ox_make(x, "cumsum", &lengths, 1, TN_OX_ATTRS(TN_OX_INT("axis", 0), TN_OX_BOOL("exclusive", 1)));
  return (tn_ox_text){tn_ox_make(x, "copy_ranges", in, 3, TN_OX_ATTRS(TN_OX_DIM("total", total))),
                      tn_ox_reshape(x, starts, dims, rank), t.lengths};
}

tn_ox_text tn_ox_text_output(tn_ox *x, const tn_ox_item *item) {
  return packed(x, (tn_ox_text){item->values[0], item->values[1], item->values[2]});
}

/* ---- ops
 * ------------------------------------------------------------------------------------------------------ */
static tn_ox_text broadcast(tn_ox *x, tn_ox_text t, const tn_dim *dims, uint32_t rank) {
  return (tn_ox_text){t.bytes, tn_ox_broadcast(x, t.starts, dims, rank),
                      tn_ox_broadcast(x, t.lengths, dims, rank)};
}

static tn_value equal(tn_ox *x, tn_ox_text a, tn_ox_text b) {
  tn_dim dims[TN_MAX_RANK];
  uint32_t rank;
  if (!tn_ox_broadcast_dims(x, a.starts, b.starts, dims, &rank)) return 0;
  a = broadcast(x, a, dims, rank), b = broadcast(x, b, dims, rank);
  tn_value in[] = {a.bytes, a.starts, a.lengths, b.bytes, b.starts, b.lengths};
  return tn_ox_make(x, "equal_ranges", in, 6, NULL);
}

tn_value tn_ox_text_equal(tn_ox *x, tn_ox_node *n, uint32_t a, uint32_t b) {
  tn_ox_text p = tn_ox_in_text(x, n, a), q = tn_ox_in_text(x, n, b);
  return tn_ox_failed(x) ? 0 : equal(x, p, q);
}

/* Two by two: the ranges of a and b alternate over the bytes of both. */
tn_status tn_ox_lower_string_concat(tn_ox *x, tn_ox_node *n) {
  tn_dim dims[TN_MAX_RANK + 1];
  uint32_t rank;
  tn_ox_text a = tn_ox_in_text(x, n, 0), b = tn_ox_in_text(x, n, 1);
  if (tn_ox_failed(x) || !tn_ox_broadcast_dims(x, a.starts, b.starts, dims, &rank))
    return tn_ox_out(x, n, 0, 0);
  a = broadcast(x, a, dims, rank), b = broadcast(x, b, dims, rank);
  tn_value shift = tn_ox_dim_value(x, tn_ox_dim(x, a.bytes, 0));
  tn_value bytes[] = {a.bytes, b.bytes};
  tn_value starts[] = {tn_ox_unsqueeze(x, a.starts, rank),
                       tn_ox_unsqueeze(x, tn_ox_binary(x, "add", b.starts, shift), rank)};
  tn_value lengths[] = {tn_ox_unsqueeze(x, a.lengths, rank), tn_ox_unsqueeze(x, b.lengths, rank)};
  tn_ox_text both = packed(x, (tn_ox_text){tn_ox_concat(x, bytes, 2, 0), tn_ox_concat(x, starts, 2, rank),
                                           tn_ox_concat(x, lengths, 2, rank)});
  tn_value first = tn_ox_squeeze(x, tn_ox_slice(x, both.starts, rank, tn_ox_d(x, 0), tn_ox_d(x, 1), 1), rank);
  return tn_ox_out_text(x, n, 0,
                        (tn_ox_text){both.bytes, first, tn_ox_binary(x, "add", a.lengths, b.lengths)});
}

static tn_op split(tn_ox *x, const tn_value *in, tn_dim pieces, const char *delimiter, int64_t most) {
  return tn_ox_make_op(
      x, "split_ranges", in, 3,
      TN_OX_ATTRS(TN_OX_DIM("pieces", pieces), TN_OX_STR("delimiter", delimiter), TN_OX_INT("most", most)));
}

/* Once to count the pieces, once to have them. */
tn_status tn_ox_lower_string_split(tn_ox *x, tn_ox_node *n) {
  tn_dim dims[TN_MAX_RANK + 1];
  tn_ox_text t = tn_ox_in_text(x, n, 0);
  if (tn_ox_failed(x)) return tn_ox_out(x, n, 0, 0);
  const char *delimiter = tn_ox_str(n, "delimiter", "");
  int64_t most = tn_ox_int(n, "maxsplit", -1);
  uint32_t rank = tn_ox_rank(x, t.starts);
  if (rank == TN_MAX_RANK) return tn_ox_refuse(x, n, NULL, "the result has more than %d dims", TN_MAX_RANK);
  tn_ox_dims(x, t.starts, dims);
  tn_value in[] = {t.bytes, tn_ox_flat(x, t.starts), tn_ox_flat(x, t.lengths)};
  tn_value counts = tn_ox_result(x, split(x, in, tn_ox_d(x, 0), delimiter, most), 2);
  /* The largest count; 0 when there is no text. */
  tn_value padded = tn_ox_pad(x, counts, (int64_t[]){0}, (int64_t[]){1}, 0);
  dims[rank] = tn_ox_let_dim(x, tn_ox_reduce(x, "reduce_max", padded, NULL, 0, false), 0, "pieces");
  tn_op op = split(x, in, dims[rank], delimiter, most);
  tn_ox_text out = {t.bytes, tn_ox_reshape(x, tn_ox_result(x, op, 0), dims, rank + 1),
                    tn_ox_reshape(x, tn_ox_result(x, op, 1), dims, rank + 1)};
  tn_status s = tn_ox_out_text(x, n, 0, out);
  return s == TN_OK && tn_ox_wants(n, 1) ? tn_ox_out(x, n, 1, tn_ox_reshape(x, counts, dims, rank)) : s;
}

static tn_ox_text in_case(tn_ox *x, tn_ox_text t, bool upper) {
  t.bytes = tn_ox_make(x, "change_case", &t.bytes, 1, TN_OX_ATTRS(TN_OX_BOOL("upper", upper)));
  return t;
}

/* The elements of [c] that are no stop words; a single empty one when none is left. */
static tn_ox_text without(tn_ox *x, tn_ox_text t, const char *const *words, uint32_t nwords, bool sensitive) {
  tn_value drop = 0, in[] = {t.starts};
  tn_ox_text plain = sensitive ? t : in_case(x, t, false);
  for (uint32_t i = 0; i < nwords; i++) {
    tn_ox_text word = one_string(x, words[i]);
    tn_value same = equal(x, plain, sensitive ? word : in_case(x, word, false));
    drop = drop ? tn_ox_binary(x, "or", drop, same) : same;
  }
  in[0] = tn_ox_unary(x, "not", drop);
  tn_op found = tn_ox_make_op(x, "nonzero", in, 1, NULL);
  tn_value count = tn_ox_result(x, found, 1), one = tn_ox_scalar_int(x, TN_DT_i64, 1);
  tn_dim left = tn_ox_let_dim(x, tn_ox_binary(x, "max", count, one), 0, "words");
  tn_value at = tn_ox_pad(x, tn_ox_result(x, found, 0), (int64_t[]){0}, (int64_t[]){1}, 0);
  at = tn_ox_slice(x, at, 0, tn_ox_d(x, 0), left, 1);
  tn_value some = tn_ox_compare(x, "gt", count, tn_ox_scalar_int(x, TN_DT_i64, 0));
  tn_value lengths = tn_ox_gather(x, t.lengths, at, 0);
  return (tn_ox_text){t.bytes, tn_ox_gather(x, t.starts, at, 0),
                      tn_ox_select(x, some, lengths, tn_ox_scalar_int(x, TN_DT_i64, 0))};
}

tn_status tn_ox_lower_string_normalizer(tn_ox *x, tn_ox_node *n) {
  uint32_t nwords;
  const char *const *words = tn_ox_strs(n, "stopwords", &nwords);
  const char *action = tn_ox_str(n, "case_change_action", "NONE");
  bool upper = !strcmp(action, "UPPER"), lower = !strcmp(action, "LOWER");
  tn_ox_text t = tn_ox_in_text(x, n, 0);
  if (tn_ox_failed(x)) return tn_ox_out(x, n, 0, 0);
  if (!upper && !lower && strcmp(action, "NONE"))
    return tn_ox_fail(x, n, "case_change_action is '%.40s', wants LOWER, UPPER or NONE", action);
  uint32_t rank = tn_ox_rank(x, t.starts);
  if (rank != 1 && rank != 2) return tn_ox_fail(x, n, "the input has rank %u, wants [c] or [1, c]", rank);
  if (rank == 2) t.starts = tn_ox_squeeze(x, t.starts, 0), t.lengths = tn_ox_squeeze(x, t.lengths, 0);
  if (nwords) t = without(x, t, words, nwords, tn_ox_int(n, "is_case_sensitive", 0) != 0);
  if (upper || lower) t = in_case(x, t, upper);
  if (rank == 2) t.starts = tn_ox_unsqueeze(x, t.starts, 0), t.lengths = tn_ox_unsqueeze(x, t.lengths, 0);
  return tn_ox_out_text(x, n, 0, t);
}

/* Which of `keys` each element is (i64), the first that fits; the number of keys where none does. */
tn_value tn_ox_text_lookup(tn_ox *x, tn_ox_node *n, uint32_t i, const char *const *keys, uint32_t nkeys) {
  tn_str *strings = tn_arena_alloc(&x->arena, (nkeys + 1) * sizeof *strings);
  tn_ox_text t = tn_ox_in_text(x, n, i);
  if (!strings || tn_ox_failed(x)) return 0;
  uint32_t rank = tn_ox_rank(x, t.starts);
  int64_t count = nkeys;
  for (uint32_t k = 0; k < nkeys; k++) strings[k] = tn_str_of(keys[k]);
  tn_ox_text table = constant(x, strings, &count, 1);
  t.starts = tn_ox_unsqueeze(x, t.starts, rank), t.lengths = tn_ox_unsqueeze(x, t.lengths, rank);
  tn_value hit = tn_ox_cast(x, equal(x, t, table), TN_DT_i32);
  int64_t axis = rank;
  tn_value first = tn_ox_make(x, "argmax", &hit, 1, TN_OX_ATTRS(TN_OX_INT("axis", axis)));
  tn_value any = tn_ox_reduce(x, "reduce_max", hit, &axis, 1, false);
  tn_value found = tn_ox_compare(x, "gt", any, tn_ox_scalar_int(x, TN_DT_i32, 0));
  return tn_ox_select(x, found, first, tn_ox_scalar_int(x, TN_DT_i64, nkeys));
}

tn_ox_text tn_ox_text_pick(tn_ox *x, const char *const *strings, uint32_t count, const char *otherwise,
                           tn_value index) {
  tn_str *list = tn_arena_alloc(&x->arena, (count + 1) * sizeof *list);
  int64_t size = (int64_t)count + 1;
  if (!list || !index) return (tn_ox_text){0};
  for (uint32_t k = 0; k < count; k++) list[k] = tn_str_of(strings[k]);
  list[count] = tn_str_of(otherwise);
  tn_ox_text t = constant(x, list, &size, 1);
  return (tn_ox_text){t.bytes, tn_ox_gather(x, t.starts, index, 0), tn_ox_gather(x, t.lengths, index, 0)};
}
