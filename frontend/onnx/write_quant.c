/* write_quant.c - weights: plain ones as they are stored, block formats as f32 values or taken apart into
 * codes, scales and zeros. Everything is made while it streams, a few blocks at a time; what a block means
 * comes from its row of quant.def alone. */
#include "frontend/onnx/write_graph.h"
#include "ir/quant/quant.h"
#include <string.h>

enum { CHUNK = 1 << 20 };

static const tn_dtype_info *block_info(const tn_ow *w, tn_dtype t) {
  const tn_dtype_info *i = w->ir->dtype_info(t);
  return i && i->cls == TN_CLASS_BLOCK ? i : NULL;
}

tn_weight tn_ow_block_weight(tn_ow *w, tn_op op, uint32_t operand) {
  tn_value_info info;
  tn_type_info t;
  w->ir->value_get(w->m, w->ir->op_operand(w->m, op, operand), &info);
  if (info.kind != TN_VALUE_WEIGHT) return 0;
  w->ir->type_get(w->m, info.type, &t);
  return block_info(w, t.dtype) ? info.weight : 0;
}

/* ---- initialisers
 * ------------------------------------------------------------------------------------------- */
static uint64_t elements(tn_ow *w, const tn_ow_shape *t) {
  uint64_t n = 1;
  int64_t k;
  for (uint32_t i = 0; i < t->rank; i++)
    if (!tn_ow_dconst(w, t->dims[i], &k) || k < 0 || !tn_mul_u64(n, (uint64_t)k, &n))
      return tn_ow_fail(w, TN_INVALID, "the size of a weight is not known"), 0;
  return n;
}

static tn_ov streamed(tn_ow *w, tn_weight id, uint32_t what, const tn_ow_shape *t, const char *suffix) {
  if (tn_ow_failed(w)) return 0;
  tn_weight_info info;
  w->ir->weight_get(w->m, id, &info);
  const tn_dtype_info *d = w->ir->dtype_info(t->dtype);
  uint64_t bits = 0;
  (void)tn_ow_elem(w, t->dtype);
  if (!tn_mul_u64(elements(w, t), d->bits, &bits))
    tn_ow_fail(w, TN_INVALID, "weight '%s' is too large", info.name);
  tn_ow_init c = {.what = what, .weight = id, .bytes = bits / 8 + (bits % 8 != 0)};
  const char *name = *suffix ? tn_arena_printf(&w->arena, "%s%s", info.name, suffix) : info.name;
  c.value = tn_ow_value_add(w, TN_OV_INIT, t, name);
  if (c.value) w->values.items[c.value].init = w->inits.count, w->values.items[c.value].graph = 1;
  if (!c.value || !tn_vec_push(&w->inits, c)) return tn_ow_fail(w, TN_OOM, "out of memory"), 0;
  return c.value;
}

static tn_ow_shape shape_of(tn_ow *w, tn_weight id) {
  tn_weight_info info;
  tn_type_info t;
  w->ir->weight_get(w->m, id, &info);
  w->ir->type_get(w->m, info.type, &t);
  tn_ow_shape s = {.dtype = t.dtype, .rank = t.rank};
  memcpy(s.dims, t.dims, t.rank * sizeof *t.dims);
  return s;
}

tn_ov tn_ow_weight(tn_ow *w, tn_weight id) {
  tn_ow_shape t = shape_of(w, id);
  if (block_info(w, t.dtype)) return tn_ow_weight_values(w, id);
  if (!w->weights[0][id]) w->weights[0][id] = streamed(w, id, TN_OI_PLAIN, &t, "");
  return w->weights[0][id];
}

/* ---- formats that are codes, scales and zeros
 * -------------------------------------------------------------------- */
typedef struct scheme {
  const tn_quant *q;
  uint32_t run, bits;
  bool zeros; /* stored ones, or a bias that is not the middle */
} scheme;

static bool scheme_of(tn_dtype t, scheme *s) {
  const tn_quant *q = tn_quant_of(t);
  *s = (scheme){.q = q};
  if (!q || (q->level != TN_QL_INT && q->level != TN_QL_SIGNED) || q->grid || q->m != TN_QN_ONE || q->m_sign)
    return false;
  for (uint32_t i = 0; i < TN_COUNT(q->plane); i++) s->bits += q->plane[i].bits;
  s->run = q->sub ? q->sub : q->values;
  s->zeros = q->level == TN_QL_INT && (q->zero_bits || q->bias != 1u << (s->bits - 1));
  return s->bits <= 8 && s->run >= 16 && !(s->run & (s->run - 1)) &&
         (s->bits == 4 || s->bits == 8 || !q->zero_bits);
}

static uint32_t zero_of(const tn_quant *q, const uint8_t *block, uint32_t run) {
  uint32_t at = 8u * q->zero_at + run * q->zero_bits, v = 0;
  for (uint32_t b = 0; b < q->zero_bits; b++) v |= (uint32_t)(block[(at + b) / 8] >> ((at + b) % 8) & 1) << b;
  return q->bias + v;
}

static void set_code(const tn_quant *q, uint8_t *block, uint32_t i, uint32_t code) {
  for (uint32_t k = 0; k < TN_COUNT(q->plane) && q->plane[k].bits; k++) {
    const tn_quant_plane *p = &q->plane[k];
    uint8_t *byte = block + p->at + i / (p->run * p->slots) * p->run + i % p->run;
    uint32_t shift = i / p->run % p->slots * p->bits, mask = (1u << p->bits) - 1;
    *byte = (uint8_t)((*byte & ~(mask << shift)) | ((code & mask) << shift));
    code >>= p->bits;
  }
}

/* The scale of each run: the value of a code that stands for 1, or for -1 where there is no such code. */
static void scales_of(const scheme *s, const uint8_t *block, float *out) {
  uint8_t copy[512];
  float values[512];
  bool minus[512];
  const tn_quant *q = s->q;
  memcpy(copy, block, q->bytes);
  for (uint32_t r = 0; r < q->values / s->run; r++) {
    uint32_t zero = q->level == TN_QL_SIGNED ? 0 : zero_of(q, block, r);
    minus[r] = zero + 1 >= 1u << s->bits;
    set_code(q, copy, r * s->run, minus[r] ? zero - 1 : zero + 1);
  }
  tn_quant_unpack(q, copy, values);
  for (uint32_t r = 0; r < q->values / s->run; r++)
    out[r] = minus[r] ? -values[r * s->run] : values[r * s->run];
}

static void note(tn_ow *w, tn_weight id, const char *as) {
  tn_ow_shape t = shape_of(w, id);
  char key[128];
  bool there = false;
  snprintf(key, sizeof key, "%s: %s", w->ir->dtype_info(t.dtype)->name, as);
  if (tn_map_put(&w->noted, tn_str_of(key), 1, &there) == TN_OK && !there)
    tn_diags_add(w->diags, TN_NOTE, NULL, 0, 0, "quantised weights", "%s", key);
}

static tn_ov as_floats(tn_ow *w, tn_weight id) {
  tn_ow_shape t = shape_of(w, id);
  t.dtype = TN_DT_f32;
  note(w, id, "f32 values");
  return streamed(w, id, TN_OI_VALUES, &t, "");
}

static tn_ow_shape per_run(tn_ow *w, const tn_ow_shape *t, uint32_t run, tn_dtype dtype) {
  tn_ow_shape s = *t;
  s.dtype = dtype;
  s.dims[s.rank - 1] = tn_ow_dmake(w, TN_DIM_FLOORDIV, s.dims[s.rank - 1], tn_ow_d(w, run));
  return s;
}

static tn_ov dequantized(tn_ow *w, tn_weight id, const scheme *s) {
  tn_ow_shape t = shape_of(w, id), scales = per_run(w, &t, s->run, TN_DT_f32);
  bool nibbles = s->bits <= 4, codes = nibbles || s->q->zero_bits;
  char how[96];
  snprintf(how, sizeof how, "DequantizeLinear of %s codes in blocks of %u",
           nibbles ? "uint4"
           : codes ? "uint8"
                   : "int8",
           s->run);
  note(w, id, how);
  t.dtype = nibbles ? TN_DT_u4 : codes ? TN_DT_u8 : TN_DT_i8;
  tn_ow_shape zeros = per_run(w, &t, s->run, t.dtype);
  tn_ov in[3] = {streamed(w, id, codes ? TN_OI_CODES : TN_OI_LEVELS, &t, ".codes"),
                 streamed(w, id, TN_OI_SCALES, &scales, ".scales"),
                 codes ? streamed(w, id, TN_OI_ZEROS, &zeros, ".zeros") : 0};
  t.dtype = TN_DT_f32;
  return tn_ow_node1(w, "DequantizeLinear", in, 3,
                     TN_OW_ATTRS(TN_OW_I("axis", t.rank - 1), TN_OW_I("block_size", s->run)), &t);
}

tn_ov tn_ow_weight_values(tn_ow *w, tn_weight id) {
  scheme s;
  if (tn_ow_failed(w)) return 0;
  if (!w->weights[1][id]) {
    bool apart = w->o.quantized != TN_OW_FLOAT && w->o.opset >= 21 && scheme_of(shape_of(w, id).dtype, &s);
    w->weights[1][id] = apart ? dequantized(w, id, &s) : as_floats(w, id);
  }
  return w->weights[1][id];
}

/* Whole tables are not put together for a few of their rows. */
tn_ov tn_ow_weight_rows(tn_ow *w, tn_weight id) {
  if (tn_ow_failed(w)) return 0;
  if (!w->weights[2][id])
    w->weights[2][id] = w->o.quantized == TN_OW_FLOAT ? tn_ow_weight_values(w, id) : as_floats(w, id);
  return w->weights[2][id];
}

tn_ov tn_ow_weight_product(tn_ow *w, tn_ov x, tn_weight id) {
  tn_ow_shape t = shape_of(w, id), out = *tn_ow_type(w, x);
  scheme s;
  int64_t n, k;
  if (tn_ow_failed(w) || w->o.quantized != TN_OW_NBITS || t.rank != 2 || !scheme_of(t.dtype, &s) || s.zeros ||
      s.run > 256 || (s.bits != 4 && s.bits < 5) || !tn_ow_dconst(w, t.dims[0], &n) ||
      !tn_ow_dconst(w, t.dims[1], &k))
    return 0;
  uint32_t bits = s.bits == 4 ? 4 : 8;
  int64_t per_block = s.run * bits / 8;
  char how[64];
  snprintf(how, sizeof how, "MatMulNBits of %u bits in blocks of %u", bits, s.run);
  note(w, id, how);
  tn_ow_shape b = {TN_DT_u8, 3, {t.dims[0], tn_ow_d(w, k / s.run), tn_ow_d(w, per_block)}},
              scales = {TN_DT_f32, 2, {t.dims[0], b.dims[1]}};
  tn_ov codes = streamed(w, id, bits == 4 ? TN_OI_CODES : TN_OI_LEVELS, &b, ".codes"),
        sc = streamed(w, id, TN_OI_SCALES, &scales, ".scales");
  tn_dtype in = out.dtype;
  out.dtype = TN_DT_f32;
  out.dims[out.rank - 1] = t.dims[0];
  tn_ov y = tn_ow_node1(
      w, "com.microsoft:MatMulNBits", TN_OW_IN(tn_ow_cast(w, x, TN_DT_f32), codes, sc),
      TN_OW_ATTRS(TN_OW_I("K", k), TN_OW_I("N", n), TN_OW_I("bits", bits), TN_OW_I("block_size", s.run)),
      &out);
  return tn_ow_cast(w, y, in);
}

/* ---- streaming
 * ----------------------------------------------------------------------------------------------- */
static tn_status copy_plain(const tn_ow_source *src, const tn_ow_init *c, const tn_writer *out) {
  uint8_t *chunk = tn_mem_alloc(CHUNK);
  tn_status s = chunk ? TN_OK : TN_OOM;
  for (uint64_t at = 0; s == TN_OK && at < c->bytes; at += CHUNK) {
    uint64_t n = c->bytes - at < CHUNK ? c->bytes - at : CHUNK;
    s = src->read(src->ctx, c->weight, at, chunk, n);
    if (s == TN_OK) s = out->write(out->ctx, chunk, n);
  }
  tn_mem_free(chunk);
  return s;
}

/* Number of a value in bits, low first. */
static void put_bits(uint8_t *out, uint64_t at, uint32_t bits, uint32_t v) {
  if (bits == 8)
    out[at] = (uint8_t)v;
  else
    out[at / 2] = (uint8_t)(at % 2 ? out[at / 2] | v << 4 : v & 15);
}

/* What one block adds at `out`, whose elements so far are `at`; gives how many it added. */
static uint64_t block_part(const scheme *s, uint32_t what, tn_dtype dtype, const uint8_t *block, uint8_t *out,
                           uint64_t at) {
  const tn_quant *q = s->q;
  uint32_t runs = q->values / s->run,
           bits = dtype == TN_DT_u4 || (what == TN_OI_CODES && s->bits <= 4) ? 4 : 8;
  if (what == TN_OI_VALUES) {
    tn_quant_unpack(q, block, (float *)(void *)out + at);
    return q->values;
  }
  if (what == TN_OI_SCALES) return scales_of(s, block, (float *)(void *)out + at), runs;
  if (what == TN_OI_ZEROS)
    for (uint32_t r = 0; r < runs; r++) put_bits(out, at + r, bits, zero_of(q, block, r));
  if (what == TN_OI_CODES)
    for (uint32_t i = 0; i < q->values; i++) put_bits(out, at + i, bits, tn_quant_code(q, block, i));
  if (what == TN_OI_LEVELS)
    for (uint32_t i = 0; i < q->values; i++) {
      uint32_t code = tn_quant_code(q, block, i), sign = 1u << (s->bits - 1);
      int32_t level =
          q->level == TN_QL_SIGNED ? (int32_t)(code ^ sign) - (int32_t)sign : (int32_t)code - q->bias;
      out[at + i] = (uint8_t)(level + (dtype == TN_DT_u8 ? 128 : 0));
    }
  return what == TN_OI_ZEROS ? runs : q->values;
}

/* An even number of blocks at a time, so that parts of 4 bits fill their bytes. */
static tn_status convert_blocks(const scheme *s, uint32_t what, tn_dtype dtype, uint64_t blocks,
                                const tn_ow_source *src, const tn_ow_init *c, const tn_writer *out) {
  enum { BATCH = 1024 };
  const tn_quant *q = s->q;
  uint8_t *in = tn_mem_alloc((size_t)BATCH * q->bytes),
          *made = tn_mem_alloc((size_t)BATCH * q->values * sizeof(float));
  tn_status st = in && made ? TN_OK : TN_OOM;
  for (uint64_t b = 0; st == TN_OK && b < blocks; b += BATCH) {
    uint64_t n = blocks - b < BATCH ? blocks - b : BATCH, at = 0;
    st = src->read(src->ctx, c->weight, b * q->bytes, in, n * q->bytes);
    for (uint64_t i = 0; st == TN_OK && i < n; i++)
      at += block_part(s, what, dtype, in + i * q->bytes, made, at);
    bool floats = what == TN_OI_VALUES || what == TN_OI_SCALES;
    bool nibbles = !floats && (dtype == TN_DT_u4 || (what == TN_OI_CODES && s->bits <= 4));
    if (st == TN_OK)
      st = out->write(out->ctx, made, floats ? at * sizeof(float) : nibbles ? (at + 1) / 2 : at);
  }
  tn_mem_free(in);
  tn_mem_free(made);
  return st;
}

tn_status tn_ow_init_stream(tn_ow *w, const tn_ow_source *src, const tn_ow_init *c, const tn_writer *out) {
  if (c->what == TN_OI_BYTES) return out->write(out->ctx, c->data, c->bytes);
  if (c->what == TN_OI_PLAIN) return copy_plain(src, c, out);
  if (c->what == TN_OI_INT8) return tn_ow_int8_stream(src, c, out);
  tn_ow_shape t = shape_of(w, c->weight);
  scheme s;
  (void)scheme_of(t.dtype, &s); /* values need its row only */
  return convert_blocks(&s, c->what, tn_ow_dtype(w, c->value), elements(w, &t) / s.q->values, src, c, out);
}
