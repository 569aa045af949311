/* package.c - writes the blob that package.h describes. */
#include "backends/cuda/compile/unit.h"

typedef struct writer {
  tn_cuda_unit *u;
  tn_buf strings;
  TN_VEC(tn_cuda_kernel_row) kernels;
  TN_VEC(tn_cuda_launch_row) launches;
  TN_VEC(tn_cuda_expr) exprs;
  TN_VEC(tn_cuda_map_row) maps;
  bool oom;
} writer;
#define PUT(w, list, row) ((w)->oom |= !tn_vec_push(&(w)->list, row))

static uint32_t put_string(writer *w, const char *s) {
  uint32_t at = (uint32_t)w->strings.len;
  tn_buf_put(&w->strings, s, strlen(s) + 1);
  return at;
}

static uint32_t position_of(const tn_cuda_written *k, tn_dim sym) {
  for (uint32_t i = 0; i < k->nsyms; i++)
    if (k->syms[i] == sym) return i;
  return TN_CUDA_NONE;
}

/* TN_CUDA_NONE: it names a symbol that the kernel does not read. */
static uint32_t put_expr(writer *w, const tn_cuda_written *k, tn_dim d) {
  tn_dim_info i;
  w->u->ir->dim_get(w->u->m, d, &i);
  tn_cuda_expr e = {.kind = i.kind};
  if (i.kind == TN_DIM_CONST) {
    e.value = i.value;
  } else if (i.kind == TN_DIM_SYM) {
    e.a = position_of(k, d);
    if (e.a == TN_CUDA_NONE) return TN_CUDA_NONE;
  } else {
    e.a = put_expr(w, k, i.a);
    e.b = put_expr(w, k, i.b);
    if (e.a == TN_CUDA_NONE || e.b == TN_CUDA_NONE) return TN_CUDA_NONE;
  }
  PUT(w, exprs, e);
  return w->exprs.count - 1;
}

static bool put_maps(writer *w, const tn_cuda_written *k, const tn_cuda_launch *l) {
  bool ok = true;
  for (uint32_t i = 0; i < l->shape.nmaps; i++) {
    const tn_cuda_map *m = &l->maps[i];
    tn_cuda_map_row row = {.buffer = m->scratch ? k->nbufs : m->buffer,
                           .offset = m->scratch ? put_expr(w, k, m->scratch) : TN_CUDA_NONE,
                           .type = m->type,
                           .rank = m->rank,
                           .swizzle = m->swizzle,
                           .promotion = m->promotion};
    ok &= !m->scratch || row.offset != TN_CUDA_NONE;
    for (uint32_t j = 0; j < m->rank; j++) {
      row.sizes[j] = put_expr(w, k, m->sizes[j]);
      row.strides[j] = j ? put_expr(w, k, m->strides[j]) : TN_CUDA_NONE;
      row.box[j] = m->box[j];
      ok &= row.sizes[j] != TN_CUDA_NONE && (!j || row.strides[j] != TN_CUDA_NONE);
    }
    PUT(w, maps, row);
  }
  return ok;
}

static tn_status put_launch(writer *w, const tn_cuda_written *k, const tn_cuda_launch *l) {
  tn_cuda_launch_row row = {.function = put_string(w, l->function),
                            .threads = l->shape.threads,
                            .cluster = l->shape.cluster ? l->shape.cluster : 1,
                            .shared = l->shared,
                            .first_map = w->maps.count,
                            .nmaps = l->shape.nmaps,
                            .resident = l->shape.resident};
  bool ok = true;
  for (uint32_t i = 0; i < 3; i++) {
    row.grid[i] = l->shape.grid[i] ? put_expr(w, k, l->shape.grid[i]) : TN_CUDA_NONE;
    ok &= !l->shape.grid[i] || row.grid[i] != TN_CUDA_NONE;
  }
  ok &= put_maps(w, k, l);
  PUT(w, launches, row);
  if (ok) return TN_OK;
  return tn_cuda_fail(w->u->c, w->u->m, 0, TN_INTERNAL,
                      "kernel '%s': its grid depends on a size it does not read", k->symbol);
}

static tn_status put_kernel(writer *w, const tn_cuda_written *k) {
  tn_cuda_kernel_row row = {.symbol = put_string(w, k->symbol),
                            .first_launch = w->launches.count,
                            .nlaunches = k->nlaunches,
                            .nbufs = k->nbufs,
                            .ndims = k->nsyms};
  PUT(w, kernels, row);
  for (uint32_t i = 0; i < k->nlaunches; i++) TN_TRY(put_launch(w, k, &k->launches[i]));
  return TN_OK;
}

static void pad(tn_buf *out, uint64_t align) {
  static const char zeros[16];
  if (out->len % align) tn_buf_put(out, zeros, align - out->len % align);
}
static tn_cuda_span put_table(tn_buf *out, const void *rows, uint64_t count, size_t size) {
  pad(out, 8);
  tn_cuda_span s = {(uint32_t)out->len, (uint32_t)count};
  tn_buf_put(out, rows, count * size);
  return s;
}
#define TABLE(name) h.name = put_table(out, w->name.items, w->name.count, sizeof *w->name.items)

static tn_status put_blob(writer *w, tn_bytes cubin, tn_str ptx, tn_buf *out) {
  tn_cuda_package h = {.cc = w->u->target->cc, .exact = w->u->target->exact};
  tn_cuda_image images[2];
  uint32_t n = 0;
  memcpy(h.magic, TN_CUDA_PACKAGE_MAGIC, sizeof h.magic);
  tn_buf_put(out, &h, sizeof h);
  h.strings = put_table(out, w->strings.text, w->strings.len, 1);
  TABLE(kernels), TABLE(launches), TABLE(exprs), TABLE(maps);
  pad(out, 16);
  uint64_t at = tn_align_up(out->len + 2 * sizeof *images, 16);
  if (cubin.len) images[n++] = (tn_cuda_image){TN_CUDA_CUBIN, 0, at, cubin.len};
  if (ptx.len)
    images[n++] =
        (tn_cuda_image){TN_CUDA_PTX, w->u->target->ptx, tn_align_up(at + cubin.len, 16), ptx.len + 1};
  h.images = put_table(out, images, n, sizeof *images);
  for (uint32_t i = 0; i < n; i++) {
    while (out->len < images[i].offset && !out->failed) tn_buf_put(out, "", 1);
    bool text = images[i].kind == TN_CUDA_PTX;
    tn_buf_put(out, text ? (const void *)ptx.ptr : cubin.ptr, text ? ptx.len : cubin.len);
    if (text) tn_buf_put(out, "", 1);
  }
  if (out->failed || w->oom || w->strings.failed) return TN_OOM;
  h.bytes = out->len;
  memcpy(out->text, &h, sizeof h);
  h.hash = tn_cuda_package_hash(out->text, out->len);
  memcpy(out->text, &h, sizeof h);
  return TN_OK;
}

tn_status tn_cuda_package_write(tn_cuda_unit *u, const tn_cuda_written *list, uint32_t n, tn_bytes cubin,
                                tn_str ptx, tn_buf *out) {
  writer w = {.u = u};
  tn_status s = TN_OK;
  for (uint32_t i = 0; i < n && s == TN_OK; i++) s = put_kernel(&w, &list[i]);
  if (s == TN_OK) s = put_blob(&w, cubin, ptx, out);
  tn_buf_fini(&w.strings);
  tn_vec_fini(&w.kernels);
  tn_vec_fini(&w.launches);
  tn_vec_fini(&w.exprs);
  tn_vec_fini(&w.maps);
  return s;
}
