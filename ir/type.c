/* type.c - element types and tensor types. Types are interned: equal types have equal ids. */
#include "ir/module.h"

static const tn_dtype_info plain[] = {
#define TN_X(name, bits, cls) [TN_DT_##name] = {#name, bits, TN_CLASS_##cls, 1, (bits) / 8},
    TN_DTYPES(TN_X)
#undef TN_X
};

static const tn_dtype_info blocks[] = {
#define TN_QUANT(name, values, bytes, doc, ...)                                                              \
  {#name, ((bytes) * 8 + (values) - 1) / (values), TN_CLASS_BLOCK, values, bytes},
#include "ir/quant/quant.def"
#undef TN_QUANT
};

const tn_dtype_info *tn_ir_dtype_info(tn_dtype t) {
  if (t && t < TN_DT_PLAIN_END) return &plain[t];
  if (t >= TN_DT_BLOCK && t - TN_DT_BLOCK < TN_COUNT(blocks)) return &blocks[t - TN_DT_BLOCK];
  return NULL;
}

tn_dtype tn_ir_dtype_by_name(const char *name) {
  for (tn_dtype t = 1; name && t < TN_DT_PLAIN_END; t++)
    if (!strcmp(plain[t].name, name)) return t;
  for (uint32_t i = 0; name && i < TN_COUNT(blocks); i++)
    if (!strcmp(blocks[i].name, name)) return TN_DT_BLOCK + i;
  return 0;
}

/* A block format needs a last dim of whole blocks; a constant dim must not be negative. */
static tn_status type_check(tn_module *m, const tn_type_info *t) {
  const tn_dtype_info *e = tn_ir_dtype_info(t->dtype);
  int64_t size;
  if (!e) return tn_module_fail(m, TN_INVALID, 0, "there is no element type %u", t->dtype);
  if (t->rank > TN_MAX_RANK)
    return tn_module_fail(m, TN_INVALID, 0, "a tensor of rank %u; the most is %d", t->rank, TN_MAX_RANK);
  for (uint32_t i = 0; i < t->rank; i++) {
    if (!tn_dim_row_of(m, t->dims[i])->kind)
      return tn_module_fail(m, TN_INVALID, 0, "dim %u of a type is missing", i);
    if (tn_ir_dim_is_const(m, t->dims[i], &size) && size < 0)
      return tn_module_fail(m, TN_INVALID, 0, "dim %u of a type is negative: %lld", i, (long long)size);
  }
  if (e->cls != TN_CLASS_BLOCK) return TN_OK;
  if (!t->rank) return tn_module_fail(m, TN_INVALID, 0, "a scalar cannot have block format %s", e->name);
  if (tn_ir_dim_is_const(m, t->dims[t->rank - 1], &size) && size % e->block_values)
    return tn_module_fail(m, TN_INVALID, 0, "the last dim of a %s tensor is %lld, not a multiple of %u",
                          e->name, (long long)size, e->block_values);
  return TN_OK;
}

#define LAYOUT_MAX 63

tn_type tn_ir_type_make(tn_module *m, tn_dtype dt, uint32_t rank, const tn_dim *dims, const char *layout) {
  tn_type_row row = {{.dtype = dt, .rank = rank, .dims = dims}};
  struct {
    uint32_t dtype, rank;
    tn_dim dims[TN_MAX_RANK];
    char layout[LAYOUT_MAX + 1];
  } key = {.dtype = dt, .rank = rank};
  if (type_check(m, &row.info)) return 0;
  if (layout && *layout) {
    if (strlen(layout) > LAYOUT_MAX) {
      tn_module_fail(m, TN_INVALID, 0, "a layout's name has %zu bytes; the most is %d", strlen(layout),
                     LAYOUT_MAX);
      return 0;
    }
    if (!(row.info.layout = tn_module_text(m, layout, "a layout's name"))) return 0;
    memcpy(key.layout, layout, strlen(layout));
  }
  if (rank) memcpy(key.dims, dims, rank * sizeof *dims);
  tn_type id = tn_interned(m, 't', &key, sizeof key);
  if (id) return id;
  row.info.dims = tn_arena_copy(&m->arena, key.dims, rank * sizeof *dims);
  id = m->types.count;
  bool ok = row.info.dims && tn_vec_push(&m->types, row);
  if (ok && tn_interned_put(m, 't', &key, sizeof key, id)) m->types.count--, ok = false;
  if (!ok) tn_module_oom(m);
  return ok ? id : 0;
}

void tn_ir_type_get(tn_module *m, tn_type t, tn_type_info *out) {
  *out = m->types.items[t < m->types.count ? t : 0].info;
}

tn_dim tn_type_elements(tn_module *m, tn_type t) {
  const tn_type_info *info = &m->types.items[t < m->types.count ? t : 0].info;
  tn_dim n = tn_ir_dim_const(m, 1);
  for (uint32_t i = 0; n && i < info->rank; i++) n = tn_dim_mul(m, n, info->dims[i]);
  return n;
}

tn_dim tn_type_bytes(tn_module *m, tn_type t) {
  tn_type_info info;
  tn_ir_type_get(m, t, &info);
  const tn_dtype_info *e = tn_ir_dtype_info(info.dtype);
  if (!e || info.layout) {
    tn_module_fail(m, TN_INVALID, 0, "the size of a tensor in layout '%s' is known only to its backend",
                   info.layout ? info.layout : "");
    return 0;
  }
  tn_dim n = tn_type_elements(m, t);
  if (!n) return 0;
  if (e->cls == TN_CLASS_BLOCK) /* whole blocks: the division is exact */
    return tn_dim_mul(m, tn_ir_dim_make(m, TN_DIM_FLOORDIV, n, tn_ir_dim_const(m, e->block_values)),
                      tn_ir_dim_const(m, e->block_bytes));
  if (e->bits >= 8) return tn_dim_mul(m, n, tn_ir_dim_const(m, e->bits / 8));
  tn_dim bits = tn_dim_add(m, tn_dim_mul(m, n, tn_ir_dim_const(m, e->bits)), tn_ir_dim_const(m, 7));
  return bits ? tn_ir_dim_make(m, TN_DIM_FLOORDIV, bits, tn_ir_dim_const(m, 8)) : 0;
}

void tn_type_print(tn_module *m, tn_type t, tn_buf *out) {
  tn_type_info info;
  tn_ir_type_get(m, t, &info);
  const tn_dtype_info *e = tn_ir_dtype_info(info.dtype);
  if (!e) {
    tn_buf_puts(out, "none");
    return;
  }
  tn_buf_printf(out, "%s[", e->name);
  for (uint32_t i = 0; i < info.rank; i++) {
    if (i) tn_buf_puts(out, ", ");
    tn_dim_print(m, info.dims[i], out);
  }
  tn_buf_puts(out, "]");
  if (info.layout) tn_text_name(out, "@", info.layout);
}
