/* elementwise.c - the shared walk over broadcast operands. */
#include "elementwise.h"

typedef struct walk {
  int64_t strides[3][TN_MAX_RANK];
  int64_t n;     /* length of a row of the result */
  uint32_t rank; /* without the last dim */
} walk;

/* A stretch of the row of operand k; a stride of 0 repeats one element. */
static void load(const tn_ref_tensor *x, int64_t at, int64_t stride, int64_t n, tn_ref_chunk *out) {
  bool is_float = tn_ref_is_float(x->dtype);
  int64_t have = stride ? n : 1;
  if (is_float)
    tn_ref_load(x, at, have, out->f);
  else
    tn_ref_load_int(x, at, have, out->i);
  for (int64_t i = have; i < n; i++) {
    if (is_float)
      out->f[i] = out->f[0];
    else
      out->i[i] = out->i[0];
  }
}

static void row(tn_ref_call *c, const walk *w, const int64_t *index, int64_t at, tn_ref_body body,
                const void *ctx) {
  tn_ref_chunk in[3], out;
  int64_t base[3] = {0};
  for (uint32_t k = 0; k < c->nin; k++)
    for (uint32_t d = 0; d < w->rank; d++) base[k] += index[d] * w->strides[k][d];
  for (int64_t i = 0; i < w->n; i += TN_REF_CHUNK) {
    int64_t n = w->n - i < TN_REF_CHUNK ? w->n - i : TN_REF_CHUNK;
    for (uint32_t k = 0; k < c->nin; k++) {
      int64_t stride = w->strides[k][w->rank];
      load(&c->in[k], base[k] + i * stride, stride, n, &in[k]);
    }
    body(ctx, in, &out, n);
    if (tn_ref_is_float(c->out[0].dtype))
      tn_ref_store(&c->out[0], at + i, n, out.f);
    else
      tn_ref_store_int(&c->out[0], at + i, n, out.i);
  }
}

tn_status tn_ref_elementwise(tn_ref_call *c, tn_ref_body body, const void *ctx) {
  tn_ref_tensor out = c->out[0];
  int64_t index[TN_MAX_RANK] = {0}, at = 0;
  walk w = {0};
  if (!out.rank) out.dims[out.rank++] = 1; /* a scalar is a row of one */
  if (!tn_ref_count(&out)) return TN_OK;
  for (uint32_t k = 0; k < c->nin; k++) tn_ref_strides(&c->in[k], &out, w.strides[k]);
  w.rank = out.rank - 1;
  w.n = out.dims[w.rank];
  do {
    row(c, &w, index, at, body, ctx);
    at += w.n;
  } while (tn_ref_next(index, out.dims, w.rank));
  return TN_OK;
}
