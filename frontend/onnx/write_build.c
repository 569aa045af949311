/* write_build.c - builders of common nodes: each computes the type of what it makes from its inputs. */
#include "frontend/onnx/write_graph.h"
#include <string.h>

/* ---- constants -------------------------------------------------------------------------------------------
 */
tn_ov tn_ow_const(tn_ow *w, const tn_ow_shape *t, const void *data, uint64_t bytes) {
  if (tn_ow_failed(w)) return 0;
  tn_buf key = {0};
  uint64_t at = 0;
  tn_buf_put(&key, &t->dtype, sizeof t->dtype);
  tn_buf_put(&key, &t->rank, sizeof t->rank);
  tn_buf_put(&key, t->dims, t->rank * sizeof *t->dims);
  tn_buf_put(&key, data, bytes);
  tn_str k = {key.text, key.len};
  bool there = !key.failed && tn_map_get(&w->constants, k, &at);
  if (!there) {
    tn_ow_init c = {.what = TN_OI_BYTES, .bytes = bytes, .data = tn_arena_copy(&w->arena, data, bytes)};
    at = c.value = tn_ow_value_add(w, TN_OV_INIT, t, NULL);
    if (at) w->values.items[at].init = w->inits.count, w->values.items[at].graph = 1;
    if (key.failed || (bytes && !c.data) || !at || !tn_vec_push(&w->inits, c) ||
        tn_map_put(&w->constants, k, at, NULL) != TN_OK)
      tn_ow_fail(w, TN_OOM, "out of memory");
  }
  tn_buf_fini(&key);
  return tn_ow_failed(w) ? 0 : (tn_ov)at;
}

static uint32_t store(tn_dtype t, double v, uint8_t out[8]) {
  float f = (float)v;
  int64_t i = (int64_t)v;
  uint16_t h = t == TN_DT_f16 ? tn_f32_to_f16(f) : tn_f32_to_bf16(f);
  switch (t) {
  case TN_DT_f64: return memcpy(out, &v, 8), 8;
  case TN_DT_f32: return memcpy(out, &f, 4), 4;
  case TN_DT_f16:
  case TN_DT_bf16: return memcpy(out, &h, 2), 2;
  case TN_DT_i64:
  case TN_DT_u64: return memcpy(out, &i, 8), 8;
  case TN_DT_i32:
  case TN_DT_u32: return memcpy(out, &i, 4), 4;
  case TN_DT_i16:
  case TN_DT_u16: return memcpy(out, &i, 2), 2;
  case TN_DT_i8:
  case TN_DT_u8:
  case TN_DT_bool: return out[0] = (uint8_t)i, 1;
  default: return 0;
  }
}

static tn_ov filled(tn_ow *w, const tn_ow_shape *t, uint64_t n, double v) {
  uint8_t one[8], small[64] = {0}, *all = small;
  uint32_t size = store(t->dtype, v, one);
  if (!size || size > sizeof one)
    return tn_ow_fail(w, TN_UNSUPPORTED, "no constant of type %s can be made",
                      w->ir->dtype_info(t->dtype)->name),
           0;
  if (n * size > sizeof small) all = tn_mem_alloc(n * size);
  if (!all) return tn_ow_fail(w, TN_OOM, "out of memory"), 0;
  for (uint64_t i = 0; i < n; i++) memcpy(all + i * size, one, size);
  tn_ov c = tn_ow_const(w, t, all, n * size);
  if (all != small) tn_mem_free(all);
  return c;
}

tn_ov tn_ow_scalar(tn_ow *w, tn_dtype t, double v) {
  return tn_ow_failed(w) ? 0 : filled(w, &(tn_ow_shape){.dtype = t}, 1, v);
}

tn_ov tn_ow_scalar_like(tn_ow *w, tn_ov like, double v) {
  return like ? tn_ow_scalar(w, tn_ow_dtype(w, like), v) : 0;
}

tn_ov tn_ow_full_1d(tn_ow *w, tn_dtype t, tn_dim n, double v) {
  int64_t k = 0;
  if (tn_ow_failed(w)) return 0;
  if (!tn_ow_dconst(w, n, &k)) return tn_ow_expand(w, tn_ow_scalar(w, t, v), &n, 1);
  return filled(w, &(tn_ow_shape){t, 1, {n}}, (uint64_t)k, v);
}

tn_ov tn_ow_ints_1d(tn_ow *w, const int64_t *v, uint32_t n) {
  return tn_ow_const(w, &(tn_ow_shape){TN_DT_i64, 1, {tn_ow_d(w, n)}}, v, n * sizeof *v);
}

/* ---- elementwise ------------------------------------------------------------------------------------------
 */
static void broadcast(tn_ow *w, const tn_ow_shape *a, const tn_ow_shape *b, tn_ow_shape *out) {
  uint32_t rank = a->rank > b->rank ? a->rank : b->rank;
  int64_t k;
  out->dtype = a->dtype;
  out->rank = rank;
  for (uint32_t i = 0; i < rank; i++) { /* from the last dim on */
    tn_dim x = i < a->rank ? a->dims[a->rank - 1 - i] : 0, y = i < b->rank ? b->dims[b->rank - 1 - i] : 0;
    out->dims[rank - 1 - i] = !x || (y && tn_ow_dconst(w, x, &k) && k == 1) ? y : x;
  }
}

tn_ov tn_ow_unary(tn_ow *w, const char *op, tn_ov x) {
  tn_ow_shape t = *tn_ow_type(w, x);
  return x ? tn_ow_node1(w, op, &x, 1, NULL, &t) : 0;
}

tn_ov tn_ow_binary(tn_ow *w, const char *op, tn_ov a, tn_ov b) {
  tn_ow_shape t;
  if (!a || !b) return 0;
  broadcast(w, tn_ow_type(w, a), tn_ow_type(w, b), &t);
  return tn_ow_node1(w, op, TN_OW_IN(a, b), NULL, &t);
}

tn_ov tn_ow_test(tn_ow *w, const char *op, tn_ov x) {
  tn_ow_shape t = *tn_ow_type(w, x);
  t.dtype = TN_DT_bool;
  return x ? tn_ow_node1(w, op, &x, 1, NULL, &t) : 0;
}

tn_ov tn_ow_compare(tn_ow *w, const char *op, tn_ov a, tn_ov b) {
  tn_ow_shape t;
  if (!a || !b) return 0;
  broadcast(w, tn_ow_type(w, a), tn_ow_type(w, b), &t);
  t.dtype = TN_DT_bool;
  return tn_ow_node1(w, op, TN_OW_IN(a, b), NULL, &t);
}

tn_ov tn_ow_where(tn_ow *w, tn_ov cond, tn_ov a, tn_ov b) {
  tn_ow_shape ab, t;
  if (!cond || !a || !b) return 0;
  broadcast(w, tn_ow_type(w, a), tn_ow_type(w, b), &ab);
  broadcast(w, &ab, tn_ow_type(w, cond), &t);
  return tn_ow_node1(w, "Where", TN_OW_IN(cond, a, b), NULL, &t);
}

tn_ov tn_ow_cast(tn_ow *w, tn_ov x, tn_dtype to) {
  tn_ow_shape t = *tn_ow_type(w, x);
  if (!x || t.dtype == to) return x;
  t.dtype = to;
  return tn_ow_node1(w, "Cast", &x, 1, TN_OW_ATTRS(TN_OW_I("to", tn_ow_elem(w, to))), &t);
}

/* ---- shape ------------------------------------------------------------------------------------------------
 */
/* A transpose of a transpose is one of what came in. */
tn_ov tn_ow_transpose(tn_ow *w, tn_ov x, const int64_t *perm) {
  const tn_ow_shape *from = tn_ow_type(w, x);
  const tn_ow_node *n =
      x && w->values.items[x].from == TN_OV_NODE ? &w->nodes.items[w->values.items[x].node] : NULL;
  int64_t both[TN_MAX_RANK];
  if (n && !n->domain && !strcmp(n->op, "Transpose")) {
    for (uint32_t i = 0; i < from->rank; i++) both[i] = n->attrs[0].ints[perm[i]];
    return tn_ow_transpose(w, n->in[0], both);
  }
  tn_ow_shape t = *from;
  bool moves = false;
  for (uint32_t i = 0; i < t.rank; i++) {
    t.dims[i] = from->dims[perm[i]];
    moves = moves || perm[i] != i;
  }
  return x && moves ? tn_ow_node1(w, "Transpose", &x, 1, TN_OW_ATTRS(TN_OW_IS("perm", perm, t.rank)), &t) : x;
}

static bool listed(const int64_t *axes, uint32_t n, int64_t axis) {
  for (uint32_t i = 0; i < n; i++)
    if (axes[i] == axis) return true;
  return false;
}

tn_ov tn_ow_unsqueeze(tn_ow *w, tn_ov x, const int64_t *axes, uint32_t n) {
  const tn_ow_shape *from = tn_ow_type(w, x);
  tn_ow_shape t = {.dtype = from->dtype, .rank = from->rank + n};
  if (!x || !n) return x;
  for (uint32_t i = 0, k = 0; i < t.rank; i++)
    t.dims[i] = listed(axes, n, i) ? tn_ow_d(w, 1) : from->dims[k++];
  return tn_ow_node1(w, "Unsqueeze", TN_OW_IN(x, tn_ow_ints_1d(w, axes, n)), NULL, &t);
}

tn_ov tn_ow_squeeze(tn_ow *w, tn_ov x, const int64_t *axes, uint32_t n) {
  const tn_ow_shape *from = tn_ow_type(w, x);
  tn_ow_shape t = {.dtype = from->dtype};
  if (!x || !n) return x;
  for (uint32_t i = 0; i < from->rank; i++)
    if (!listed(axes, n, i)) t.dims[t.rank++] = from->dims[i];
  return tn_ow_node1(w, "Squeeze", TN_OW_IN(x, tn_ow_ints_1d(w, axes, n)), NULL, &t);
}

/* The axes of size 1 that `longer` has beside the dims of `shorter`; false: other dims differ. */
static bool only_ones(tn_ow *w, const tn_dim *shorter, uint32_t ns, const tn_dim *longer, uint32_t nl,
                      int64_t *axes, uint32_t *n) {
  uint32_t i = 0;
  *n = 0;
  for (uint32_t k = 0; k < nl; k++) {
    if (i < ns && longer[k] == shorter[i])
      i++;
    else if (longer[k] == tn_ow_d(w, 1))
      axes[(*n)++] = k;
    else
      return false;
  }
  return i == ns;
}

/* 0 for sizes that stay at their place and -1 for one other, where that says it; else all sizes as values. */
static tn_ov reshape_sizes(tn_ow *w, const tn_ow_shape *from, const tn_dim *dims, uint32_t rank,
                           bool *zeros) {
  int64_t k, sizes[TN_MAX_RANK];
  uint32_t nfree = 0;
  bool empty = false; /* a size that is kept may be 0: -1 would have no answer */
  *zeros = false;
  for (uint32_t i = 0; i < rank; i++) {
    bool known = tn_ow_dconst(w, dims[i], &k), kept = !known && i < from->rank && from->dims[i] == dims[i];
    *zeros = *zeros || (known && k == 0);
    empty = empty || (kept && dims[i] == w->position);
    sizes[i] = known ? k : kept ? 0 : -1;
    nfree += !known && !kept;
  }
  *zeros = *zeros || nfree > 1 || (nfree && empty); /* then a 0 is a size, not one that is kept */
  if (*zeros) return tn_ow_shape_value(w, dims, rank);
  return tn_ow_ints_1d(w, sizes, rank);
}

tn_ov tn_ow_reshape(tn_ow *w, tn_ov x, const tn_dim *dims, uint32_t rank) {
  const tn_ow_shape *p = tn_ow_type(w, x);
  tn_ow_shape from = *p, t = {.dtype = p->dtype, .rank = rank};
  int64_t axes[TN_MAX_RANK];
  uint32_t n;
  bool zeros;
  if (!x || tn_ow_failed(w)) return 0;
  if (rank == from.rank && !memcmp(dims, from.dims, rank * sizeof *dims)) return x;
  if (rank > from.rank && only_ones(w, from.dims, from.rank, dims, rank, axes, &n))
    return tn_ow_unsqueeze(w, x, axes, n);
  if (rank < from.rank && only_ones(w, dims, rank, from.dims, from.rank, axes, &n))
    return tn_ow_squeeze(w, x, axes, n);
  memcpy(t.dims, dims, rank * sizeof *dims);
  tn_ov sizes = reshape_sizes(w, &from, dims, rank, &zeros);
  return tn_ow_node1(w, "Reshape", TN_OW_IN(x, sizes), zeros ? TN_OW_ATTRS(TN_OW_I("allowzero", 1)) : NULL,
                     &t);
}

tn_ov tn_ow_expand(tn_ow *w, tn_ov x, const tn_dim *dims, uint32_t rank) {
  const tn_ow_shape *from = tn_ow_type(w, x);
  tn_ow_shape t = {.dtype = from->dtype, .rank = rank};
  if (!x || (rank == from->rank && !memcmp(dims, from->dims, rank * sizeof *dims))) return x;
  memcpy(t.dims, dims, rank * sizeof *dims);
  return tn_ow_node1(w, "Expand", TN_OW_IN(x, tn_ow_shape_value(w, dims, rank)), NULL, &t);
}

/* A bound of Slice as a number where one says it, counted from the end if need be. */
static tn_ov bound(tn_ow *w, tn_dim at, tn_dim size, bool stop) {
  int64_t k;
  if (stop && at == size)
    k = INT64_MAX;
  else if (!tn_ow_dconst(w, at, &k) && (!tn_ow_dconst(w, tn_ow_dsub(w, at, size), &k) || k >= 0))
    return tn_ow_dim_value(w, at);
  return tn_ow_ints_1d(w, &k, 1);
}

tn_ov tn_ow_slice(tn_ow *w, tn_ov x, uint32_t axis, tn_dim start, tn_dim stop, int64_t step) {
  tn_ow_shape t = *tn_ow_type(w, x);
  int64_t at = axis;
  if (!x || tn_ow_failed(w)) return 0;
  tn_dim size = t.dims[axis], len = tn_ow_dsub(w, stop, start);
  if (step == 1 && len == size) return x;
  if (step != 1)
    len = tn_ow_dmake(w, TN_DIM_FLOORDIV, tn_ow_dmake(w, TN_DIM_ADD, len, tn_ow_d(w, step - 1)),
                      tn_ow_d(w, step));
  t.dims[axis] = len;
  tn_ov in[5] = {x, bound(w, start, size, false), bound(w, stop, size, true), tn_ow_ints_1d(w, &at, 1),
                 step == 1 ? 0 : tn_ow_ints_1d(w, &step, 1)};
  return tn_ow_node1(w, "Slice", in, 5, NULL, &t);
}

tn_ov tn_ow_concat(tn_ow *w, const tn_ov *parts, uint32_t n, uint32_t axis) {
  if (tn_ow_failed(w) || !n || !parts[0]) return 0;
  if (n == 1) return parts[0];
  tn_ow_shape t = *tn_ow_type(w, parts[0]);
  for (uint32_t i = 1; i < n; i++)
    t.dims[axis] = tn_ow_dmake(w, TN_DIM_ADD, t.dims[axis], tn_ow_size_of(w, parts[i], axis));
  return tn_ow_node1(w, "Concat", parts, n, TN_OW_ATTRS(TN_OW_I("axis", axis)), &t);
}

tn_ov tn_ow_gather(tn_ow *w, tn_ov data, tn_ov indices, uint32_t axis) {
  const tn_ow_shape *d = tn_ow_type(w, data), *i = tn_ow_type(w, indices);
  tn_ow_shape t = {.dtype = d->dtype};
  if (!data || !indices) return 0;
  if (d->rank + i->rank > TN_MAX_RANK + 1)
    return tn_ow_fail(w, TN_UNSUPPORTED, "more than %d dims", TN_MAX_RANK), 0;
  for (uint32_t k = 0; k < axis; k++) t.dims[t.rank++] = d->dims[k];
  for (uint32_t k = 0; k < i->rank; k++) t.dims[t.rank++] = i->dims[k];
  for (uint32_t k = axis + 1; k < d->rank; k++) t.dims[t.rank++] = d->dims[k];
  return tn_ow_node1(w, "Gather", TN_OW_IN(data, indices), axis ? TN_OW_ATTRS(TN_OW_I("axis", axis)) : NULL,
                     &t);
}

tn_ov tn_ow_range(tn_ow *w, tn_dim start, tn_dim count) {
  const tn_ow_shape t = {TN_DT_i64, 1, {count}};
  tn_dim stop = tn_ow_dmake(w, TN_DIM_ADD, start, count);
  return tn_ow_node1(
      w, "Range",
      TN_OW_IN(tn_ow_dim_scalar(w, start), tn_ow_dim_scalar(w, stop), tn_ow_scalar(w, TN_DT_i64, 1)), NULL,
      &t);
}

/* ---- reductions, products
 * ------------------------------------------------------------------------------------ */
tn_ov tn_ow_reduce(tn_ow *w, const char *op, tn_ov x, const int64_t *axes, uint32_t n, bool keep) {
  const tn_ow_shape *from = tn_ow_type(w, x);
  tn_ow_shape t = {.dtype = from->dtype};
  int64_t front[TN_MAX_RANK];
  if (!x || n > TN_MAX_RANK) return 0;
  for (uint32_t i = 0; i < n; i++) front[i] = axes[i] < 0 ? axes[i] + from->rank : axes[i];
  for (uint32_t i = 0; i < from->rank; i++) {
    bool gone = listed(front, n, i);
    if (!gone || keep) t.dims[t.rank++] = gone ? tn_ow_d(w, 1) : from->dims[i];
  }
  if (!n) return x;
  if (w->o.opset >= 18 || !strcmp(op, "ReduceSum"))
    return tn_ow_node1(w, op, TN_OW_IN(x, tn_ow_ints_1d(w, front, n)), TN_OW_ATTRS(TN_OW_I("keepdims", keep)),
                       &t);
  return tn_ow_node1(w, op, &x, 1, TN_OW_ATTRS(TN_OW_IS("axes", front, n), TN_OW_I("keepdims", keep)), &t);
}

tn_ov tn_ow_matmul(tn_ow *w, tn_ov a, tn_ov b) {
  if (!a || !b) return 0;
  tn_ow_shape x = *tn_ow_type(w, a), y = *tn_ow_type(w, b), t;
  tn_dim m = x.dims[x.rank - 2], n = y.dims[y.rank - 1];
  x.rank -= 2, y.rank -= 2;
  broadcast(w, &x, &y, &t);
  t.dims[t.rank++] = m;
  t.dims[t.rank++] = n;
  return tn_ow_node1(w, "MatMul", TN_OW_IN(a, b), NULL, &t);
}

tn_ov tn_ow_softmax(tn_ow *w, tn_ov x, uint32_t axis) {
  tn_ow_shape t = *tn_ow_type(w, x);
  int64_t from_end = (int64_t)axis - t.rank;
  return x ? tn_ow_node1(w, "Softmax", &x, 1,
                         TN_OW_ATTRS(TN_OW_I("axis", from_end == -1 ? -1 : (int64_t)axis)), &t)
           : 0;
}
