/* packed.c - packed matrices of the model as weights of block types: which type fits, and the form's words.
 */
#include "frontend/onnx/packed.h"
#include "frontend/onnx/import.h"

struct tn_ox_noted {
  tn_value v;
  tn_ox_rebuilt r;
};

/* ---- where values lie ---- */

static bool part_of(tn_ox *x, tn_value v, tn_part *out) {
  tn_value_info info;
  tn_weight_info w;
  x->ir->value_get(x->m, v, &info);
  if (info.kind == TN_VALUE_WEIGHT) {
    x->ir->weight_get(x->m, info.weight, &w);
    if (w.nparts == 1 && !w.form) *out = w.parts[0];
    return w.nparts == 1 && !w.form;
  }
  for (uint32_t i = 0; i < x->held.count; i++)
    if (x->held.items[i].v == v) {
      *out = x->held.items[i].part;
      return true;
    }
  return false;
}

/* The bytes of a constant; false: v is none. */
static bool bytes_of(tn_ox *x, tn_value v, tn_bytes *out) {
  tn_value_info info;
  tn_attr data;
  x->ir->value_get(x->m, v, &info);
  if (info.kind != TN_VALUE_RESULT || strcmp(x->ir->opcode_name(x->ir->opcode(x->m, info.op)), "constant"))
    return false;
  if (!x->ir->op_attr(x->m, info.op, "value", &data)) return false;
  *out = data.u.data;
  return true;
}

/* A weight over parts, the same one for the same parts, type and form. */
static tn_value weight_of(tn_ox *x, tn_dtype t, const int64_t *dims, uint32_t rank, const tn_part *parts,
                          uint32_t n, const char *form) {
  tn_dim d[TN_MAX_RANK];
  tn_weight_info info;
  uint64_t id;
  for (uint32_t i = 0; i < rank; i++) d[i] = tn_ox_d(x, dims[i]);
  tn_type type = x->ir->type_make(x->m, t, rank, d, NULL);
  char *key =
      tn_arena_printf(&x->arena, "%s@%llx:%llx %u %s", parts[0].file, (unsigned long long)parts[0].offset,
                      (unsigned long long)parts[0].bytes, type, form ? form : "");
  if (!type || !key) return 0;
  if (!tn_map_get(&x->weights, tn_str_of(key), &id)) {
    char *name = tn_arena_printf(&x->arena, "packed.%u", x->fresh++);
    id = name ? x->ir->weight_add(x->m, name, type, parts, n) : 0;
    if (!id || (form && x->ir->weight_set_form(x->m, (tn_weight)id, form) != TN_OK) ||
        tn_map_put(&x->weights, tn_str_of(key), id, NULL) != TN_OK) {
      x->failed = x->invalid = true;
      return 0;
    }
  }
  x->ir->weight_get(x->m, (tn_weight)id, &info);
  return info.value;
}

tn_value tn_ox_same_bytes(tn_ox *x, tn_ox_node *n, tn_value v, tn_dtype t, const int64_t *dims,
                          uint32_t rank) {
  tn_part part;
  tn_bytes data;
  uint64_t want = 1, bits = x->ir->dtype_info(t)->bits;
  if (!v || x->failed) return 0;
  for (uint32_t i = 0; i < rank; i++)
    if (dims[i] < 0 || !tn_mul_u64(want, (uint64_t)dims[i], &want)) want = UINT64_MAX / 64;
  want = (want * bits + 7) / 8;
  bool constant = bytes_of(x, v, &data);
  if (!constant && !part_of(x, v, &part)) {
    tn_ox_refuse(x, n, "make it an initializer", "packed codes have to be a constant");
    return 0;
  }
  uint64_t have = constant ? data.len : part.bytes;
  if (have != want) {
    tn_ox_fail(x, n, "packed codes have %llu bytes, needed are %llu", (unsigned long long)have,
               (unsigned long long)want);
    return 0;
  }
  if (constant) return tn_ox_constant(x, t, dims, rank, data.ptr, data.len);
  return weight_of(x, t, dims, rank, &part, 1, NULL);
}

/* ---- which type ---- */

/* u4_128_bf16: codes with zeros, or in the middle; bits; columns of a block; type of the scales. */
static tn_dtype block_type(tn_ox *x, const tn_ox_packing *p, bool zeros, int64_t columns) {
  char name[32];
  const char *suffix = "";
  tn_dtype t = tn_ox_dtype(x, p->scales);
  if (t != TN_DT_f16) suffix = t == TN_DT_bf16 ? "_bf16" : t == TN_DT_f32 ? "_f32" : NULL;
  if (!suffix) return 0;
  for (int64_t block = 128; block >= 32; block /= 2) {
    snprintf(name, sizeof name, "%c%u_%d%s", zeros ? 'u' : 's', p->bits, (int)block, suffix);
    tn_dtype found = x->ir->dtype_by_name(name);
    const tn_dtype_info *info = found ? x->ir->dtype_info(found) : NULL;
    if (info && p->group % block == 0 && columns % info->block_values == 0) return found;
  }
  return 0;
}

static uint64_t bytes(int64_t values, uint32_t bits) { return (uint64_t)values * bits / 8; }

/* The zero points: nothing to store, one number, or a part. */
static bool zeros_fit(tn_ox *x, const tn_ox_packing *p, tn_part *part, bool *stored) {
  int64_t groups = p->columns / p->group, line = p->turned ? p->rows : groups;
  *stored = false;
  if (!p->zeros) return true;
  if (!part_of(x, p->zeros, part)) return false;
  *stored = true;
  if (p->zero_rows_padded)
    return part->bytes == (uint64_t)p->rows * ((uint64_t)groups * p->bits + 7) / 8 ||
           part->bytes == (uint64_t)p->rows * (((uint64_t)groups * p->bits + 7) / 8);
  return line * p->bits % 8 == 0 && part->bytes == bytes(p->rows * groups, p->bits);
}

static tn_value pack_levels(tn_ox *x, const tn_ox_packing *p) {
  tn_part parts[2];
  tn_dtype t = x->ir->dtype_by_name(p->levels == TN_OX_NF4 ? "nf4_64" : "fp4_64");
  bool fits = p->group == 64 && p->columns % 64 == 0 && tn_ox_dtype(x, p->scales) == TN_DT_f32;
  if (!fits || !t || !part_of(x, p->codes, &parts[0]) || !part_of(x, p->scales, &parts[1])) return 0;
  if (parts[0].bytes != bytes(p->rows * p->columns, 4) ||
      parts[1].bytes != (uint64_t)(p->rows * p->columns / 64 * 4))
    return 0;
  return weight_of(x, t, (int64_t[]){p->rows, p->columns}, 2, parts, 2, "bnb4");
}

static tn_value pack_linear(tn_ox *x, const tn_ox_packing *p) {
  tn_part parts[3];
  bool stored;
  char form[96];
  int64_t mid = (int64_t)1 << (p->bits - 1), groups = p->columns / p->group;
  uint64_t width = x->ir->dtype_info(tn_ox_dtype(x, p->scales))->bits / 8;
  if (p->columns % p->group || p->group % 32 || p->columns * p->bits % 8 || p->rows * p->bits % 8) return 0;
  if (!part_of(x, p->codes, &parts[0]) || !part_of(x, p->scales, &parts[1]) ||
      !zeros_fit(x, p, &parts[2], &stored))
    return 0;
  int64_t zero = p->has_zero ? p->zero + (p->is_signed ? mid : 0) : mid; /* as codes without a sign */
  tn_dtype t = block_type(x, p, stored || zero != mid || p->bits == 2, p->columns);
  bool all = parts[1].bytes == width, sized = parts[1].bytes == (uint64_t)(p->rows * groups) * width;
  if (!t || parts[0].bytes != bytes(p->rows * p->columns, p->bits) || (!all && !sized) || zero < 0 ||
      zero >= 2 * mid)
    return 0;
  snprintf(form, sizeof form, "blocks group=%lld%s%s%s%s zero=%lld", (long long)p->group,
           p->turned ? " turned" : "", p->is_signed ? " signed" : "", stored ? " zeros" : "",
           p->zero_rows_padded ? " padded" : "", (long long)zero);
  int64_t dims[] = {p->items > 1 ? p->items : p->rows, p->items > 1 ? p->rows / p->items : p->columns,
                    p->columns};
  return weight_of(x, t, dims, p->items > 1 ? 3 : 2, parts, stored ? 3 : 2, form);
}

tn_value tn_ox_pack(tn_ox *x, const tn_ox_packing *p) {
  if (x->failed || x->broken || !p->codes || !p->scales || p->group < 1 || p->rows < 1 || p->columns < 1)
    return 0;
  return p->levels == TN_OX_LINEAR ? pack_linear(x, p) : pack_levels(x, p);
}

tn_value tn_ox_pack_codes(tn_ox *x, const tn_ox_packing *p, int64_t from, int64_t to) {
  tn_part part;
  char form[96], name[16];
  int64_t mid = (int64_t)1 << (p->bits - 1), zero = p->is_signed ? p->zero + mid : p->zero;
  if (x->failed || x->broken || !p->codes || zero < 0 || zero >= 2 * mid) return 0;
  snprintf(name, sizeof name, "%c%u_row", zero == mid && p->bits > 2 ? 's' : 'u', p->bits);
  tn_dtype t = x->ir->dtype_by_name(name);
  if (!t || (to - from) % x->ir->dtype_info(t)->block_values || !part_of(x, p->codes, &part)) return 0;
  uint64_t line = bytes(p->turned ? p->rows : p->columns, p->bits);
  if (part.bytes != bytes(p->rows * p->columns, p->bits) || line * 8 % p->bits) return 0;
  if (!p->turned && to - from != p->columns) return 0;
  if ((p->turned ? p->rows : p->columns) * p->bits % 8) return 0;
  if (p->turned) {
    part.offset += (uint64_t)from * line;
    part.bytes = (uint64_t)(to - from) * line;
  }
  snprintf(form, sizeof form, "blocks%s%s zero=%lld", p->turned ? " turned" : "",
           p->is_signed ? " signed" : "", (long long)zero);
  return weight_of(x, t, (int64_t[]){p->rows, to - from}, 2, &part, 1, form);
}

bool tn_ox_one_zero(tn_ox *x, tn_value zeros, tn_ox_packing *p) {
  tn_bytes data;
  tn_type_info t;
  tn_value_info info;
  uint64_t count = 1;
  int64_t d, mid = (int64_t)1 << (p->bits - 1);
  p->has_zero = true;
  p->zero = 0;
  if (!zeros) return true;
  if (!bytes_of(x, zeros, &data)) return false;
  x->ir->value_get(x->m, zeros, &info);
  x->ir->type_get(x->m, info.type, &t);
  for (uint32_t i = 0; i < t.rank; i++) count *= x->ir->dim_is_const(x->m, t.dims[i], &d) ? (uint64_t)d : 0;
  const uint8_t *b = data.ptr;
  if (x->ir->dtype_info(t.dtype)->bits != p->bits || !count) return false;
  for (uint64_t i = 0; i < count; i++) {
    int64_t z = b[i * p->bits / 8] >> i * p->bits % 8 & (2 * mid - 1);
    if (p->is_signed && z >= mid) z -= 2 * mid;
    if (i && z != p->zero) return false;
    p->zero = z;
  }
  return true;
}

/* ---- notes ---- */

void tn_ox_note_rebuilt(tn_ox *x, tn_value v, const tn_ox_rebuilt *r) {
  struct tn_ox_noted *note = tn_arena_alloc(&x->arena, sizeof *note);
  if (!v || x->failed) return;
  if (note) *note = (struct tn_ox_noted){v, *r};
  if (!note || !tn_vec_push(&x->noted, note)) x->broken = TN_OOM;
}

const tn_ox_rebuilt *tn_ox_noted_rebuilt(tn_ox *x, tn_value v) {
  for (uint32_t i = x->noted.count; i-- > 0;)
    if (x->noted.items[i]->v == v) return &x->noted.items[i]->r;
  return NULL;
}
