/* defects.c - a backend that adds f32 tensors of equal shapes, with one planted defect per DEFECT_ macro;
 * with DEFECT_NONE it is right. A package is a header and one row per kernel. */
#include "tenon/ir.h"
#include <stdio.h>
#include <stdlib.h>

#ifdef DEFECT_KEEPS_HOST
static const tn_host *host;
#define HOST host
#else
static tn_host host;
#define HOST (&host)
#endif

static int is_f32(tn_module *m, tn_value v, tn_type *type) {
  tn_value_info info;
  tn_type_info t;
  HOST->ir->value_get(m, v, &info);
  HOST->ir->type_get(m, info.type, &t);
  *type = info.type;
  return t.dtype == TN_DT_f32;
}

static tn_status fail(tn_status s, const char *words) {
#ifndef DEFECT_SILENT
  tn_diag d = {.size = sizeof d, .severity = TN_ERROR, .status = s, .text = {words, strlen(words)}};
  if (HOST->diag) HOST->diag(HOST->ctx, NULL, &d);
#else
  (void)words;
#endif
  return s;
}

static uint32_t claim(void *self, const tn_target *t, tn_module *m, tn_op op, const char **why) {
  const tn_ir *ir = HOST->ir;
  tn_type a, b;
  (void)self, (void)t, (void)why;
#ifdef DEFECT_FICKLE
  static uint32_t asked;
  if (asked++ % 2) return 0;
#endif
#ifdef DEFECT_CRASH_CLAIM
  if (ir->opcode(m, op) == ir->opcode_by_name("matmul")) abort();
#endif
  if (ir->opcode(m, op) == ir->opcode_by_name("kernel")) return is_f32(m, ir->op_operand(m, op, 0), &a);
  if (ir->opcode(m, op) != ir->opcode_by_name("add")) return 0;
  return is_f32(m, ir->op_operand(m, op, 0), &a) && is_f32(m, ir->op_operand(m, op, 1), &b) && a == b;
}

static tn_status targets(void *self, void (*each)(void *user, const tn_target *t), void *user) {
  static const tn_target both[] = {{sizeof both[0], 1, "any", "", "", 0, 0},
                                   {sizeof both[0], 2, "better", "", "", 0, 0}};
  (void)self;
  each(user, &both[0]);
  each(user, &both[1]);
  return TN_OK;
}

/* ---- compile ---- */
typedef struct row {
  char symbol[24];
  uint32_t swapped, same, copy; /* copy: of what a function was given */
} row;
typedef struct header {
  char magic[8];
  uint64_t bytes, sum; /* of all rows */
} header;
static const char magic[8] = "planted";

static uint64_t sum_of(const char *p, uint64_t n) {
  uint64_t h = 1469598103934665603u;
  for (uint64_t i = 0; i < n; i++) h = (h ^ (uint8_t)p[i]) * 1099511628211u;
  return h;
}

static int ours(tn_module *m, tn_op op) {
  tn_attr backend;
  return HOST->ir->opcode(m, op) == HOST->ir->opcode_by_name("kernel") &&
         HOST->ir->op_attr(m, op, "backend", &backend) && !strcmp(backend.u.s, "planted");
}

static tn_status one(tn_module *m, tn_op op, row *r, const tn_package_sink *out) {
  const tn_ir *ir = HOST->ir;
  tn_op inner = ir->first_op(m, 0, op);
  tn_value_info v;
  tn_type_info type;
  ir->value_get(m, ir->op_result(m, op, 0), &v);
  ir->type_get(m, v.type, &type);
  tn_dim count = ir->dim_const(m, 1);
  for (uint32_t i = 0; i < type.rank; i++) count = ir->dim_make(m, TN_DIM_MUL, count, type.dims[i]);
  snprintf(r->symbol, sizeof r->symbol, "sum_%u", op);
  r->copy = ir->opcode(m, inner) != ir->opcode_by_name("add");
  r->swapped = !r->copy && ir->op_operand(m, inner, 0) != ir->body_arg(m, op, 0);
  r->same = ir->body_nargs(m, op) == 1;
  tn_kernel_info info = {.size = sizeof info, .op = op, .symbol = r->symbol, .dims = &count, .ndims = 1};
  tn_status s = out->kernel(out->ctx, &info);
#ifdef DEFECT_IGNORES_SINK
  s = TN_OK;
#endif
  return s;
}

#ifdef DEFECT_RANDOM_IMAGE
static uint64_t compiles;
#endif
static tn_status compile(void *self, const tn_target *t, tn_module *m, const tn_options *o,
                         const tn_package_sink *out) {
  enum { MOST = 256 };
  char *image = calloc(1, sizeof(header) + MOST * sizeof(row));
  header h = {.bytes = 0};
  uint32_t n = 0;
  tn_status s = TN_OK;
  (void)self, (void)o;
#ifndef DEFECT_NO_MEMORY_CHECK
  if (!image) return fail(TN_OOM, "no memory for the package");
#endif
#ifndef DEFECT_ANY_TARGET
  if (strcmp(t->name, "any") && strcmp(t->name, "better")) s = fail(TN_INVALID, "there is no such target");
#else
  (void)t;
#endif
#ifdef DEFECT_PRINTS
  printf("compiling\n");
#endif
  for (tn_func f = 1; f <= HOST->ir->func_count(m); f++)
    for (tn_op op = HOST->ir->first_op(m, f, 0); op && s == TN_OK; op = HOST->ir->next_op(m, op))
      if (ours(m, op) && n < MOST) s = one(m, op, (row *)(void *)(image + sizeof h) + n++, out);
  h.bytes = n * sizeof(row);
  memcpy(h.magic, magic, sizeof magic);
  h.sum = sum_of(image + sizeof h, h.bytes);
#ifdef DEFECT_RANDOM_IMAGE
  h.sum = compiles++;
#endif
  memcpy(image, &h, sizeof h);
  if (s == TN_OK) s = out->image(out->ctx, (tn_bytes){image, sizeof h + h.bytes});
  free(image);
  return s;
}

/* ---- run ---- */
struct tn_exec {
  uint64_t count;
  row rows[];
};

static void run(const tn_kcall *c) {
  const row *r = c->ctx;
  const float *a = c->bufs[r->swapped && !r->same], *b = c->bufs[!r->swapped && !r->same];
  float *out = c->bufs[r->same ? 1 : 2];
  int64_t n = c->dims[0], begin = n * c->thread / c->nthreads, end = n * (c->thread + 1) / c->nthreads;
#ifdef DEFECT_OVERRUN
  if (end == n && n) end++;
#endif
#ifdef DEFECT_THREADS
  begin = 0, end = c->thread ? 0 : n / c->nthreads;
#endif
  for (int64_t i = begin; i < end; i++) out[i] = r->copy ? a[i] : a[i] + b[i];
#ifdef DEFECT_WRONG_SUM
  if (end == n && n > 16) out[n - 1] = 0;
#endif
}

static tn_status load(void *self, const tn_target *t, tn_bytes image, tn_exec **out) {
  header h = {.bytes = 0};
  const char *p = image.ptr;
  (void)self, (void)t;
#if defined DEFECT_READS_BEYOND
  memcpy(&h, p, sizeof h);
  if (sum_of(p + sizeof h, h.bytes) != h.sum) return fail(TN_DATA_LOSS, "the package is damaged");
#elif defined DEFECT_TAKES_ANY_IMAGE
  if (image.len >= sizeof h) h.bytes = (image.len - sizeof h) / sizeof(row) * sizeof(row);
#else
  if (image.len >= sizeof h) memcpy(&h, p, sizeof h);
  if (image.len < sizeof h || memcmp(h.magic, magic, sizeof magic) || h.bytes != image.len - sizeof h ||
      h.bytes % sizeof(row))
    return fail(TN_DATA_LOSS, "the package is damaged");
#ifndef DEFECT_RANDOM_IMAGE
  if (sum_of(p + sizeof h, h.bytes) != h.sum) return fail(TN_DATA_LOSS, "the package is damaged");
#endif
#endif
  tn_exec *x = calloc(1, sizeof *x + h.bytes);
#ifndef DEFECT_NO_MEMORY_CHECK
  if (!x) return fail(TN_OOM, "no memory for the kernels");
#endif
  x->count = h.bytes / sizeof(row);
  if (h.bytes) memcpy(x->rows, p + sizeof h, h.bytes);
  *out = x;
  return TN_OK;
}

static tn_status kernel(tn_exec *x, const char *symbol, tn_kernel_fn *fn, void **ctx) {
  *fn = run;
  for (uint64_t i = 0; i < x->count; i++)
    if (!strncmp(x->rows[i].symbol, symbol, sizeof x->rows[i].symbol)) return *ctx = &x->rows[i], TN_OK;
#if defined DEFECT_FINDS_ALL || defined DEFECT_TAKES_ANY_IMAGE
  return *ctx = x->rows, TN_OK;
#else
  return TN_NOT_FOUND;
#endif
}
static void unload(tn_exec *x) { free(x); }

static const tn_backend backend = {.size = sizeof backend,
                                   .name = "planted",
                                   .targets = targets,
                                   .claim = claim,
                                   .compile = compile,
                                   .load = load,
                                   .kernel = kernel,
                                   .unload = unload};

/* ---- a pass ---- */
/* Looks at every op and changes nothing. */
static tn_status look(void *self, tn_module *m, tn_func f, const tn_options *o) {
  (void)self, (void)o;
  for (tn_op op = HOST->ir->first_op(m, f, 0); op; op = HOST->ir->next_op(m, op)) {
#ifdef DEFECT_BREAKS_MODULE
    if (!HOST->ir->next_op(m, op)) HOST->ir->op_erase(m, op);
#endif
  }
  return TN_OK;
}
static const tn_pass pass = {.size = sizeof pass, .name = "look", .summary = "looks", .run = look};

/* ---- the plugin ---- */
static tn_status init(const tn_host *h, void **self) {
  *self = NULL;
#ifdef DEFECT_KEEPS_HOST
  host = h;
#else
  tn_take(&host, sizeof host, h);
#endif
  return HOST->ir ? TN_OK : TN_PRECONDITION;
}
static const void *table(void *self, const char *kind, uint32_t index) {
  (void)self;
  if (index) return NULL;
  return !strcmp(kind, "tn.backend/1") ? (const void *)&backend : !strcmp(kind, "tn.pass/1") ? &pass : NULL;
}
static const tn_plugin plugin = {sizeof plugin, TN_ABI, "org.example.planted", "1.0", "adds", 0, init,
                                 NULL,          table};

TN_PLUGIN_ENTRY(planted) {
#ifdef DEFECT_OLD_HOST_ONLY
  int fits = host_abi == TN_ABI;
#else
  int fits = host_abi >> 16 == TN_ABI_MAJOR;
#endif
  if (!fits) *why = "made for another host";
  return fits ? &plugin : NULL;
}
