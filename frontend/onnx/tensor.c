/* tensor.c - TensorProto: element types, sizes, and where the elements are. */
#include "frontend/onnx/model.h"
#include <errno.h>
#include <stdlib.h>

typedef struct type_row {
  const char *name, *dtype; /* as ONNX and as the IR call it; NULL: not in the IR */
  uint32_t bits, field;     /* field of TensorProto that holds elements one by one */
} type_row;
enum { FLOATS = 4, INT32S = 5, STRINGS = 6, INT64S = 7, RAW = 9, DOUBLES = 10, UINT64S = 11 };

static const type_row types[] = {{"undefined", NULL, 0, 0},
                                 {"float", "f32", 32, FLOATS},
                                 {"uint8", "u8", 8, INT32S},
                                 {"int8", "i8", 8, INT32S},
                                 {"uint16", "u16", 16, INT32S},
                                 {"int16", "i16", 16, INT32S},
                                 {"int32", "i32", 32, INT32S},
                                 {"int64", "i64", 64, INT64S},
                                 {"string", NULL, 0, STRINGS},
                                 {"bool", "bool", 8, INT32S},
                                 {"float16", "f16", 16, INT32S},
                                 {"double", "f64", 64, DOUBLES},
                                 {"uint32", "u32", 32, UINT64S},
                                 {"uint64", "u64", 64, UINT64S},
                                 {"complex64", NULL, 64, FLOATS},
                                 {"complex128", NULL, 128, DOUBLES},
                                 {"bfloat16", "bf16", 16, INT32S},
                                 {"float8e4m3fn", "f8e4m3", 8, INT32S},
                                 {"float8e4m3fnuz", "f8e4m3fnuz", 8, INT32S},
                                 {"float8e5m2", "f8e5m2", 8, INT32S},
                                 {"float8e5m2fnuz", "f8e5m2fnuz", 8, INT32S},
                                 {"uint4", "u4", 4, INT32S},
                                 {"int4", "i4", 4, INT32S},
                                 {"float4e2m1", "f4e2m1", 4, INT32S},
                                 {"float8e8m0", "f8e8m0", 8, INT32S},
                                 {"uint2", "u2", 2, INT32S},
                                 {"int2", "i2", 2, INT32S},
                                 {"float6e2m3", NULL, 6, INT32S},
                                 {"float6e3m2", NULL, 6, INT32S}};

static const type_row *row_of(int64_t t) { return t > 0 && t < (int64_t)TN_COUNT(types) ? &types[t] : NULL; }

const char *tn_ox_type_name(int64_t t, char buf[24]) {
  snprintf(buf, 24, "element type %lld", (long long)t % 1000000);
  return t >= 0 && t < (int64_t)TN_COUNT(types) ? types[t].name : buf;
}

tn_dtype tn_ox_type_dtype(const tn_ir *ir, int64_t t) {
  const type_row *r = row_of(t);
  return r && r->dtype ? ir->dtype_by_name(r->dtype) : 0;
}

/* ---- sizes
 * -------------------------------------------------------------------------------------------------- */

static tn_status sizes(tn_ox_model *x, const int64_t *dims, size_t n, const type_row *row, tn_ox_data *out,
                       const char **why) {
  if (n > TN_MAX_RANK) {
    *why = tn_ox_words(x, "the tensor has rank %zu; the most is %d", n, TN_MAX_RANK);
    return TN_UNSUPPORTED;
  }
  out->rank = (uint32_t)n;
  out->count = 1;
  bool empty = false;
  for (size_t i = 0; i < n; i++) {
    empty |= dims[i] == 0;
    out->dims[i] = dims[i];
    if (dims[i] < 0) {
      *why = tn_ox_words(x, "dim %zu is negative: %lld", i, (long long)dims[i]);
      return TN_INVALID;
    }
  }
  uint64_t bits;
  for (size_t i = 0; i < n && !empty; i++)
    if (!tn_mul_u64(out->count, (uint64_t)dims[i], &out->count)) out->count = UINT64_MAX;
  if (empty) out->count = 0;
  if (!tn_mul_u64(out->count, row->bits, &bits) || bits > INT64_MAX) {
    *why = tn_ox_words(x, "the sizes multiply to more than 2^63 bits");
    return TN_INVALID;
  }
  out->bytes = (bits + 7) / 8;
  return TN_OK;
}

/* ---- where the elements are
 * --------------------------------------------------------------------------------- */

static tn_status wrong_size(tn_ox_model *x, const char *what, uint64_t have, const char *unit, uint64_t want,
                            const char **why) {
  *why = tn_ox_words(x, "%s has %llu %s, its sizes and type want %llu", what, (unsigned long long)have, unit,
                     (unsigned long long)want);
  return TN_INVALID;
}

static bool number(const char *text, uint64_t *out) {
  char *end;
  errno = 0;
  if (*text < '0' || *text > '9') return false;
  *out = strtoull(text, &end, 10);
  return !*end && !errno;
}

static tn_status external(tn_ox_model *x, const tn_ox_tensor_proto *t, tn_ox_data *out, const char **why) {
  const char *location = NULL;
  uint64_t offset = 0, length = out->bytes;
  for (size_t i = 0; i < t->n_external_data; i++) {
    const char *key = t->external_data[i]->key ? t->external_data[i]->key : "";
    const char *value = t->external_data[i]->value ? t->external_data[i]->value : "";
    bool good = true;
    if (!strcmp(key, "location")) location = value;
    if (!strcmp(key, "offset")) good = number(value, &offset);
    if (!strcmp(key, "length")) good = number(value, &length);
    if (good) continue;
    *why = tn_ox_words(x, "external data: %s is '%.40s', wants a number", key, value);
    return TN_INVALID;
  }
  if (!location) {
    *why = "external data without a location";
    return TN_INVALID;
  }
  tn_bytes file;
  TN_TRY(tn_ox_external_map(x, location, &file, why));
  if (length != out->bytes) return wrong_size(x, "its external data", length, "bytes", out->bytes, why);
  if (offset > file.len || length > file.len - offset) {
    *why = tn_ox_words(x, "external data '%.200s': bytes %llu to %llu of a file of %llu", location,
                       (unsigned long long)offset, (unsigned long long)offset + (unsigned long long)length,
                       (unsigned long long)file.len);
    return TN_INVALID;
  }
  out->ptr = (const uint8_t *)file.ptr + offset;
  out->file = *x->prefix ? tn_ox_words(x, "%s%s", x->prefix, location) : location;
  out->offset = offset;
  return TN_OK;
}

static tn_status held(tn_ox_model *x, const tn_ox_tensor_proto *t, const type_row *row, tn_ox_data *out,
                      const char **why) {
  if (t->held_field != RAW && t->held_field != row->field) {
    *why = tn_ox_words(x, "the elements are in field %u, which is not for %s", t->held_field, row->name);
    return TN_INVALID;
  }
  if (t->held_bytes != out->bytes) return wrong_size(x, "its data", t->held_bytes, "bytes", out->bytes, why);
  out->ptr = x->file.data + t->held_offset;
  out->offset = t->held_offset;
  out->file = *x->prefix ? tn_ox_words(x, "%s%s", x->prefix, x->name) : x->name;
  return TN_OK;
}

/* Entries of the typed field, as bytes of the elements. */
static void narrow(const tn_ox_tensor_proto *t, const type_row *row, uint8_t *to, uint64_t n) {
  uint32_t width = row->bits >= 8 ? row->bits / 8 : 1; /* packed elements come a byte an entry */
  for (uint64_t i = 0; i < n; i++) {
    if (row->field == INT32S)
      memcpy(to + i * width, &t->int32_data[i], width);
    else
      memcpy(to + i * width, &t->uint64_data[i], width);
  }
}

static tn_status typed(tn_ox_model *x, const tn_ox_tensor_proto *t, const type_row *row, tn_ox_data *out,
                       const char **why) {
  uint64_t have = 0, want = row->bits < 8 ? out->bytes : out->count;
  switch (row->field) {
  case FLOATS: have = t->n_float_data, out->ptr = t->float_data; break;
  case DOUBLES: have = t->n_double_data, out->ptr = t->double_data; break;
  case INT64S: have = t->n_int64_data, out->ptr = t->int64_data; break;
  case INT32S: have = t->n_int32_data, out->ptr = row->bits == 32 ? t->int32_data : NULL; break;
  default: have = t->n_uint64_data, out->ptr = row->bits == 64 ? t->uint64_data : NULL; break;
  }
  if (have != want) return wrong_size(x, "its data", have, "entries", want, why);
  if (!want || out->ptr) return TN_OK;
  uint8_t *bytes = tn_arena_alloc(&x->arena, out->bytes + 8);
  out->ptr = bytes;
  if (bytes) narrow(t, row, bytes, want);
  return bytes ? TN_OK : TN_OOM;
}

tn_status tn_ox_tensor_read(tn_ox_model *x, const tn_ox_tensor_proto *t, tn_ox_data *out, const char **why) {
  char buf[24];
  *out = (tn_ox_data){0};
  *why = "out of memory";
  const type_row *row = row_of(t->data_type);
  if (!row) {
    *why = tn_ox_words(x, "%s is none of ONNX", tn_ox_type_name(t->data_type, buf));
    return TN_INVALID;
  }
  if (row->field == STRINGS || !row->dtype) {
    *why = tn_ox_words(x, "tensors of %s are not supported", row->name);
    return TN_UNSUPPORTED;
  }
  if (t->segment) {
    *why = "the tensor is cut into segments";
    return TN_UNSUPPORTED;
  }
  TN_TRY(sizes(x, t->dims, t->n_dims, row, out, why));
  uint32_t sources = t->has_held_offset + (t->has_raw_data && t->raw_data.len) + (t->n_float_data > 0) +
                     (t->n_int32_data > 0) + (t->n_int64_data > 0) + (t->n_double_data > 0) +
                     (t->n_uint64_data > 0) + (t->n_string_data > 0);
  if (sources + (t->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL) > 1) {
    *why = "its elements are given twice";
    return TN_INVALID;
  }
  if (t->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL) return external(x, t, out, why);
  if (t->has_held_offset) return held(x, t, row, out, why);
  if (!t->has_raw_data) return typed(x, t, row, out, why);
  if (t->raw_data.len != out->bytes)
    return wrong_size(x, "raw_data", t->raw_data.len, "bytes", out->bytes, why);
  out->ptr = t->raw_data.data;
  return TN_OK;
}
