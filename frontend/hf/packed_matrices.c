/* packed_matrices.c - from the tensors of one packed matrix to its entry: block type, parts, form. A method
 * is known by the ending of one of its tensors' names; sizes and groups come from the shapes. */
#include "frontend/hf/packed.h"
#include "ir/quant/quant.h"

typedef const tn_st_tensor *tensor;

static bool is_float(tensor t) {
  return t->dtype == TN_DT_f16 || t->dtype == TN_DT_bf16 || t->dtype == TN_DT_f32;
}

static int64_t count_of(tensor t) {
  int64_t n = 1;
  for (uint32_t i = 0; i < t->rank; i++) n *= t->shape[i];
  return n;
}

static tn_status need(tn_hf *h, tensor t, const char *name, const char *suffix, tensor *out) {
  *out = tn_packed_tensor(h, name, suffix);
  return *out ? TN_OK : tn_packed_fail(h, t, "there is no '%s%s' beside it", name, suffix);
}

/* t must be [rows, columns] of a type. */
static tn_status expect(tn_hf *h, tensor t, bool type, int64_t rows, int64_t columns) {
  if (!type) return tn_packed_fail(h, t, "has a type that is not expected here");
  if (t->rank == 2 && t->shape[0] == rows && t->shape[1] == columns) return TN_OK;
  return tn_packed_fail(h, t, "does not fit its matrix: needed is [%lld, %lld]", (long long)rows,
                        (long long)columns);
}

/* What belongs to a matrix without being a part of it counts as used with it. */
static void also_used(tn_hf *h, packed_entry *e, const char *name) {
  static const char *const endings[] = {
      ".weight_shape", ".input_scale",  ".input_global_scale", ".input_zero_point", ".output_scale",
      ".g_idx",        ".weight_g_idx", ".weight_format",      ".weight.quant_map", ".weight_global_scale"};
  for (size_t i = 0; i < TN_COUNT(endings) && e->nused < PACKED_USED; i++) {
    tensor t = tn_packed_tensor(h, name, endings[i]);
    if (t) e->used[e->nused++] = (uint32_t)(t - h->files.tensors.items);
  }
}

/* ---- entries ---- */

/* The entry of module `name`'s weight; `scale` (may be NULL) multiplies the product as `scale_form` says. */
static tn_status add_matrix(tn_hf *h, const char *name, const char *type, int64_t n, int64_t k,
                            const tensor *parts, const char *form, tensor scale, const char *scale_form) {
  const char *weight = tn_arena_printf(&h->arena, "%s.weight", name);
  const char *beside = tn_arena_printf(&h->arena, "%s.weight@scale", name);
  packed_entry *e;
  uint32_t index = h->packed->entries.count + 1;
  tn_dtype t = tn_packed_type(type);
  if (!t)
    return tn_hf_fail_key(h, TN_UNSUPPORTED, h->packed->file, "quantization_config",
                          "matrices such as '%s' need '%s', which is not supported", weight, type);
  TN_TRY(tn_packed_add(h, weight, t, 2, (int64_t[]){n, k}, parts, form, &e));
  also_used(h, e, name);
  if (!scale) return TN_OK;
  int64_t count = count_of(scale);
  if (!is_float(scale) || (count != 1 && count != n) || (scale_form && scale->dtype != TN_DT_f32))
    return tn_packed_fail(h, scale, "is not one float for each of %lld rows, or one for all", (long long)n);
  TN_TRY(tn_packed_add(h, beside, scale_form ? TN_DT_f32 : scale->dtype, 1, &count, (tensor[]){scale, NULL},
                       scale_form, &e));
  e->of = index;
  return TN_OK;
}

/* "u4_128_bf16": kind u or s, bits, group; groups of whole rows: "u4_row". */
static const char *int_type(tn_hf *h, char kind, int64_t bits, int64_t group, tensor scale) {
  if (!group) return tn_arena_printf(&h->arena, "%c%lld_row", kind, (long long)bits);
  return tn_arena_printf(&h->arena, "%c%lld_%lld%s", kind, (long long)bits, (long long)group,
                         scale->dtype == TN_DT_bf16  ? "_bf16"
                         : scale->dtype == TN_DT_f32 ? "_f32"
                                                     : "");
}

/* ---- columns in groups out of order (act-order) ---- */

/* *order: columns do not lie in the order of their groups, which t says. */
static tn_status read_order(tn_hf *h, tensor t, int64_t k, int64_t group, bool *order) {
  const uint8_t *data;
  *order = false;
  if (!t || !group) return TN_OK;
  if (t->dtype != TN_DT_i32 || count_of(t) != k)
    return tn_packed_fail(h, t, "is not one i32 for each of %lld columns", (long long)k);
  TN_TRY(tn_packed_data(h, t, &data));
  for (int64_t i = 0; i < k && !*order; i++) {
    int32_t g;
    memcpy(&g, data + i * 4, 4);
    *order = g != i / group;
  }
  return TN_OK;
}

static tn_status add_order(tn_hf *h, const char *name, tensor t, int64_t k, int64_t group, uint32_t of) {
  packed_entry *e;
  TN_TRY(tn_packed_add(h, tn_arena_printf(&h->arena, "%s.weight@order", name), TN_DT_i32, 1, &k,
                       (tensor[]){t, NULL}, tn_arena_printf(&h->arena, "order group=%lld", (long long)group),
                       &e));
  e->of = of;
  return TN_OK;
}

/* ---- gptq and awq ---- */

/* Groups of a row of k: 0 for whole rows. */
static tn_status group_of(tn_hf *h, tensor t, int64_t k, int64_t *group) {
  *group = h->packed->group == -1 ? 0 : h->packed->group;
  if (!*group || k % *group == 0) return TN_OK;
  return tn_packed_fail(h, t, "its matrix has rows of %lld, which are not whole groups of %lld", (long long)k,
                        (long long)*group);
}

static tn_status make_gptq(tn_hf *h, tensor t, const char *name) {
  struct tn_hf_packed *p = h->packed;
  tensor zeros, scales, groups = tn_packed_tensor(h, name, ".g_idx");
  int64_t group, b = p->bits;
  bool order;
  if (t->dtype != TN_DT_i32 || t->rank != 2) return tn_packed_fail(h, t, "is not a matrix of i32");
  int64_t k = t->shape[0] / b * 32 + t->shape[0] % b * 32 / b, n = t->shape[1];
  TN_TRY(group_of(h, t, k, &group));
  TN_TRY(need(h, t, name, ".qzeros", &zeros));
  TN_TRY(need(h, t, name, ".scales", &scales));
  TN_TRY(expect(h, t, n % 32 == 0, k * b / 32, n));
  TN_TRY(expect(h, zeros, zeros->dtype == TN_DT_i32, group ? k / group : 1, n * b / 32));
  TN_TRY(expect(h, scales, is_float(scales), group ? k / group : 1, n));
  TN_TRY(read_order(h, groups, k, group, &order));
  const char *form = tn_arena_printf(&h->arena, "gptq%s%s", p->v1 ? " v1" : "", order ? " act" : "");
  tensor parts[PACKED_PARTS + 1] = {t, zeros};
  uint32_t of = p->entries.count + 1, np = 2;
  if (group) parts[np++] = scales;
  if (order) parts[np++] = groups;
  TN_TRY(add_matrix(h, name, int_type(h, 'u', b, group, scales), n, k, parts, form, group ? NULL : scales,
                    NULL));
  return order ? add_order(h, name, groups, k, group, of) : TN_OK;
}

static tn_status make_awq(tn_hf *h, tensor t, const char *name) {
  tensor zeros, scales;
  int64_t group;
  if (t->dtype != TN_DT_i32 || t->rank != 2) return tn_packed_fail(h, t, "is not a matrix of i32");
  int64_t k = t->shape[0], n = t->shape[1] * 8;
  TN_TRY(group_of(h, t, k, &group));
  TN_TRY(need(h, t, name, ".qzeros", &zeros));
  TN_TRY(need(h, t, name, ".scales", &scales));
  TN_TRY(expect(h, zeros, zeros->dtype == TN_DT_i32, group ? k / group : 1, n / 8));
  TN_TRY(expect(h, scales, is_float(scales), group ? k / group : 1, n));
  tensor parts[] = {t, zeros, group ? scales : NULL, NULL};
  return add_matrix(h, name, int_type(h, 'u', 4, group, scales), n, k, parts, "awq", group ? NULL : scales,
                    NULL);
}

static tn_status make_qweight(tn_hf *h, tensor t, const char *name) {
  if (!strcmp(h->packed->method, "gptq")) return make_gptq(h, t, name);
  if (!strcmp(h->packed->method, "awq")) return make_awq(h, t, name);
  return tn_packed_fail(h, t, "is not what method '%s' writes", h->packed->method);
}

/* ---- compressed-tensors: integers ---- */

/* Groups of rows that have `scale`: 0 for one scale, or one for each row; but rows as short as a group are
 * one, so that scales lie in their blocks, as stacked experts need it. */
static tn_status scale_group(tn_hf *h, tensor scale, int64_t n, int64_t k, int64_t *group) {
  int64_t count = count_of(scale);
  bool one = scale->rank == 2 && scale->shape[0] == n && scale->shape[1] == 1;
  *group = is_float(scale) && one && (k == 32 || k == 64 || k == 128) ? k : 0;
  if (is_float(scale) && (count == 1 || (count == n && scale->shape[0] == n))) return TN_OK;
  if (!is_float(scale) || scale->rank != 2 || scale->shape[0] != n || !scale->shape[1] || k % scale->shape[1])
    return tn_packed_fail(h, scale, "is no scale for a matrix of [%lld, %lld]", (long long)n, (long long)k);
  *group = k / scale->shape[1];
  return TN_OK;
}

/* Codes of `bits` bits in t; form is the method for them, same: blocks without scales and zeros are the
 * codes. */
static tn_status make_ints(tn_hf *h, tensor t, const char *name, int64_t bits, int64_t n, int64_t k,
                           const char *form, bool same) {
  tensor scale, zeros = tn_packed_tensor(h, name, ".weight_zero_point");
  tensor groups = tn_packed_tensor(h, name, ".weight_g_idx"), parts[PACKED_PARTS + 1] = {t};
  int64_t group;
  bool order;
  uint32_t of = h->packed->entries.count + 1, np = 1;
  TN_TRY(need(h, t, name, ".weight_scale", &scale));
  TN_TRY(scale_group(h, scale, n, k, &group));
  TN_TRY(read_order(h, groups, k, group, &order));
  if (zeros) parts[np++] = zeros;
  if (group) parts[np++] = scale;
  if (order) parts[np++] = groups;
  int64_t lines = t->dtype == TN_DT_i32 ? (n * bits + 31) / 32 : n; /* zeros of packed codes are packed too */
  if (zeros) TN_TRY(expect(h, zeros, zeros->dtype == t->dtype, lines, group ? k / group : 1));
  if (zeros && !group && count_of(scale) != n)
    return tn_packed_fail(h, zeros, "one zero for a whole matrix is not supported");
  const char *text = order ? tn_arena_printf(&h->arena, "%s act", form) : form;
  TN_TRY(add_matrix(h, name, int_type(h, zeros ? 'u' : 's', bits, group, scale), n, k, parts,
                    same && !zeros && !group ? NULL : text, group ? NULL : scale, NULL));
  return order ? add_order(h, name, groups, k, group, of) : TN_OK;
}

/* [rows, columns] of "weight_shape". */
static tn_status read_shape(tn_hf *h, const char *name, tensor t, int64_t out[2]) {
  const uint8_t *data;
  tensor shape;
  TN_TRY(need(h, t, name, ".weight_shape", &shape));
  if (count_of(shape) != 2 || (shape->dtype != TN_DT_i64 && shape->dtype != TN_DT_i32))
    return tn_packed_fail(h, shape, "is not two integers");
  TN_TRY(tn_packed_data(h, shape, &data));
  for (uint32_t i = 0; i < 2; i++) {
    int32_t narrow;
    if (shape->dtype == TN_DT_i64) {
      memcpy(&out[i], data + i * 8, 8);
    } else {
      memcpy(&narrow, data + i * 4, 4);
      out[i] = narrow;
    }
  }
  if (out[0] > 0 && out[1] > 0 && out[0] < 1 << 30 && out[1] < 1 << 30) return TN_OK;
  return tn_packed_fail(h, shape, "says [%lld, %lld]", (long long)out[0], (long long)out[1]);
}

/* Two e2m1 numbers to a byte, with scales of 16 (e4m3) or 32 (e8m0). */
static tn_status make_fp4(tn_hf *h, tensor t, const char *name) {
  tensor scale, whole = tn_packed_tensor(h, name, ".weight_global_scale");
  int64_t n = t->shape[0], k = t->shape[1] * 2;
  TN_TRY(need(h, t, name, ".weight_scale", &scale));
  bool nv = scale->dtype == TN_DT_f8e4m3;
  TN_TRY(expect(h, scale, nv || scale->dtype == TN_DT_u8, n, k / (nv ? 16 : 32)));
  if (nv && !whole) return tn_packed_fail(h, t, "there is no '%s.weight_global_scale' beside it", name);
  return add_matrix(h, name, nv ? "nvfp4" : "mxfp4", n, k, (tensor[]){t, scale, NULL}, nv ? "nvfp4" : "mxfp4",
                    nv ? whole : NULL, nv ? "reciprocal" : NULL);
}

static tn_status make_weight_packed(tn_hf *h, tensor t, const char *name) {
  int64_t shape[2];
  if (t->rank == 2 && t->dtype == TN_DT_u8) return make_fp4(h, t, name);
  if (t->rank != 2 || t->dtype != TN_DT_i32)
    return tn_packed_fail(h, t, "is neither a matrix of i32 nor one of u8");
  TN_TRY(read_shape(h, name, t, shape));
  int64_t words = t->shape[1], bits = words * 32 / shape[1];
  if (t->shape[0] != shape[0] || bits < 1 || bits > 8 || bits * shape[1] != words * 32)
    return tn_packed_fail(h, t, "does not hold [%lld, %lld]", (long long)shape[0], (long long)shape[1]);
  return make_ints(h, t, name, bits, shape[0], shape[1], "packed", bits != 8);
}

/* ---- one byte to a value: "NAME.weight" with a scale ---- */

static tn_status make_f8(tn_hf *h, tensor t, tensor scale, const char *name) {
  int64_t n = t->shape[0], k = t->shape[1], count = count_of(scale);
  bool tiles = !strcmp(h->packed->method, "fp8") && scale->rank == 2 && scale->shape[0] == (n + 127) / 128 &&
               scale->shape[1] == (k + 127) / 128;
  if (is_float(scale) && !tiles && (count == 1 || count == n))
    return add_matrix(h, name, "f8_row", n, k, (tensor[]){t, NULL}, NULL, scale, NULL);
  TN_TRY(expect(h, scale, scale->dtype == TN_DT_f32 || scale->dtype == TN_DT_bf16, (n + 127) / 128,
                (k + 127) / 128));
  return add_matrix(h, name, scale->dtype == TN_DT_f32 ? "f8_128" : "f8_128_bf16", n, k,
                    (tensor[]){t, scale, NULL}, "fp8", NULL, NULL);
}

static tn_status make_weight_scale(tn_hf *h, tensor scale, const char *name) {
  tensor t = tn_packed_tensor(h, name, ".weight");
  if (!t) return TN_OK; /* of "NAME.weight_packed" */
  if (t->rank == 2 && t->dtype == TN_DT_f8e4m3) return make_f8(h, t, scale, name);
  if (t->rank == 2 && t->dtype == TN_DT_i8)
    return make_ints(h, t, name, 8, t->shape[0], t->shape[1], "int8", true);
  return tn_packed_fail(h, t, "has a scale, but is neither a matrix of f8e4m3 nor one of i8");
}

/* ---- bitsandbytes ---- */

static tn_status make_bnb8(tn_hf *h, tensor scale, const char *name) {
  tensor t;
  TN_TRY(need(h, scale, name, ".weight", &t));
  if (t->rank != 2 || t->dtype != TN_DT_i8) return tn_packed_fail(h, t, "is not a matrix of i8");
  return add_matrix(h, name, "s8_row", t->shape[0], t->shape[1], (tensor[]){t, NULL}, NULL, scale, "over127");
}

static tn_status read_state(tn_hf *h, tensor state, tn_json **out) {
  const uint8_t *data;
  if (state->dtype != TN_DT_u8) return tn_packed_fail(h, state, "is not text");
  TN_TRY(tn_packed_data(h, state, &data));
  char *text = tn_arena_str(&h->arena, (tn_str){(const char *)data, state->bytes});
  if (!text) return tn_fail(&h->diags, TN_OOM, h->folder, NULL, "out of memory");
  TN_TRY(tn_json_parse(&h->arena, (tn_str){text, state->bytes}, state->name, &h->diags, out));
  return (*out)->kind == TN_JSON_OBJECT ? TN_OK : tn_packed_fail(h, state, "is not an object");
}

static tn_status state_shape(tn_hf *h, tensor state, const tn_json *j, int64_t shape[2]) {
  const tn_json *s = tn_json_get(j, "shape"), *block = tn_json_get(j, "blocksize");
  if (!s || s->kind != TN_JSON_LIST || s->count != 2)
    return tn_packed_fail(h, state, "gives no shape of two sizes");
  for (uint32_t i = 0; i < 2; i++) {
    if (s->u.items[i].kind != TN_JSON_INT || s->u.items[i].u.i < 1 || s->u.items[i].u.i > 1 << 30)
      return tn_packed_fail(h, state, "gives a shape that is not one of sizes");
    shape[i] = s->u.items[i].u.i;
  }
  if (block && block->kind == TN_JSON_INT && block->u.i == 64) return TN_OK;
  return tn_packed_fail(h, state, "has a blocksize other than 64, which is not supported");
}

/* nested: a byte for each scale, which stands for an entry of a table times a float of 256 of them, plus an
 * offset. */
static tn_status nested_form(tn_hf *h, tensor state, const tn_json *j, const char **form) {
  const tn_json *offset = tn_json_get(j, "nested_offset"), *block = tn_json_get(j, "nested_blocksize");
  bool number = offset && (offset->kind == TN_JSON_REAL || offset->kind == TN_JSON_INT);
  if (!number || !block || block->kind != TN_JSON_INT || block->u.i != 256)
    return tn_packed_fail(h, state, "has no nested_offset, or a nested_blocksize other than 256");
  *form = tn_arena_printf(&h->arena, "bnb4 nested offset=%a",
                          offset->kind == TN_JSON_REAL ? offset->u.r : (double)offset->u.i);
  return TN_OK;
}

/* The levels of the codes are those of the type. */
static tn_status check_levels(tn_hf *h, const char *name, const char *type) {
  const float *table = tn_quant_of(tn_packed_type(type))->table;
  const uint8_t *data;
  tensor map = tn_packed_tensor(h, name, ".weight.quant_map");
  if (!map) return TN_OK;
  if (map->dtype != TN_DT_f32 || map->bytes != 16 * sizeof *table)
    return tn_packed_fail(h, map, "is not 16 levels");
  TN_TRY(tn_packed_data(h, map, &data));
  for (uint32_t i = 0; i < 16; i++) {
    float x;
    memcpy(&x, data + i * sizeof x, sizeof x);
    if (x != table[i])
      return tn_packed_fail(h, map, "has %g for code %u, '%s' has %g", (double)x, i, type, (double)table[i]);
  }
  return TN_OK;
}

static tn_status make_bnb4(tn_hf *h, tensor state, const char *name, const char *type) {
  tensor parts[PACKED_PARTS + 1] = {0};
  tn_json *j;
  int64_t shape[2];
  const char *form = "bnb4";
  TN_TRY(need(h, state, name, ".weight", &parts[0]));
  TN_TRY(need(h, state, name, ".weight.absmax", &parts[1]));
  TN_TRY(read_state(h, state, &j));
  TN_TRY(state_shape(h, state, j, shape));
  TN_TRY(check_levels(h, name, type));
  if (parts[0]->dtype != TN_DT_u8 || parts[0]->bytes * 2 != (uint64_t)shape[0] * (uint64_t)shape[1])
    return tn_packed_fail(h, parts[0], "does not hold [%lld, %lld] in bytes of u8", (long long)shape[0],
                          (long long)shape[1]);
  if (parts[1]->dtype == TN_DT_u8) {
    TN_TRY(need(h, state, name, ".weight.nested_absmax", &parts[2]));
    TN_TRY(need(h, state, name, ".weight.nested_quant_map", &parts[3]));
    TN_TRY(nested_form(h, state, j, &form));
  }
  packed_entry *e;
  const char *weight = tn_arena_printf(&h->arena, "%s.weight", name);
  TN_TRY(tn_packed_add(h, weight, tn_packed_type(type), 2, shape, parts, form, &e));
  e->used[e->nused++] = (uint32_t)(state - h->files.tensors.items);
  also_used(h, e, name);
  return TN_OK;
}

static tn_status make_nf4(tn_hf *h, tensor t, const char *name) { return make_bnb4(h, t, name, "nf4_64"); }
static tn_status make_bfp4(tn_hf *h, tensor t, const char *name) { return make_bnb4(h, t, name, "fp4_64"); }

/* ---- gpt-oss: NAME_blocks [..., n, groups, 16], NAME_scales [..., n, groups] ---- */

static tn_status make_blocks(tn_hf *h, tensor t, const char *name) {
  tensor scale;
  int64_t dims[TN_MAX_RANK];
  TN_TRY(need(h, t, name, "_scales", &scale));
  if (t->rank < 3 || t->dtype != TN_DT_u8 || t->shape[t->rank - 1] != 16)
    return tn_packed_fail(h, t, "is not u8 with 16 bytes in the last dim");
  bool fits = scale->rank == t->rank - 1 && scale->dtype == TN_DT_u8;
  for (uint32_t i = 0; fits && i < scale->rank; i++) fits = scale->shape[i] == t->shape[i];
  if (!fits) return tn_packed_fail(h, scale, "is not one byte for each block of '%s'", t->name);
  memcpy(dims, t->shape, (t->rank - 1) * sizeof *dims);
  dims[t->rank - 2] *= 32;
  return tn_packed_add(h, name, tn_packed_type("mxfp4"), t->rank - 1, dims, (tensor[]){t, scale, NULL},
                       "mxfp4", NULL);
}

const packed_marker tn_packed_markers[] = {
    {".qweight", make_qweight},
    {".weight_packed", make_weight_packed},
    {".weight_scale", make_weight_scale},
    {".weight_scale_inv", make_weight_scale},
    {".SCB", make_bnb8},
    {".weight.quant_state.bitsandbytes__nf4", make_nf4},
    {".weight.quant_state.bitsandbytes__fp4", make_bfp4},
    {"_blocks", make_blocks},
};
const uint32_t tn_packed_marker_count = TN_COUNT(tn_packed_markers);
