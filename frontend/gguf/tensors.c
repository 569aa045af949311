/* tensors.c - the tensor table of one GGUF file. The tensors' bytes follow each other in the order of the
 * table, each padded to the alignment, and must lie in the file. */
#include "frontend/gguf/reader.h"
#include "ir/quant/quant.h"

enum { DIMS_MAX = 4, NAME_MAX_BYTES = 63 };

typedef struct type_row {
  uint32_t id;
  const char *name;
  tn_dtype dtype;    /* of a plain type */
  const char *block; /* row of quant.def */
  const char *why;   /* files must not have it */
} type_row;
static const type_row rows[] = {
#define TN_GGUF_PLAIN(id, name, dtype) {id, #name, TN_DT_##dtype, NULL, NULL},
#define TN_GGUF_BLOCK(id, name, block) {id, #name, 0, #block, NULL},
#define TN_GGUF_REFUSED(id, name, why) {id, #name, 0, NULL, why},
#include "frontend/gguf/types.def"
#undef TN_GGUF_PLAIN
#undef TN_GGUF_BLOCK
#undef TN_GGUF_REFUSED
};
static const uint8_t plain_bytes[TN_DT_PLAIN_END] = {
#define TN_X(name, bits, cls) [TN_DT_##name] = (bits) / 8,
    TN_DTYPES(TN_X)
#undef TN_X
};

typedef struct element { /* what a row's bytes are counted in */
  tn_dtype dtype;
  uint32_t values, bytes;
} element;

static tn_status find_block(tn_gguf_cursor *c, tn_str name, const type_row *row, element *out) {
  for (uint32_t i = 0; i < tn_quant_count(); i++) {
    const tn_quant *q = tn_quant_of(TN_DT_BLOCK + i);
    if (strcmp(q->name, row->block) != 0) continue;
    *out = (element){TN_DT_BLOCK + i, q->values, q->bytes};
    return TN_OK;
  }
  return tn_gguf_fail_name(c, TN_UNSUPPORTED, "tensor", name, "type %s is not supported", row->name);
}

static tn_status find_type(tn_gguf_cursor *c, tn_str name, uint32_t id, element *out) {
  const type_row *row = id < TN_COUNT(rows) ? &rows[id] : NULL; /* the table has no gaps */
  if (!row)
    return tn_gguf_fail_name(c, TN_INVALID, "tensor", name, "type %u is unknown; the highest is %zu", id,
                             TN_COUNT(rows) - 1);
  if (row->why)
    return tn_gguf_fail_name(c, TN_UNSUPPORTED, "tensor", name, "type %s (%u) %s", row->name, id, row->why);
  if (row->block) return find_block(c, name, row, out);
  *out = (element){row->dtype, 1, plain_bytes[row->dtype]};
  return TN_OK;
}

static tn_status take_name(tn_gguf_cursor *c, tn_str *name) {
  uint64_t begin = c->at;
  TN_TRY(tn_gguf_take_string(c, "a tensor's name", name));
  if (name->len > NAME_MAX_BYTES)
    return tn_gguf_fail_byte(c, begin, "a tensor's name has %llu bytes; the most is %d",
                             (unsigned long long)name->len, NAME_MAX_BYTES);
  if (tn_gguf_is_name(*name)) return TN_OK;
  return tn_gguf_fail_byte(c, begin, "a tensor's name is %s", name->len ? "not plain UTF-8 text" : "empty");
}

/* The file has the innermost dim first. */
static tn_status take_dims(tn_gguf_cursor *c, tn_str name, tn_gguf_tensor *t, uint64_t *values) {
  TN_TRY(tn_gguf_take_u32(c, "a tensor's number of dims", &t->rank));
  if (t->rank > DIMS_MAX)
    return tn_gguf_fail_name(c, TN_INVALID, "tensor", name, "has %u dims; the most is %d", t->rank, DIMS_MAX);
  *values = 1;
  for (uint32_t i = 0; i < t->rank; i++) {
    uint64_t d;
    TN_TRY(tn_gguf_take_u64(c, "a tensor's dim", &d));
    if (d > INT64_MAX)
      return tn_gguf_fail_name(c, TN_INVALID, "tensor", name, "dim %u is negative: %lld", i, (long long)d);
    if (!tn_mul_u64(*values, d, values) || *values > INT64_MAX)
      return tn_gguf_fail_name(c, TN_INVALID, "tensor", name, "has more values than 63 bits can count");
    t->shape[t->rank - 1 - i] = (int64_t)d;
  }
  return TN_OK;
}

static tn_status count_bytes(tn_gguf_cursor *c, tn_str name, tn_gguf_tensor *t, uint32_t type,
                             uint64_t values) {
  element e;
  TN_TRY(find_type(c, name, type, &e));
  uint64_t row = t->rank ? (uint64_t)t->shape[t->rank - 1] : 1;
  if (row % e.values)
    return tn_gguf_fail_name(c, TN_INVALID, "tensor", name,
                             "its rows of %llu values are not whole blocks of %u (%s)",
                             (unsigned long long)row, e.values, rows[type].name);
  if (!tn_mul_u64(values / e.values, e.bytes, &t->bytes))
    return tn_gguf_fail_name(c, TN_INVALID, "tensor", name, "has more bytes than 64 bits can count");
  t->dtype = e.dtype;
  return TN_OK;
}

/* `end`: padded end of the tensors before, from the data's start; moves behind this one. */
static tn_status take_place(tn_gguf_cursor *c, tn_str name, tn_gguf_tensor *t, uint64_t *end) {
  TN_TRY(tn_gguf_take_u64(c, "a tensor's offset", &t->offset));
  if (t->offset != *end)
    return tn_gguf_fail_name(c, TN_INVALID, "tensor", name,
                             "is at offset %llu, but the tensors before it end at %llu",
                             (unsigned long long)t->offset, (unsigned long long)*end);
  if (!tn_add_u64(*end, t->bytes, end) || !tn_add_u64(*end, c->alignment - 1, end))
    return tn_gguf_fail_name(c, TN_INVALID, "tensor", name, "ends behind what 64 bits can count");
  *end -= *end % c->alignment;
  return TN_OK;
}

/* A second tensor of a name, in this file or an earlier part of a split. */
static tn_status check_unique(tn_gguf_cursor *c, const tn_gguf_tensor *t) {
  uint64_t i = c->g->tensors.count, first = i;
  bool again;
  tn_str name = tn_str_of(t->name);
  tn_map_get(&c->g->tensor_of, name, &first);
  if (tn_map_put(&c->g->tensor_of, name, i, &again) != TN_OK) return tn_gguf_oom(c);
  if (!again) return TN_OK;
  const char *other = c->g->tensors.items[first].file;
  if (other == c->file) return tn_gguf_fail_name(c, TN_INVALID, "tensor", name, "is there twice");
  return tn_gguf_fail_name(c, TN_INVALID, "tensor", name, "is also in '%s'", other);
}

static tn_status take_tensor(tn_gguf_cursor *c, uint64_t *end) {
  tn_gguf_tensor t = {.file = c->file};
  tn_str name;
  uint64_t values;
  uint32_t type;
  TN_TRY(take_name(c, &name));
  TN_TRY(take_dims(c, name, &t, &values));
  TN_TRY(tn_gguf_take_u32(c, "a tensor's type", &type));
  TN_TRY(count_bytes(c, name, &t, type, values));
  TN_TRY(take_place(c, name, &t, end));
  t.name = tn_arena_str(&c->g->arena, name);
  if (!t.name) return tn_gguf_oom(c);
  TN_TRY(check_unique(c, &t));
  return tn_vec_push(&c->g->tensors, t) ? TN_OK : tn_gguf_oom(c);
}

/* Offsets are from the data's start, which the whole table decides. */
static tn_status place_tensors(tn_gguf_cursor *c, uint32_t first) {
  uint64_t start, end;
  if (!tn_add_u64(c->at, c->alignment - 1, &start)) return tn_gguf_fail_byte(c, c->at, "is too large");
  start -= start % c->alignment;
  for (uint32_t i = first; i < c->g->tensors.count; i++) {
    tn_gguf_tensor *t = &c->g->tensors.items[i];
    bool fits = tn_add_u64(t->offset, start, &t->offset) && tn_add_u64(t->offset, t->bytes, &end);
    if (!fits || end > c->size)
      return tn_gguf_fail_name(c, TN_INVALID, "tensor", tn_str_of(t->name),
                               "the file is cut off: %llu bytes from byte %llu, but it has %llu",
                               (unsigned long long)t->bytes, (unsigned long long)t->offset,
                               (unsigned long long)c->size);
  }
  return TN_OK;
}

tn_status tn_gguf_read_tensors(tn_gguf_cursor *c) {
  uint64_t end = 0;
  uint32_t first = c->g->tensors.count;
  for (uint64_t i = 0; i < c->ntensors; i++) TN_TRY(take_tensor(c, &end));
  return place_tensors(c, first);
}
