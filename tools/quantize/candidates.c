/* candidates.c - what a search may choose from: for each tensor the types whose blocks its rows fill, with
 * the bytes they take and the error they make on a sample of its rows. */
#include "ir/quant/encode.h"
#include "tools/quantize/quantize.h"

enum { SAMPLE = 65536 /* numbers of a tensor, about */, MIN_ROWS = 16 };

/* Without --types: what files use. The codebooks of two bits and fewer only where importance is known. */
static const char usual[] = "q2_k,q3_k,iq3_s,iq4_xs,q4_k,q5_k,q6_k,q4_0,q4_1,q5_0,q5_1,iq4_nl,q8_0";
static const char with_importance[] = "iq2_xxs,iq2_xs,iq2_s,iq3_xxs,";

typedef struct sampler {
  tn_quantize *q;
  tn_qchoices *choices;
} sampler;

/* Buffers of one tensor. */
typedef struct sample {
  uint64_t columns;
  float *row, *back;
  uint8_t *blocks;
} sample;

static tn_status read_types(tn_quantize *q, const char *list, tn_dtype *out, uint32_t room, uint32_t *n) {
  while (*list) {
    char name[32];
    size_t len = strcspn(list, ",");
    if (len && len < sizeof name) {
      snprintf(name, sizeof name, "%.*s", (int)len, list);
      tn_dtype t = tn_quantize_type(q->diags, "--types", name);
      if (!t) return TN_INVALID;
      if (tn_gguf_type_of(t) < 0)
        return tn_fail(q->diags, TN_INVALID, NULL, NULL, "--types: GGUF files have no type %s", name);
      if (*n == room) return tn_fail(q->diags, TN_INVALID, NULL, NULL, "--types: more than %u types", room);
      out[(*n)++] = t;
    } else if (len) {
      return tn_fail(q->diags, TN_INVALID, NULL, NULL, "--types: '%.*s' is not a type", (int)len, list);
    }
    list += len + (list[len] == ',');
  }
  return TN_OK;
}

/* ---- error --------------------------------------------------------------------------------------------- */

static void unpack(tn_dtype t, const uint8_t *blocks, uint64_t n, float *out) {
  const tn_quant *k = tn_quant_of(t);
  if (k)
    for (uint64_t i = 0; i < n / k->values; i++)
      tn_quant_unpack(k, blocks + i * k->bytes, out + i * k->values);
  else
    for (uint64_t i = 0; i < n; i++) {
      uint16_t h;
      if (t != TN_DT_f32) memcpy(&h, blocks + 2 * i, sizeof h);
      if (t == TN_DT_f32)
        memcpy(out + i, blocks + 4 * i, sizeof *out);
      else
        out[i] = t == TN_DT_f16 ? tn_f16_to_f32(h) : tn_bf16_to_f32(h);
    }
}

static tn_status add_error(const sample *s, tn_dtype t, const float *weights, double *error) {
  uint64_t bad;
  TN_TRY(tn_encode_rows(t, s->row, 1, s->columns, weights, s->blocks, &bad));
  unpack(t, s->blocks, s->columns, s->back);
  for (uint64_t i = 0; i < s->columns; i++) {
    double d = (double)s->row[i] - (double)s->back[i];
    *error += (weights ? (double)weights[i] : 1) * d * d;
  }
  return TN_OK;
}

static tn_status measure_rows(const tn_qtensor *t, tn_ck_reader *r, const sample *s, tn_qchoice *c) {
  uint64_t n = SAMPLE / t->columns > MIN_ROWS ? SAMPLE / t->columns : MIN_ROWS;
  double whole = 0;
  if (n > t->rows) n = t->rows;
  for (uint64_t k = 0; k < n; k++) {
    uint64_t at = k * t->rows / n;
    const float *weights = NULL;
    if (t->importance) weights = t->importance + at / (t->rows / t->importance_rows) * t->columns;
    TN_TRY(tn_ck_reader_rows(r, at, 1, s->row));
    for (uint64_t i = 0; i < t->columns; i++)
      whole += (weights ? (double)weights[i] : 1) * (double)s->row[i] * (double)s->row[i];
    for (uint32_t i = 0; i < c->count; i++)
      if (c->candidates[i].type != t->t->dtype)
        TN_TRY(add_error(s, c->candidates[i].type, weights, &c->candidates[i].error));
  }
  for (uint32_t i = 0; i < c->count && whole > 0; i++) c->candidates[i].error /= whole;
  return TN_OK;
}

static tn_status measure(void *ctx, uint32_t thread, uint32_t i) {
  sampler *x = ctx;
  tn_qchoice *c = &x->choices->items.items[i];
  const tn_qtensor *t = &x->q->tensors[c->tensor];
  tn_ck_reader *r = NULL;
  sample s = {.columns = t->columns};
  (void)thread;
  s.row = tn_mem_alloc(t->columns * sizeof *s.row);
  s.back = tn_mem_alloc(t->columns * sizeof *s.back);
  s.blocks = tn_mem_alloc(t->columns * sizeof *s.row + 512);
  tn_status status = s.row && s.back && s.blocks ? TN_OK : TN_OOM;
  if (!status) status = tn_ck_reader_open(x->q->view, c->tensor, x->q->diags, &r);
  if (!status) status = measure_rows(t, r, &s, c);
  if (status == TN_INVALID) tn_fail(x->q->diags, status, NULL, t->t->name, "has numbers that are not finite");
  tn_ck_reader_close(r);
  tn_mem_free(s.row), tn_mem_free(s.back), tn_mem_free(s.blocks);
  return status;
}

/* ---- candidates ---------------------------------------------------------------------------------------- */

static tn_status add_choice(tn_quantize *q, uint32_t i, const tn_dtype *types, uint32_t n, tn_qchoices *out) {
  tn_qtensor *t = &q->tensors[i];
  tn_qchoice c = {.tensor = i, .candidates = tn_arena_alloc(&q->arena, (n + 1) * sizeof *c.candidates)};
  if (!c.candidates) return TN_OOM;
  c.candidates[c.count++] = (tn_qcandidate){t->t->dtype, t->t->bytes, 0};
  for (uint32_t k = 0; k < n; k++) {
    if (types[k] == t->t->dtype || t->columns % tn_ir_dtype_info(types[k])->block_values) continue;
    if (tn_encode_wants_importance(types[k]) && !t->importance) continue;
    c.candidates[c.count++] = (tn_qcandidate){types[k], tn_quantize_bytes(q, t, types[k]), 0};
  }
  return tn_vec_push(&out->items, c) ? TN_OK : TN_OOM;
}

tn_status tn_quantize_candidates(tn_quantize *q, tn_qchoices *out) {
  tn_dtype types[64];
  uint32_t n = 0;
  const char *given = q->args->last[OPT_types];
  if (!given && q->has_imatrix) TN_TRY(read_types(q, with_importance, types, TN_COUNT(types), &n));
  TN_TRY(read_types(q, given ? given : usual, types, TN_COUNT(types), &n));
  for (uint32_t i = 0; i < q->count; i++)
    if (q->tensors[i].cls != TN_SC_KEEP && !q->tensors[i].chosen) TN_TRY(add_choice(q, i, types, n, out));
  sampler x = {q, out};
  uint32_t threads = q->threads ? q->threads : tn_processors();
  return tn_parallel(threads, out->items.count, measure, &x);
}
