/* constants.c - tensors of the file as values: weights, which stay in their file until they are packed, for
 * what is large; constants in the module for the rest, whose elements the import (and later passes) may look
 * at. */
#include "frontend/onnx/import.h"

enum { MAX_FLOATS = 1024, MAX_BYTES = 64 << 10 };

tn_value tn_ox_constant(tn_ox *x, tn_dtype t, const int64_t *dims, uint32_t rank, const void *data,
                        uint64_t bytes) {
  tn_dim d[TN_MAX_RANK];
  if (x->failed || x->broken) return 0;
  for (uint32_t i = 0; i < rank; i++) d[i] = tn_ox_d(x, dims[i]);
  tn_type type = x->ir->type_make(x->m, t, rank, d, NULL);
  tn_attr value = {.kind = TN_ATTR_DATA, .u.data = {data, bytes}};
  if (!type) x->failed = x->invalid = true;
  return tn_ox_result(x, tn_ox_make_typed(x, "constant", NULL, 0, TN_OX_ATTRS({"value", value}), &type, 1),
                      0);
}

/* Graphs inside nodes may use a name again. */
static const char *free_name(tn_ox *x, const char *name) {
  const char *tried = name;
  uint64_t taken;
  for (uint32_t i = 2; tried; i++) {
    char *key = tn_arena_printf(&x->arena, "name %s", tried);
    if (!key) return name;
    if (!tn_map_get(&x->weights, tn_str_of(key), &taken))
      return tn_map_put(&x->weights, tn_str_of(key), 1, NULL) == TN_OK ? tried : name;
    tried = tn_arena_printf(&x->arena, "%s_%u", name, i);
  }
  return name;
}

static tn_value weight(tn_ox *x, const tn_ox_data *data, const char *name) {
  tn_dim d[TN_MAX_RANK];
  uint64_t id;
  char key[40];
  snprintf(key, sizeof key, "%p", data->ptr); /* the same bytes: the same weight */
  for (uint32_t i = 0; i < data->rank; i++) d[i] = tn_ox_d(x, data->dims[i]);
  tn_type type = x->ir->type_make(x->m, data->dtype, data->rank, d, NULL);
  tn_weight_info info;
  if (tn_map_get(&x->weights, tn_str_of(key), &id)) {
    x->ir->weight_get(x->m, (tn_weight)id, &info);
    if (info.type == type) return info.value;
  }
  tn_part part = {data->file, data->offset, data->bytes};
  tn_weight w =
      type ? x->ir->weight_add(x->m, free_name(x, name && *name ? name : "weight"), type, &part, 1) : 0;
  if (!w || tn_map_put(&x->weights, tn_str_of(key), w, NULL)) {
    x->failed = x->invalid = true;
    return 0;
  }
  x->ir->weight_get(x->m, w, &info);
  return info.value;
}

tn_value tn_ox_tensor_value(tn_ox *x, const tn_ox_tensor_proto *t, const char *name) {
  tn_ox_data data;
  const char *why;
  if (x->failed || x->broken) return 0;
  tn_status s = tn_ox_tensor_read(&x->model, t, &data, &why);
  if (s == TN_OK && !(data.dtype = tn_ox_type_dtype(x->ir, t->data_type))) {
    char buf[24];
    why = tn_ox_words(&x->model, "tensors of %s are not supported", tn_ox_type_name(t->data_type, buf));
    s = TN_UNSUPPORTED;
  }
  if (s != TN_OK) {
    if (s == TN_UNSUPPORTED)
      tn_ox_refuse(x, x->node, NULL, "tensor '%.200s': %s", name ? name : "", why);
    else
      tn_ox_fail(x, x->node, "tensor '%.200s': %s", name ? name : "", why);
    return 0;
  }
  bool real = x->ir->dtype_info(data.dtype)->cls == TN_CLASS_FLOAT;
  bool large = data.bytes > MAX_BYTES || (real && data.rank && data.count > MAX_FLOATS);
  if (large && data.file) return weight(x, &data, name);
  tn_value v = tn_ox_constant(x, data.dtype, data.dims, data.rank, data.ptr ? data.ptr : "", data.bytes);
  tn_ox_held held = {v, {data.file, data.offset, data.bytes}};
  if (v && data.file && !tn_vec_push(&x->held, held)) x->broken = TN_OOM;
  return v;
}

/* ---- sparse tensors, made dense
 * ----------------------------------------------------------------------------- */

enum { MAX_DENSE = 256 << 20 }; /* bytes: they are in no file */

static bool sparse_fail(tn_ox *x, const char *name, const char *why) {
  tn_ox_fail(x, x->node, "sparse tensor '%.200s': %s", name ? name : "", why);
  return false;
}

/* The flat place of the i-th value. */
static bool place(const tn_ox_data *indices, const int64_t *dims, uint32_t rank, uint64_t count, uint64_t i,
                  uint64_t *out) {
  const int64_t *at = indices->ptr;
  *out = 0;
  if (indices->rank == 1) {
    *out = (uint64_t)at[i];
    return at[i] >= 0 && *out < count;
  }
  for (uint32_t d = 0; d < rank; d++) {
    int64_t k = at[i * rank + d];
    if (k < 0 || k >= dims[d]) return false;
    *out = *out * (uint64_t)dims[d] + (uint64_t)k;
  }
  return true;
}

static bool scatter(tn_ox *x, const Onnx__SparseTensorProto *t, const tn_ox_data *values,
                    const tn_ox_data *indices, uint8_t *dense, uint64_t count, const char *name) {
  uint64_t width = values->bytes / (values->count ? values->count : 1), at;
  bool listed = indices->rank == 2 && indices->dims[1] == (int64_t)t->n_dims;
  if (values->rank != 1 || (indices->rank != 1 && !listed) || indices->dims[0] != values->dims[0])
    return sparse_fail(x, name, "values must be [n], and indices [n] or [n, rank]");
  for (uint64_t i = 0; i < values->count; i++) {
    if (!place(indices, t->dims, (uint32_t)t->n_dims, count, i, &at))
      return sparse_fail(x, name, "an index is out of range");
    memcpy(dense + at * width, (const uint8_t *)values->ptr + i * width, width);
  }
  return true;
}

tn_value tn_ox_sparse_value(tn_ox *x, const Onnx__SparseTensorProto *t, const char *name) {
  tn_ox_data values = {0}, indices = {0};
  const char *why = "it has no values or no indices";
  tn_status s = t->values && t->indices ? tn_ox_tensor_read(&x->model, t->values, &values, &why) : TN_INVALID;
  if (s == TN_OK) s = tn_ox_tensor_read(&x->model, t->indices, &indices, &why);
  if (s == TN_OK && t->indices->data_type != ONNX__TENSOR_PROTO__DATA_TYPE__INT64)
    why = "indices must be int64", s = TN_INVALID;
  values.dtype = s == TN_OK ? tn_ox_type_dtype(x->ir, t->values->data_type) : 0;
  const tn_dtype_info *info = x->ir->dtype_info(values.dtype);
  if (s == TN_OK && (!info || info->bits < 8)) why = "its element type is not supported", s = TN_INVALID;
  uint64_t count = 1, bytes = 0;
  if (t->n_dims > TN_MAX_RANK) why = "its rank is above 8", s = TN_INVALID;
  for (size_t i = 0; i < t->n_dims && s == TN_OK; i++)
    if (t->dims[i] < 0 || !tn_mul_u64(count, (uint64_t)t->dims[i], &count))
      why = "a size is negative or too large", s = TN_INVALID;
  if (s == TN_OK && (!tn_mul_u64(count, info->bits / 8, &bytes) || bytes > MAX_DENSE))
    why = "it is too large to be made dense", s = TN_INVALID;
  if (s != TN_OK) {
    sparse_fail(x, name, why);
    return 0;
  }
  uint8_t *dense = tn_mem_alloc(bytes + 1);
  tn_value v = 0;
  if (dense && scatter(x, t, &values, &indices, dense, count, name))
    v = tn_ox_constant(x, values.dtype, t->dims, (uint32_t)t->n_dims, dense, bytes);
  tn_mem_free(dense);
  return v;
}
