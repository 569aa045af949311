/* backend.c - the reference as a backend: the shortest example of one. It claims every op, fuses whatever it
 * is asked to, and runs a kernel by walking its body (body.c) on one thread.
 *
 * Its packages are for this process only: the image names a compile of this plugin and ops by id, and the
 * kernels read the module while they run. So the module must outlive what was loaded. A kernel that fails
 * reports through the host and fills its float results with NaN, because a kernel call has no status. */
#include "body.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct plugin {
  tn_host host;
  tn_ir ir;
  TN_VEC(tn_module *) compiled; /* by number of the compile */
} plugin;

/* What a kernel call gets as its ctx. */
typedef struct launch {
  const plugin *self;
  tn_ref_kernel kernel;
} launch;

struct tn_exec {
  plugin *self;
  launch *launches;
  uint32_t count;
};

static const tn_target any_target = {sizeof(tn_target), 1, "any", "any", ""};

static tn_status targets(void *self, void (*each)(void *user, const tn_target *t), void *user) {
  (void)self;
  each(user, &any_target);
  return TN_OK;
}

static uint32_t claim(void *self, const tn_target *t, tn_module *m, tn_op op, const char **why) {
  const plugin *p = self;
  (void)t;
  const char *name = p->ir.opcode_name(p->ir.opcode(m, op));
  bool known = name && (tn_ref_of(name) || !strcmp(name, "kernel"));
  if (!known && why) *why = "no reference kernel";
  return known;
}

static uint32_t fuse(void *self, const tn_target *t, tn_module *m, tn_op root, tn_op op, uint32_t role) {
  (void)root, (void)role;
  return claim(self, t, m, op, NULL);
}

/* ---- compiling
 * ------------------------------------------------------------------------------------------------ */
static void kernel_symbol(tn_op op, char out[32]) { snprintf(out, 32, "ref_%u", op); }

static tn_status emit_kernel(plugin *p, tn_module *m, tn_op op, const tn_package_sink *out, tn_buf *image) {
  tn_ref_kernel k;
  char symbol[32];
  kernel_symbol(op, symbol);
  tn_buf_printf(image, "kernel %u\n", op);
  tn_status s = tn_ref_kernel_init(&k, &p->ir, m, op);
  tn_kernel_info info = {.size = sizeof info,
                         .op = op,
                         .symbol = symbol,
                         .dims = k.symbols.items,
                         .ndims = k.symbols.count,
                         .flags = TN_KERNEL_SINGLE};
  if (s == TN_OK) s = out->kernel(out->ctx, &info);
  tn_ref_kernel_fini(&k);
  return s;
}

static bool is_ours(const plugin *p, tn_module *m, tn_op op) {
  tn_attr a;
  const char *name = p->ir.opcode_name(p->ir.opcode(m, op));
  return name && !strcmp(name, "kernel") && p->ir.op_attr(m, op, "backend", &a) && !strcmp(a.u.s, "ref");
}

static tn_status compile(void *self, const tn_target *t, tn_module *m, const tn_options *o,
                         const tn_package_sink *out) {
  plugin *p = self;
  tn_buf image = {0};
  tn_status s = tn_vec_push(&p->compiled, m) ? TN_OK : TN_OOM;
  (void)t, (void)o;
  tn_buf_printf(&image, "tenon-ref %u\n", p->compiled.count);
  for (tn_func f = 1; f <= p->ir.func_count(m); f++)
    for (tn_op op = p->ir.first_op(m, f, 0); op && s == TN_OK; op = p->ir.next_op(m, op))
      if (is_ours(p, m, op)) s = emit_kernel(p, m, op, out, &image);
  if (s == TN_OK && image.failed) s = TN_OOM;
  if (s == TN_OK) s = out->image(out->ctx, (tn_bytes){image.text, image.len});
  tn_buf_fini(&image);
  return s;
}

/* ---- running
 * -------------------------------------------------------------------------------------------------- */
static tn_status runs_here(void *self, const tn_target *t) { return (void)self, (void)t, TN_OK; }

static void unload(tn_exec *x) {
  for (uint32_t i = 0; i < x->count; i++) tn_ref_kernel_fini(&x->launches[i].kernel);
  tn_mem_free(x->launches);
  tn_mem_free(x);
}

/* Reads "WORD NUMBER\n" at *p and steps over it. */
static bool read_line(const char **p, const char *word, uint32_t *number) {
  size_t n = strlen(word);
  char *end;
  if (strncmp(*p, word, n) || (*p)[n] != ' ') return false;
  unsigned long v = strtoul(*p + n + 1, &end, 10);
  if (*end != '\n' || v > UINT32_MAX) return false;
  *number = (uint32_t)v;
  *p = end + 1;
  return true;
}

static tn_status read_image(tn_exec *x, const char *text, uint64_t len) {
  plugin *p = x->self;
  const char *end = text + len;
  uint32_t number, op;
  if (!read_line(&text, "tenon-ref", &number) || !number || number > p->compiled.count) return TN_INVALID;
  tn_module *m = p->compiled.items[number - 1];
  x->launches = tn_mem_alloc((len / 8 + 1) * sizeof *x->launches); /* a line has more than 8 bytes */
  if (!x->launches) return TN_OOM;
  while (read_line(&text, "kernel", &op)) {
    if (!is_ours(p, m, op)) return TN_INVALID;
    launch *l = &x->launches[x->count++];
    l->self = p;
    TN_TRY(tn_ref_kernel_init(&l->kernel, &p->ir, m, op));
  }
  return text == end ? TN_OK : TN_INVALID;
}

static tn_status load(void *self, const tn_target *t, tn_bytes image, tn_exec **out) {
  tn_buf text = {0};
  tn_exec *x = tn_mem_alloc(sizeof *x);
  (void)t;
  if (!x) return TN_OOM;
  x->self = self;
  tn_buf_put(&text, image.ptr, image.len);
  tn_status s = text.failed ? TN_OOM : read_image(x, tn_buf_cstr(&text), image.len);
  tn_buf_fini(&text);
  if (s == TN_OK)
    *out = x;
  else
    unload(x);
  return s;
}

/* A failed kernel must not leave old numbers behind. */
static void poison(const tn_ref_kernel *k, void *const *bufs, const int64_t *dims) {
  uint32_t n = k->ir->body_nargs(k->m, k->op);
  for (uint32_t i = 0; i < k->ir->op_nresults(k->m, k->op); i++) {
    tn_ref_tensor t;
    if (tn_ref_kernel_result(k, i, dims, &t) != TN_OK) continue;
    t.data = bufs[n + i];
    int64_t count = tn_ref_class(t.dtype) == TN_CLASS_BLOCK ? 0 : tn_ref_count(&t);
    for (int64_t e = 0; e < count; e++) tn_ref_set(&t, e, NAN);
  }
}

static void run(const tn_kcall *call) {
  const launch *l = call->ctx;
  const tn_ir *ir = l->kernel.ir;
  char error[TN_REF_ERROR];
  tn_op at;
  if (call->thread) return;
  tn_status s = tn_ref_kernel_run(&l->kernel, call->bufs, call->dims, &at, error);
  if (s == TN_OK) return;
  tn_diag d = {sizeof d, TN_ERROR, ir->op_loc(l->kernel.m, at), s, {error, strlen(error)}};
  if (l->self->host.diag) l->self->host.diag(l->self->host.ctx, l->kernel.m, &d);
  poison(&l->kernel, call->bufs, call->dims);
}

static tn_status kernel(tn_exec *x, const char *symbol, tn_kernel_fn *fn, void **ctx) {
  for (uint32_t i = 0; i < x->count; i++) {
    char name[32];
    kernel_symbol(x->launches[i].kernel.op, name);
    if (strcmp(name, symbol)) continue;
    *fn = run;
    *ctx = &x->launches[i];
    return TN_OK;
  }
  return TN_NOT_FOUND;
}

/* ---- the plugin
 * ------------------------------------------------------------------------------------------------ */
static const tn_backend backend = {.size = sizeof(tn_backend),
                                   .name = "ref",
                                   .targets = targets,
                                   .claim = claim,
                                   .fuse = fuse,
                                   .compile = compile,
                                   .runs_here = runs_here,
                                   .load = load,
                                   .kernel = kernel,
                                   .unload = unload};

static tn_status init(const tn_host *host, void **self) {
  plugin *p = tn_mem_alloc(sizeof *p);
  if (!p) return TN_OOM;
  tn_take(&p->host, sizeof p->host, host);
  tn_take(&p->ir, sizeof p->ir, host->ir);
  *self = p;
  return TN_OK;
}

static void fini(void *self) {
  plugin *p = self;
  tn_vec_fini(&p->compiled);
  tn_mem_free(p);
}

static const void *table(void *self, const char *kind, uint32_t index) {
  (void)self;
  return !strcmp(kind, "tn.backend/1") && !index ? &backend : NULL;
}

const tn_plugin *tn_plugin_query_ref(uint32_t host_abi, const char **why) {
  static const tn_plugin self = {.size = sizeof(tn_plugin),
                                 .abi = TN_ABI,
                                 .id = "org.tenon.ref",
                                 .version = "0.1.0",
                                 .summary = "reference kernels in plain C",
                                 .init = init,
                                 .fini = fini,
                                 .table = table};
  if (host_abi >> 16 == TN_ABI_MAJOR) return &self;
  *why = "the host has another major version of the plugin interface";
  return NULL;
}
