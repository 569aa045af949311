/* ops/shape.c - ops about sizes, and those that only change them. A shape that a model computes is an integer
 * tensor like any other; where it has to be known, tn_ox_now_dims says what it stands for. */
#include "frontend/onnx/import.h"
#include <math.h>

/* ---- sizes as values
 * ---------------------------------------------------------------------------------------- */

static tn_value dims_vector(tn_ox *x, const tn_dim *dims, uint32_t n) {
  tn_value parts[TN_MAX_RANK];
  int64_t k[TN_MAX_RANK];
  bool all = true;
  for (uint32_t i = 0; i < n; i++) all &= tn_ox_dconst(x, dims[i], &k[i]);
  if (all) return tn_ox_ints_1d(x, k, n);
  for (uint32_t i = 0; i < n; i++) parts[i] = tn_ox_unsqueeze(x, tn_ox_dim_value(x, dims[i]), 0);
  return tn_ox_concat(x, parts, n, 0);
}

static int64_t clamp(int64_t k, int64_t rank) {
  if (k < 0) k += rank;
  return k < 0 ? 0 : k > rank ? rank : k;
}

tn_status tn_ox_lower_shape(tn_ox *x, tn_ox_node *n) {
  tn_dim dims[TN_MAX_RANK];
  tn_value v = tn_ox_in(x, n, 0);
  int64_t rank = tn_ox_rank(x, v), start = clamp(tn_ox_int(n, "start", 0), rank);
  int64_t end = clamp(tn_ox_int(n, "end", rank), rank);
  if (!v) return tn_ox_out(x, n, 0, 0);
  tn_ox_dims(x, v, dims);
  return tn_ox_out(x, n, 0, dims_vector(x, dims + start, end > start ? (uint32_t)(end - start) : 0));
}

tn_status tn_ox_lower_size(tn_ox *x, tn_ox_node *n) {
  tn_dim dims[TN_MAX_RANK];
  tn_value v = tn_ox_in(x, n, 0);
  tn_ox_dims(x, v, dims);
  return tn_ox_out(x, n, 0, v ? tn_ox_dim_value(x, tn_ox_dproduct(x, dims, 0, tn_ox_rank(x, v))) : 0);
}

/* ---- reshape
 * ------------------------------------------------------------------------------------------------ */

/* The size that -1 stands for: elements of `from` by those of `to` (0: the hole itself). Equal sizes cancel
 * first, which also decides what an empty tensor leaves open. */
static tn_dim missing_size(tn_ox *x, tn_dim *from, uint32_t nfrom, tn_dim *to, uint32_t nto) {
  for (uint32_t i = 0; i < nto; i++)
    for (uint32_t k = 0; to[i] && k < nfrom; k++)
      if (from[k] && tn_ox_dequal(x, from[k], to[i])) from[k] = to[i] = tn_ox_d(x, 1);
  tn_dim total = tn_ox_d(x, 1), others = tn_ox_d(x, 1);
  int64_t k;
  for (uint32_t i = 0; i < nfrom; i++) total = tn_ox_dmul(x, total, from[i]);
  for (uint32_t i = 0; i < nto; i++)
    if (to[i]) others = tn_ox_dmul(x, others, to[i]);
  if (tn_ox_dconst(x, others, &k) && !k) return tn_ox_d(x, 0);
  return tn_ox_ddiv(x, total, others);
}

/* Entries of a shape that depend on data, with 0 and -1 replaced by what they mean. */
static tn_value resolve(tn_ox *x, tn_value shape, uint32_t n, const tn_dim *have, uint32_t rank, bool zeros) {
  tn_value all = tn_ox_cast(x, shape, TN_DT_i64), none = tn_ox_scalar_int(x, TN_DT_i64, 0);
  tn_value one = tn_ox_scalar_int(x, TN_DT_i64, 1), hole = tn_ox_scalar_int(x, TN_DT_i64, -1);
  tn_dim copied[TN_MAX_RANK];
  for (uint32_t i = 0; i < n; i++) copied[i] = i < rank ? have[i] : tn_ox_d(x, 0);
  if (!zeros) all = tn_ox_select(x, tn_ox_compare(x, "eq", all, none), dims_vector(x, copied, n), all);
  tn_value open = tn_ox_compare(x, "eq", all, hole);
  tn_value others = tn_ox_reduce(x, "reduce_prod", tn_ox_select(x, open, one, all), NULL, 0, false);
  tn_value rest = tn_ox_binary(x, "div", tn_ox_dim_value(x, tn_ox_dproduct(x, have, 0, rank)), others);
  return tn_ox_select(x, open, rest, all);
}

static bool reshape_dims(tn_ox *x, tn_ox_node *n, tn_value shape, const tn_dim *have, uint32_t rank,
                         tn_dim *out, uint32_t *count) {
  bool zeros = tn_ox_int(n, "allowzero", 0);
  int64_t k;
  if (!tn_ox_known_dims(x, shape, out, TN_MAX_RANK, count)) {
    if (!shape || x->failed) return false;
    if (!tn_ox_dconst(x, tn_ox_dim(x, shape, 0), &k) || k > TN_MAX_RANK) {
      tn_ox_refuse(x, n, NULL, "the rank of the result is not known at import, or above %d", TN_MAX_RANK);
      return false;
    }
    return tn_ox_now_dims(x, resolve(x, shape, (uint32_t)k, have, rank, zeros), out, TN_MAX_RANK, count);
  }
  uint32_t hole = UINT32_MAX;
  for (uint32_t i = 0; i < *count; i++) {
    if (!tn_ox_dconst(x, out[i], &k)) continue;
    if (k < -1 || (k == -1 && hole != UINT32_MAX) || (!k && !zeros && i >= rank))
      return tn_ox_fail(x, n, "entry %u of the shape is %lld, which does not fit", i, (long long)k), false;
    if (!k && !zeros) out[i] = have[i];
    if (k == -1) hole = i, out[i] = 0;
  }
  if (hole == UINT32_MAX) return true;
  tn_dim from[TN_MAX_RANK], to[TN_MAX_RANK];
  memcpy(from, have, rank * sizeof *from);
  memcpy(to, out, *count * sizeof *to);
  out[hole] = missing_size(x, from, rank, to, *count);
  return out[hole];
}

tn_status tn_ox_lower_reshape(tn_ox *x, tn_ox_node *n) {
  tn_dim have[TN_MAX_RANK], dims[TN_MAX_RANK];
  tn_value v = tn_ox_in(x, n, 0), shape = tn_ox_in(x, n, 1);
  uint32_t count = 0;
  if (!v || !shape) return tn_ox_out(x, n, 0, 0);
  tn_ox_dims(x, v, have);
  if (!reshape_dims(x, n, shape, have, tn_ox_rank(x, v), dims, &count)) return tn_ox_out(x, n, 0, 0);
  return tn_ox_out(x, n, 0, tn_ox_reshape(x, v, dims, count));
}

tn_status tn_ox_lower_flatten(tn_ox *x, tn_ox_node *n) {
  tn_dim dims[TN_MAX_RANK];
  tn_value v = tn_ox_in(x, n, 0);
  uint32_t rank = tn_ox_rank(x, v);
  int64_t axis = tn_ox_int(n, "axis", 1);
  if (!v) return tn_ox_out(x, n, 0, 0);
  if (axis < -(int64_t)rank || axis > (int64_t)rank)
    return tn_ox_fail(x, n, "axis %lld is out of range for rank %u", (long long)axis, rank);
  uint32_t at = (uint32_t)(axis < 0 ? axis + rank : axis);
  tn_ox_dims(x, v, dims);
  tn_dim to[2] = {tn_ox_dproduct(x, dims, 0, at), tn_ox_dproduct(x, dims, at, rank)};
  return tn_ox_out(x, n, 0, tn_ox_reshape(x, v, to, 2));
}

/* Axes of attribute "axes" or input 1, as bits. False: neither is there, or (failed) they are wrong. */
static bool axes_bits(tn_ox *x, tn_ox_node *n, uint32_t rank, uint32_t *bits) {
  int64_t list[TN_MAX_RANK];
  uint32_t count = 0;
  const int64_t *axes = tn_ox_ints(n, "axes", &count);
  tn_value in = tn_ox_in(x, n, 1);
  if (!axes && in) {
    if (!tn_ox_known_ints(x, in, list, TN_MAX_RANK, &count)) {
      tn_ox_refuse(x, n, NULL, "the axes are not known at import");
      return false;
    }
    axes = list;
  }
  *bits = 0;
  for (uint32_t i = 0; axes && i < count; i++) {
    uint32_t bit = 1u << tn_ox_axis(x, n, axes[i], rank);
    if (*bits & bit) tn_ox_fail(x, n, "axis %lld is named twice", (long long)axes[i]);
    *bits |= bit;
  }
  return axes && !x->failed;
}

tn_status tn_ox_lower_squeeze(tn_ox *x, tn_ox_node *n) {
  tn_dim dims[TN_MAX_RANK], kept[TN_MAX_RANK];
  tn_value v = tn_ox_in(x, n, 0);
  uint32_t rank = tn_ox_rank(x, v), bits = 0, count = 0;
  if (!v) return tn_ox_out(x, n, 0, 0);
  tn_ox_dims(x, v, dims);
  bool named = axes_bits(x, n, rank, &bits);
  for (uint32_t i = 0; i < rank && !x->failed; i++) {
    int64_t k;
    bool known = tn_ox_dconst(x, dims[i], &k);
    if (!named && !known)
      return tn_ox_refuse(x, n, "state the sizes of the inputs with --shapes",
                          "without axes, the result's rank depends on a size that is not known at import");
    if (!named && k == 1) bits |= 1u << i;
    if (bits >> i & 1)
      tn_ox_same(x, n, dims[i], tn_ox_d(x, 1));
    else
      kept[count++] = dims[i];
  }
  return tn_ox_out(x, n, 0, tn_ox_reshape(x, v, kept, count));
}

tn_status tn_ox_lower_unsqueeze(tn_ox *x, tn_ox_node *n) {
  tn_dim have[TN_MAX_RANK], dims[2 * TN_MAX_RANK];
  tn_value v = tn_ox_in(x, n, 0), in = tn_ox_in(x, n, 1);
  uint32_t rank = tn_ox_rank(x, v), bits, added = 0, at = 0;
  int64_t list[TN_MAX_RANK];
  if (!tn_ox_ints(n, "axes", &added) && in && !tn_ox_known_ints(x, in, list, TN_MAX_RANK, &added))
    return tn_ox_refuse(x, n, NULL, "the axes are not known at import");
  if (rank + added > TN_MAX_RANK)
    return tn_ox_refuse(x, n, NULL, "the result has rank %u; the most is %d", rank + added, TN_MAX_RANK);
  if (!v || !axes_bits(x, n, rank + added, &bits)) return tn_ox_out(x, n, 0, added || x->failed ? 0 : v);
  tn_ox_dims(x, v, have);
  for (uint32_t i = 0; i < rank + added; i++) dims[i] = bits >> i & 1 ? tn_ox_d(x, 1) : have[at++];
  return tn_ox_out(x, n, 0, tn_ox_reshape(x, v, dims, rank + added));
}

/* ---- moving
 * ------------------------------------------------------------------------------------------------- */

tn_status tn_ox_lower_transpose(tn_ox *x, tn_ox_node *n) {
  tn_value v = tn_ox_in(x, n, 0);
  uint32_t rank = tn_ox_rank(x, v), count;
  int64_t reversed[TN_MAX_RANK];
  const int64_t *perm = tn_ox_ints(n, "perm", &count);
  for (uint32_t i = 0; i < rank; i++) reversed[i] = rank - 1 - i;
  if (perm && count != rank) return tn_ox_fail(x, n, "perm has %u entries, the tensor rank %u", count, rank);
  for (uint32_t i = 0; perm && i < rank; i++) reversed[i] = tn_ox_axis(x, n, perm[i], rank);
  return tn_ox_out(x, n, 0, x->failed ? 0 : tn_ox_transpose(x, v, reversed));
}

tn_status tn_ox_lower_concat(tn_ox *x, tn_ox_node *n) {
  uint32_t count = tn_ox_nin(n);
  tn_value *parts = tn_arena_alloc(&x->arena, (count + 1) * sizeof *parts);
  if (!parts) return TN_OOM;
  if (!tn_ox_has_attr(n, "axis")) return tn_ox_fail(x, n, "attribute 'axis' is missing");
  for (uint32_t i = 0; i < count; i++)
    if (!(parts[i] = tn_ox_in(x, n, i))) return tn_ox_fail(x, n, "input %u is missing", i);
  return tn_ox_out(x, n, 0, tn_ox_concat(x, parts, count, tn_ox_int(n, "axis", 0)));
}

tn_status tn_ox_lower_expand(tn_ox *x, tn_ox_node *n) {
  tn_dim have[TN_MAX_RANK], dims[TN_MAX_RANK], out[TN_MAX_RANK];
  tn_value v = tn_ox_in(x, n, 0), shape = tn_ox_in(x, n, 1);
  uint32_t rank = tn_ox_rank(x, v), count = 0;
  if (!v || !shape || !tn_ox_now_dims(x, shape, dims, TN_MAX_RANK, &count)) return tn_ox_out(x, n, 0, 0);
  uint32_t r = rank > count ? rank : count;
  tn_ox_dims(x, v, have);
  for (uint32_t i = 0; i < r; i++) {
    tn_dim one = tn_ox_d(x, 1);
    out[i] = tn_ox_dbroadcast(x, i + rank >= r ? have[i + rank - r] : one,
                              i + count >= r ? dims[i + count - r] : one);
  }
  return tn_ox_out(x, n, 0, x->failed ? 0 : tn_ox_broadcast(x, v, out, r));
}

/* One axis at a time, as [before, times, axis and after]. */
tn_status tn_ox_lower_tile(tn_ox *x, tn_ox_node *n) {
  tn_dim dims[TN_MAX_RANK], times[TN_MAX_RANK];
  tn_value v = tn_ox_in(x, n, 0), repeats = tn_ox_in(x, n, 1);
  uint32_t rank = tn_ox_rank(x, v), count = 0;
  if (!v || !repeats || !tn_ox_now_dims(x, repeats, times, TN_MAX_RANK, &count)) return tn_ox_out(x, n, 0, 0);
  if (count != rank) return tn_ox_fail(x, n, "%u repeats for a tensor of rank %u", count, rank);
  tn_ox_dims(x, v, dims);
  for (uint32_t i = 0; i < rank; i++) {
    int64_t k;
    if (tn_ox_dconst(x, times[i], &k) && k == 1) continue;
    tn_dim three[3] = {tn_ox_dproduct(x, dims, 0, i), tn_ox_d(x, 1), tn_ox_dproduct(x, dims, i, rank)};
    v = tn_ox_reshape(x, v, three, 3);
    three[1] = times[i];
    v = tn_ox_broadcast(x, v, three, 3);
    dims[i] = tn_ox_dmul(x, dims[i], times[i]);
    v = tn_ox_reshape(x, v, dims, rank);
  }
  return tn_ox_out(x, n, 0, v);
}

/* [b, c, h, w] with blocks of channels to blocks of pixels, and back. */
static tn_status blocks(tn_ox *x, tn_ox_node *n, bool to_space) {
  tn_dim d[TN_MAX_RANK];
  tn_value v = tn_ox_in(x, n, 0);
  int64_t size = tn_ox_int(n, "blocksize", 0), k;
  const char *mode = tn_ox_str(n, "mode", "DCR");
  bool dcr = !strcmp(mode, "DCR");
  if (!v) return tn_ox_out(x, n, 0, 0);
  if (tn_ox_rank(x, v) != 4 || size < 1 || size > 1 << 20)
    return tn_ox_fail(x, n, "rank %u and blocksize %lld, wants rank 4 and at least 1", tn_ox_rank(x, v),
                      (long long)size);
  if (!dcr && strcmp(mode, "CRD")) return tn_ox_fail(x, n, "mode '%.40s', wants DCR or CRD", mode);
  tn_ox_dims(x, v, d);
  tn_dim s = tn_ox_d(x, size), area = tn_ox_d(x, size * size);
  tn_dim c = to_space ? tn_ox_ddiv(x, d[1], area) : tn_ox_dmul(x, d[1], area);
  if (to_space && tn_ox_dconst(x, d[1], &k) && k % (size * size))
    return tn_ox_fail(x, n, "%lld channels are no multiple of %lld", (long long)k, (long long)(size * size));
  if (to_space) {
    tn_dim six[2][6] = {{d[0], c, s, s, d[2], d[3]}, {d[0], s, s, c, d[2], d[3]}};
    static const int64_t perm[2][6] = {{0, 1, 4, 2, 5, 3}, {0, 3, 4, 1, 5, 2}};
    v = tn_ox_transpose(x, tn_ox_reshape(x, v, six[dcr], 6), perm[dcr]);
    return tn_ox_out(
        x, n, 0, tn_ox_reshape(x, v, (tn_dim[]){d[0], c, tn_ox_dmul(x, d[2], s), tn_ox_dmul(x, d[3], s)}, 4));
  }
  tn_dim h = tn_ox_ddiv(x, d[2], s), w = tn_ox_ddiv(x, d[3], s);
  v = tn_ox_reshape(x, v, (tn_dim[]){d[0], d[1], h, s, w, s}, 6);
  v = tn_ox_transpose(x, v, dcr ? (int64_t[]){0, 3, 5, 1, 2, 4} : (int64_t[]){0, 1, 3, 5, 2, 4});
  return tn_ox_out(x, n, 0, tn_ox_reshape(x, v, (tn_dim[]){d[0], c, h, w}, 4));
}

tn_status tn_ox_lower_depth_to_space(tn_ox *x, tn_ox_node *n) { return blocks(x, n, true); }
tn_status tn_ox_lower_space_to_depth(tn_ox *x, tn_ox_node *n) { return blocks(x, n, false); }

/* ---- leaves
 * ------------------------------------------------------------------------------------------------- */

tn_status tn_ox_lower_identity(tn_ox *x, tn_ox_node *n) {
  const tn_ox_item *item = tn_ox_in_item(x, n, 0);
  return item ? tn_ox_out_item(x, n, 0, item) : tn_ox_fail(x, n, "input 0 is missing");
}

tn_status tn_ox_lower_constant(tn_ox *x, tn_ox_node *n) {
  uint32_t count;
  if (n->nattrs != 1) return tn_ox_fail(x, n, "%u attributes, wants one that gives the value", n->nattrs);
  const char *name = n->attrs[0]->name;
  const tn_ox_tensor_proto *t = n->attrs[0]->t;
  if (!strcmp(name, "value") && t && t->data_type == ONNX__TENSOR_PROTO__DATA_TYPE__STRING)
    return tn_ox_out_strings(x, n, 0, t);
  if (!strcmp(name, "value") || !strcmp(name, "sparse_value"))
    return tn_ox_out(x, n, 0, tn_ox_tensor(x, n, name));
  if (!strcmp(name, "value_int"))
    return tn_ox_out(x, n, 0, tn_ox_scalar_int(x, TN_DT_i64, tn_ox_int(n, name, 0)));
  if (!strcmp(name, "value_float"))
    return tn_ox_out(x, n, 0, tn_ox_scalar(x, TN_DT_f32, tn_ox_float(n, name, 0)));
  if (!strcmp(name, "value_ints")) {
    const int64_t *list = tn_ox_ints(n, name, &count);
    return tn_ox_out(x, n, 0, tn_ox_ints_1d(x, list, count));
  }
  if (!strcmp(name, "value_floats")) {
    const float *list = tn_ox_floats(n, name, &count);
    int64_t dims[1] = {count};
    return tn_ox_out(x, n, 0, tn_ox_constant(x, TN_DT_f32, dims, 1, list, (uint64_t)count * sizeof *list));
  }
  return tn_ox_refuse(x, n, NULL, "tensors of string are not supported");
}

tn_status tn_ox_lower_constant_of_shape(tn_ox *x, tn_ox_node *n) {
  tn_dim dims[TN_MAX_RANK];
  uint32_t count;
  tn_value shape = tn_ox_in(x, n, 0);
  tn_value value = tn_ox_has_attr(n, "value") ? tn_ox_tensor(x, n, "value") : tn_ox_scalar(x, TN_DT_f32, 0);
  if (!shape || !tn_ox_now_dims(x, shape, dims, TN_MAX_RANK, &count)) return tn_ox_out(x, n, 0, 0);
  return tn_ox_out(x, n, 0, tn_ox_full(x, value, dims, count));
}

/* ---- Range
 * -------------------------------------------------------------------------------------------------- */

/* How many of start, start + delta, ... lie before limit, as far as they are known. */
static tn_dim range_known(tn_ox *x, tn_value start, tn_value limit, tn_value delta) {
  tn_dim a, b;
  int64_t step;
  double from, to, by;
  uint32_t n;
  if (tn_ox_is_float(x, start)) {
    if (!tn_ox_known_floats(x, start, &from, 1, &n) || !tn_ox_known_floats(x, limit, &to, 1, &n) ||
        !tn_ox_known_floats(x, delta, &by, 1, &n) || !by)
      return 0;
    double count = ceil((to - from) / by);
    return count < 9e15 ? tn_ox_d(x, count > 0 ? (int64_t)count : 0) : 0;
  }
  if (!tn_ox_known_dims(x, start, &a, 1, &n) || !tn_ox_known_dims(x, limit, &b, 1, &n) ||
      !tn_ox_known_ints(x, delta, &step, 1, &n) || !step || step < -INT32_MAX || step > INT32_MAX)
    return 0;
  tn_dim length = step > 0 ? tn_ox_dsub(x, b, a) : tn_ox_dsub(x, a, b),
         by_dim = tn_ox_d(x, step > 0 ? step : -step);
  tn_dim count = tn_ox_ddiv(x, tn_ox_dadd(x, length, tn_ox_dsub(x, by_dim, tn_ox_d(x, 1))), by_dim);
  return tn_ox_dnonneg(x, count) ? count : tn_ox_dmax(x, count, tn_ox_d(x, 0));
}

/* The same at run time: -floor(-(limit - start) / delta). */
static tn_dim range_now(tn_ox *x, tn_value start, tn_value limit, tn_value delta) {
  bool real = tn_ox_is_float(x, start);
  tn_value length = tn_ox_binary(x, "sub", limit, start), count;
  if (real) {
    count = tn_ox_cast(x, tn_ox_unary(x, "ceil", tn_ox_binary(x, "div", length, delta)), TN_DT_i64);
  } else {
    tn_value minus = tn_ox_unary(x, "neg", tn_ox_cast(x, length, TN_DT_i64)),
             by = tn_ox_cast(x, delta, TN_DT_i64);
    count = tn_ox_binary(x, "sub", minus, tn_ox_binary(x, "mod", minus, by));
    count = tn_ox_unary(x, "neg", tn_ox_binary(x, "div", count, by));
  }
  count = tn_ox_binary(x, "max", count, tn_ox_scalar_int(x, TN_DT_i64, 0));
  return tn_ox_let_dim(x, count, 0, "range");
}

tn_status tn_ox_lower_range(tn_ox *x, tn_ox_node *n) {
  tn_value in[3];
  for (uint32_t i = 0; i < 3; i++) {
    in[i] = tn_ox_in(x, n, i);
    if (in[i] && tn_ox_rank(x, in[i])) in[i] = tn_ox_reshape(x, in[i], NULL, 0);
  }
  if (!in[0] || !in[1] || !in[2]) return tn_ox_out(x, n, 0, 0);
  tn_dtype t = tn_ox_dtype(x, in[0]);
  if (tn_ox_dtype(x, in[1]) != t || tn_ox_dtype(x, in[2]) != t)
    return tn_ox_fail(x, n, "start, limit and delta are of different types");
  tn_dim count = range_known(x, in[0], in[1], in[2]), first;
  if (!count && !x->failed) count = range_now(x, in[0], in[1], in[2]);
  if (!count) return tn_ox_out(x, n, 0, 0);
  int64_t step;
  uint32_t one;
  if (t == TN_DT_i64 && tn_ox_known_ints(x, in[2], &step, 1, &one) && step == 1 &&
      tn_ox_known_dims(x, in[0], &first, 1, &one))
    return tn_ox_out(x, n, 0,
                     tn_ox_make(x, "iota", NULL, 0,
                                TN_OX_ATTRS(TN_OX_DIMS("shape", &count, 1), TN_OX_DIM("start", first))));
  tn_value at = tn_ox_iota(x, t, &count, 1, 0);
  return tn_ox_out(x, n, 0, tn_ox_binary(x, "add", tn_ox_binary(x, "mul", at, in[2]), in[0]));
}
