/* reader.c - checks a package from its header down and makes a plan of every launch. A package may come from
 * a damaged file: nothing in it is believed. */
#include "backends/cuda/run/reader.h"
#include "tenon/ir.h"

enum {
  MOST_EXPRS = 4096, /* of one launch */
  MOST_DIMS = 65536, /* sizes of one kernel */
  MOST_THREADS = 1024,
  MOST_CLUSTER = 8,   /* blocks, on every device that has clusters */
  MOST_RESIDENT = 32, /* blocks of a multiprocessor */
  MOST_SHARED = 227 * 1024,
  MOST_BOX = 256
};

typedef struct reader {
  tn_cuda_view *v;
  tn_bytes blob;
  const tn_cuda_launch_row *launches;
  const tn_cuda_expr *exprs;
  const tn_cuda_map_row *maps;
  uint32_t
      place[MOST_EXPRS]; /* of a launch's expressions, counted back from the last: where it went; 0: unused */
  tn_buf *why;
} reader;

static tn_status bad(reader *r, const char *fmt, ...) TN_PRINTF(2, 3);
static tn_status bad(reader *r, const char *fmt, ...) {
  va_list ap;
  tn_buf_puts(r->why, "the kernels' package is damaged: ");
  va_start(ap, fmt);
  tn_buf_vprintf(r->why, fmt, ap);
  va_end(ap);
  return TN_DATA_LOSS;
}

/* ---- header and tables --------------------------------------------------------------------------------- */

/* NULL: the table does not lie inside. */
static const void *table(const reader *r, tn_cuda_span s, uint64_t row) {
  uint64_t n = s.count * row; /* 32 bits times a small number */
  if (s.offset < sizeof(tn_cuda_package) || s.offset % 8 || s.offset > r->blob.len) return NULL;
  return n <= r->blob.len - s.offset ? (const uint8_t *)r->blob.ptr + s.offset : NULL;
}

static tn_status read_head(reader *r) {
  tn_bytes b = r->blob;
  tn_cuda_package h;
  if ((uintptr_t)b.ptr % 8) return bad(r, "it lies at %p, not at a multiple of 8", b.ptr);
  if (b.len < sizeof h) return bad(r, "%llu bytes are less than its header", (unsigned long long)b.len);
  memcpy(&h, b.ptr, sizeof h);
  if (memcmp(h.magic, TN_CUDA_PACKAGE_MAGIC, sizeof h.magic))
    return bad(r, "it does not begin as packages of this version do");
  if (h.bytes != b.len)
    return bad(r, "it has %llu bytes and says %llu", (unsigned long long)b.len, (unsigned long long)h.bytes);
  if (h.hash != tn_cuda_package_hash(b.ptr, b.len)) return bad(r, "its sum is wrong");
  r->v->base = b.ptr;
  r->v->head = b.ptr;
  return TN_OK;
}

static tn_status read_tables(reader *r) {
  const tn_cuda_package *h = r->v->head;
  const struct {
    const char *name;
    tn_cuda_span span;
    uint64_t row;
    const void **to;
  } tables[] = {
      {"strings", h->strings, 1, (const void **)&r->v->strings},
      {"images", h->images, sizeof(tn_cuda_image), (const void **)&r->v->images},
      {"kernels", h->kernels, sizeof(tn_cuda_kernel_row), (const void **)&r->v->kernels},
      {"launches", h->launches, sizeof(tn_cuda_launch_row), (const void **)&r->launches},
      {"expressions", h->exprs, sizeof(tn_cuda_expr), (const void **)&r->exprs},
      {"tensor maps", h->maps, sizeof(tn_cuda_map_row), (const void **)&r->maps},
  };
  for (size_t i = 0; i < TN_COUNT(tables); i++) {
    *tables[i].to = table(r, tables[i].span, tables[i].row);
    if (!*tables[i].to) return bad(r, "its table of %s lies outside", tables[i].name);
  }
  if (h->strings.count && r->v->strings[h->strings.count - 1]) return bad(r, "its strings have no end");
  if (h->cc < 10 || h->cc > 999) return bad(r, "there is no compute capability %u", h->cc);
  return h->exact > 1 ? bad(r, "it is neither exact nor not") : TN_OK;
}

static tn_status read_images(reader *r) {
  const tn_cuda_package *h = r->v->head;
  if (!h->images.count) return bad(r, "it has no code");
  for (uint32_t i = 0; i < h->images.count; i++) {
    const tn_cuda_image *m = &r->v->images[i];
    if (m->kind > TN_CUDA_CUBIN) return bad(r, "image %u is of kind %u", i, m->kind);
    if (m->offset % 16 || m->offset > h->bytes || m->bytes > h->bytes - m->offset || !m->bytes)
      return bad(r, "image %u lies outside", i);
    const uint8_t *p = r->v->base + m->offset;
    if (m->kind == TN_CUDA_PTX && p[m->bytes - 1]) return bad(r, "the PTX of image %u has no end", i);
    if (m->kind == TN_CUDA_CUBIN && (m->bytes < 64 || memcmp(p, "\177ELF", 4)))
      return bad(r, "image %u is no ELF file", i);
  }
  return TN_OK;
}

/* ---- launches ------------------------------------------------------------------------------------------ */

static tn_status check_expr(reader *r, const tn_cuda_plan *p, uint32_t at) {
  const tn_cuda_expr *e = &r->exprs[at];
  if (e->kind < TN_DIM_CONST || e->kind > TN_DIM_MAX)
    return bad(r, "expression %u is of kind %u", at, e->kind);
  if (e->kind == TN_DIM_SYM && e->a >= p->kernel->ndims)
    return bad(r, "expression %u reads number %u of %u", at, e->a, p->kernel->ndims);
  if (e->kind >= TN_DIM_ADD && (e->a >= at || e->b >= at))
    return bad(r, "expression %u depends on later ones", at);
  return TN_OK;
}

/* Marks row `at`, counted back from the launch's last row. */
static bool mark(reader *r, uint32_t last, uint32_t at) {
  if (last - at >= MOST_EXPRS) return false;
  r->place[last - at] = 1;
  return true;
}

/* Marks what the launch's grid and maps name; *last: the highest row, or NONE. */
static tn_status mark_roots(reader *r, const tn_cuda_plan *p, uint32_t *last) {
  uint32_t roots[3 + TN_CUDA_MAX_MAPS * 10], n = 0;
  const tn_cuda_launch_row *l = p->row;
  for (uint32_t i = 0; i < 3; i++)
    if (l->grid[i] != TN_CUDA_NONE) roots[n++] = l->grid[i];
  for (uint32_t m = 0; m < l->nmaps; m++) {
    const tn_cuda_map_row *row = &r->maps[l->first_map + m];
    if (row->offset != TN_CUDA_NONE) roots[n++] = row->offset;
    for (uint32_t i = 0; i < row->rank; i++) {
      roots[n++] = row->sizes[i];
      if (i) roots[n++] = row->strides[i];
    }
  }
  *last = TN_CUDA_NONE;
  for (uint32_t i = 0; i < n; i++) {
    if (roots[i] >= r->v->head->exprs.count) return bad(r, "expression %u is not there", roots[i]);
    if (*last == TN_CUDA_NONE || roots[i] > *last) *last = roots[i];
  }
  memset(r->place, 0, sizeof r->place);
  for (uint32_t i = 0; i < n; i++)
    if (!mark(r, *last, roots[i]))
      return bad(r, "a launch spreads over more than %d expressions", MOST_EXPRS);
  return TN_OK;
}

/* From the last row down, so that what uses a row comes before it. */
static tn_status mark_rest(reader *r, const tn_cuda_plan *p, uint32_t last, uint32_t *lowest) {
  for (uint32_t back = 0; back <= last && back < MOST_EXPRS; back++) {
    uint32_t at = last - back;
    if (!r->place[back]) continue;
    *lowest = at;
    TN_TRY(check_expr(r, p, at));
    const tn_cuda_expr *e = &r->exprs[at];
    if (e->kind >= TN_DIM_ADD && (!mark(r, last, e->a) || !mark(r, last, e->b)))
      return bad(r, "a launch spreads over more than %d expressions", MOST_EXPRS);
  }
  return TN_OK;
}

/* The place of a row among the plan's expressions. */
static uint32_t place_of(const reader *r, uint32_t last, uint32_t at) {
  return at == TN_CUDA_NONE ? TN_CUDA_NONE : r->place[last - at] - 1;
}

static tn_status copy_exprs(reader *r, tn_cuda_plan *p, uint32_t lowest, uint32_t last) {
  tn_cuda_view *v = r->v;
  for (uint32_t at = lowest; at <= last; at++) {
    if (!r->place[last - at]) continue;
    tn_cuda_expr e = r->exprs[at];
    if (e.kind >= TN_DIM_ADD) e.a = place_of(r, last, e.a), e.b = place_of(r, last, e.b);
    if (v->exprs.count == v->head->exprs.count) return bad(r, "launches share expressions");
    if (!tn_vec_push(&v->exprs, e)) return TN_OOM;
    r->place[last - at] = ++p->n;
  }
  if (p->n > v->most_exprs) v->most_exprs = p->n;
  return TN_OK;
}

static tn_status copy_maps(reader *r, const tn_cuda_plan *p, uint32_t last) {
  for (uint32_t m = 0; m < p->row->nmaps; m++) {
    tn_cuda_map_row row = r->maps[p->row->first_map + m];
    row.offset = place_of(r, last, row.offset);
    for (uint32_t i = 0; i < row.rank; i++) {
      row.sizes[i] = place_of(r, last, row.sizes[i]);
      if (i) row.strides[i] = place_of(r, last, row.strides[i]);
    }
    if (!tn_vec_push(&r->v->maps, row)) return TN_OOM;
  }
  return TN_OK;
}

static tn_status check_maps(reader *r, const tn_cuda_plan *p) {
  const tn_cuda_launch_row *l = p->row;
  if (l->nmaps > TN_CUDA_MAX_MAPS || l->first_map != r->v->maps.count ||
      l->nmaps > r->v->head->maps.count - l->first_map)
    return bad(r, "launch '%s' has %u tensor maps from %u", r->v->strings + l->function, l->nmaps,
               l->first_map);
  for (uint32_t m = 0; m < l->nmaps; m++) {
    const tn_cuda_map_row *row = &r->maps[l->first_map + m];
    bool fine = row->buffer <= p->kernel->nbufs && row->rank >= 1 && row->rank <= 5 && row->type <= 9 &&
                row->swizzle <= 3 && row->promotion <= 3;
    for (uint32_t i = 0; fine && i < row->rank; i++) fine = row->box[i] >= 1 && row->box[i] <= MOST_BOX;
    if (!fine) return bad(r, "tensor map %u is none", l->first_map + m);
  }
  return TN_OK;
}

static tn_status read_launch(reader *r, const tn_cuda_kernel_row *k, uint32_t at) {
  tn_cuda_plan *p = &r->v->plans[at];
  const tn_cuda_launch_row *l = &r->launches[at];
  *p = (tn_cuda_plan){.row = l, .kernel = k, .first = r->v->exprs.count, .first_map = r->v->maps.count};
  if (l->function >= r->v->head->strings.count) return bad(r, "launch %u has no name", at);
  if (!l->threads || l->threads > MOST_THREADS || !l->cluster || l->cluster > MOST_CLUSTER ||
      l->shared > MOST_SHARED || l->resident > MOST_RESIDENT || (l->resident && l->cluster > 1))
    return bad(r,
               "launch '%s' wants %u threads, %u bytes of shared memory, clusters of %u, %u resident blocks",
               r->v->strings + l->function, l->threads, l->shared, l->cluster, l->resident);
  TN_TRY(check_maps(r, p));
  uint64_t bytes = tn_align_up((k->nbufs + 2ull) * 8, 64) + l->nmaps * sizeof(uint64_t[16]);
  if (bytes > TN_CUDA_MAX_PARAMS)
    return bad(r, "launch '%s' has %llu bytes of parameters, at most %d", r->v->strings + l->function,
               (unsigned long long)bytes, TN_CUDA_MAX_PARAMS);
  uint32_t last = 0, lowest = 0;
  TN_TRY(mark_roots(r, p, &last));
  if (last != TN_CUDA_NONE) {
    TN_TRY(mark_rest(r, p, last, &lowest));
    TN_TRY(copy_exprs(r, p, lowest, last));
  }
  for (uint32_t i = 0; i < 3; i++) p->grid[i] = place_of(r, last, l->grid[i]);
  return copy_maps(r, p, last);
}

/* ---- kernels ------------------------------------------------------------------------------------------- */

static tn_status read_kernel(reader *r, uint32_t at, uint32_t *next) {
  const tn_cuda_package *h = r->v->head;
  const tn_cuda_kernel_row *k = &r->v->kernels[at];
  bool twice = false;
  if (k->symbol >= h->strings.count) return bad(r, "kernel %u has no name", at);
  const char *symbol = r->v->strings + k->symbol;
  if (k->first_launch != *next || !k->nlaunches || k->nlaunches > TN_CUDA_MAX_LAUNCHES ||
      k->nlaunches > h->launches.count - *next)
    return bad(r, "kernel '%s' has %u launches from %u", symbol, k->nlaunches, k->first_launch);
  if (k->nbufs > TN_CUDA_MAX_PARAMS / 8 || k->ndims > MOST_DIMS)
    return bad(r, "kernel '%s' has %u buffers and %u sizes", symbol, k->nbufs, k->ndims);
  for (uint32_t i = 0; i < k->nlaunches; i++) TN_TRY(read_launch(r, k, *next + i));
  *next += k->nlaunches;
  TN_TRY(tn_map_put(&r->v->symbols, tn_str_of(symbol), at, &twice));
  return twice ? bad(r, "two kernels are named '%s'", symbol) : TN_OK;
}

static tn_status read_kernels(reader *r) {
  const tn_cuda_package *h = r->v->head;
  uint32_t next = 0;
  r->v->plans = tn_mem_alloc((h->launches.count + 1ull) * sizeof *r->v->plans);
  if (!r->v->plans) return TN_OOM;
  for (uint32_t i = 0; i < h->kernels.count; i++) TN_TRY(read_kernel(r, i, &next));
  return next == h->launches.count ? TN_OK
                                   : bad(r, "%u launches belong to no kernel", h->launches.count - next);
}

tn_status tn_cuda_view_open(tn_cuda_view *v, tn_bytes blob, tn_buf *why) {
  *v = (tn_cuda_view){0};
  tn_map_init(&v->symbols);
  reader *r = tn_mem_alloc(sizeof *r);
  tn_status s = r ? TN_OK : TN_OOM;
  if (r) *r = (reader){.v = v, .blob = blob, .why = why};
  if (s == TN_OK) s = read_head(r);
  if (s == TN_OK) s = read_tables(r);
  if (s == TN_OK) s = read_images(r);
  if (s == TN_OK) s = read_kernels(r);
  if (s == TN_OOM) tn_buf_puts(why, "no memory to read the kernels' package");
  tn_mem_free(r);
  if (s != TN_OK) tn_cuda_view_close(v);
  return s;
}

void tn_cuda_view_close(tn_cuda_view *v) {
  tn_mem_free(v->plans);
  tn_vec_fini(&v->exprs);
  tn_vec_fini(&v->maps);
  tn_map_fini(&v->symbols);
  *v = (tn_cuda_view){0};
}

/* ---- values -------------------------------------------------------------------------------------------- */

static bool evaluate(const tn_cuda_expr *e, const int64_t *dims, const int64_t *values, int64_t *to) {
  if (e->kind == TN_DIM_CONST) return *to = e->value, true;
  if (e->kind == TN_DIM_SYM) return *to = dims[e->a], true;
  int64_t a = values[e->a], b = values[e->b];
  bool divides = e->kind == TN_DIM_FLOORDIV || e->kind == TN_DIM_MOD;
  if (divides && (!b || (a == INT64_MIN && b == -1))) return false;
  switch (e->kind) {
  case TN_DIM_ADD: return !__builtin_add_overflow(a, b, to);
  case TN_DIM_MUL: return !__builtin_mul_overflow(a, b, to);
  case TN_DIM_FLOORDIV: *to = a / b - (a % b && (a < 0) != (b < 0)); break;
  case TN_DIM_MOD: *to = a % b + (a % b && (a < 0) != (b < 0) ? b : 0); break;
  case TN_DIM_MIN: *to = a < b ? a : b; break;
  default: *to = a > b ? a : b;
  }
  return true;
}

bool tn_cuda_evaluate(const tn_cuda_view *v, const tn_cuda_plan *p, const int64_t *dims, int64_t *values) {
  for (uint32_t i = 0; i < p->n; i++)
    if (!evaluate(&v->exprs.items[p->first + i], dims, values, &values[i])) return false;
  return true;
}
