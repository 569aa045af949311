/* build.c - see build.h. */
#include "tools/conform/build.h"
#include "passes/pass.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- the plugin ---- */
static void say(void *ctx, tn_module *m, const tn_diag *d) {
  tn_trial_plugin *p = ctx;
  (void)m;
  if (d->severity == TN_NOTE) return;
  snprintf(p->words, sizeof p->words, "%.*s", (int)d->text.len, d->text.ptr);
  p->said++;
  if (!p->quiet) fprintf(stderr, "plugin: %.*s\n", (int)d->text.len, d->text.ptr);
}
static const char *option(const tn_options *o, const char *key) {
  const char *text = (const char *)o;
  size_t n = strlen(key);
  return text && !strncmp(text, key, n) && text[n] == '=' ? text + n + 1 : NULL;
}
void tn_trial_host(tn_trial_plugin *p, tn_host *out) {
  *out = (tn_host){.size = sizeof *out, .abi = TN_ABI, .ctx = p, .diag = say, .option = option};
  out->ir = &tn_ir_table;
}
static void start(tn_trial_plugin *p, tn_plugin_query_fn query) {
  const char *why = NULL;
  const tn_plugin *plugin = query(TN_ABI, &why);
  tn_host host;
  tn_trial_host(p, &host);
  if (!plugin) tn_trial_fail("%s: %s", p->file, why);
  TN_NEED(plugin->init(&host, &p->self) == TN_OK);
  p->backend = plugin->table(p->self, "tn.backend/1", 0);
}
void tn_trial_plugin_load(tn_trial_plugin *p) {
  if (p->backend) return;
  void *lib = dlopen(p->file, RTLD_NOW | RTLD_LOCAL);
  if (!lib) tn_trial_fail("%s", dlerror());
  start(p, (tn_plugin_query_fn)(uintptr_t)dlsym(lib, "tn_plugin_query"));
}

/* ---- the passes ---- */
typedef struct asked { /* what the backends are asked with */
  tn_trial_plugin *p;
  const tn_target *t;
} asked;
static tn_trial_plugin reference = {.file = "the reference"};

static const char *by_name(void *ctx, uint32_t b) {
  const asked *a = ctx;
  return b ? "ref" : a->p->backend->name;
}
static bool claim(void *ctx, uint32_t b, tn_module *m, tn_op op, const char **why) {
  const asked *a = ctx;
  if (!b) {
    bool taken = a->p->backend->claim(a->p->self, a->t, m, op, why);
    a->p->taken += taken;
    return taken;
  }
  *why = "not among the ops that the plugin may leave";
  return a->p->left(tn_ir_opcode_name(tn_ir_opcode(m, op)));
}
static bool fuse(void *ctx, uint32_t b, tn_module *m, tn_op root, tn_op op, uint32_t role) {
  const asked *a = ctx;
  return !b && a->p->backend->fuse && a->p->backend->fuse(a->p->self, a->t, m, root, op, role);
}

static tn_status read_plain(void *ctx, uint64_t off, void *dst, uint64_t len) {
  memcpy(dst, (char *)ctx + off, len);
  return TN_OK;
}
typedef struct into {
  char *at;
  uint64_t left;
} into;
static tn_status write_packed(void *ctx, const void *data, uint64_t len) {
  into *i = ctx;
  TN_NEED(len <= i->left);
  memcpy(i->at, data, len);
  i->at += len;
  i->left -= len;
  return TN_OK;
}
/* Packs what the plugin wants packed; the weights' plain bytes stay for the reference. */
static void pack_weights(tn_trial *b, const tn_trial_plugin *p) {
  for (tn_weight i = 1; i <= tn_ir_weight_count(b->w.m) && p->backend->layout; i++) {
    tn_weight_info info;
    tn_type_info t;
    uint64_t bytes = 0;
    tn_ir_weight_get(b->w.m, i, &info);
    const char *layout = p->backend->layout(p->self, b->w.m, i, &bytes);
    if (!layout) continue;
    tn_held *x = tn_world_slot(&b->w, info.value);
    tn_wall mem = tn_wall_new(bytes);
    into to = {mem.data, bytes};
    tn_reader in = {x->t.data, read_plain};
    tn_writer out = {&to, write_packed};
    TN_NEED(p->backend->pack(p->self, b->w.m, i, layout, &in, &out) == TN_OK);
    TN_NEED(to.left == 0);
    TN_NEED(tn_vec_push(&b->packed, mem));
    x->t.data = mem.data;
    x->bytes = bytes;
    tn_ir_type_get(b->w.m, info.type, &t);
    TN_NEED(tn_ir_weight_set_type(b->w.m, i, tn_ir_type_make(b->w.m, t.dtype, t.rank, t.dims, layout)) ==
            TN_OK);
  }
}

/* The module of a case as the compiler gets it. */
static void prepare(tn_trial *b, tn_trial_plugin *p, const tn_target *t, const tn_case *c,
                    const char *pipeline) {
  asked a = {p, t};
  tn_pass_backends backends = {&a, p->left ? 2 : 1, by_name, claim, fuse};
  tn_pipeline_run run = {.pipeline = pipeline, .backends = &backends, .verify_each = true};
  tn_world_init(&b->w, c);
  if (c->precision) TN_NEED(tn_ir_meta_set(b->w.m, "precision", c->precision) == TN_OK);
  tn_status s = tn_pipeline_exec(b->w.m, &run);
  tn_pipeline_fini(&run);
  if (s != TN_OK) {
    tn_buf text = {0};
    tn_diags_text(&b->w.diags, &text, false);
    tn_trial_fail("%s: status %d\n%s\n%s", t->name, s, tn_buf_cstr(&text), c->text);
  }
  if (!c->plain_weights) pack_weights(b, p);
}

/* ---- the package ---- */
static tn_status take_image(void *ctx, tn_bytes b) {
  tn_buf_put(&((tn_trial_package *)ctx)->image, b.ptr, b.len);
  return TN_OK;
}
static tn_status take_row(tn_trial_rows *rows, const tn_kernel_info *info) {
  tn_trial_row r = {.op = info->op, .ndims = info->ndims, .scratch = info->scratch};
  TN_NEED(info->ndims <= TN_COUNT(r.dims));
  snprintf(r.symbol, sizeof r.symbol, "%s", info->symbol);
  if (info->ndims) memcpy(r.dims, info->dims, info->ndims * sizeof(tn_dim));
  return tn_vec_push(rows, r) ? TN_OK : TN_OOM;
}
static tn_status take_kernel(void *ctx, const tn_kernel_info *info) {
  return take_row(&((tn_trial_package *)ctx)->rows, info);
}
static tn_status take_left(void *ctx, const tn_kernel_info *info) {
  return take_row(&((tn_trial_package *)ctx)->left, info);
}

static tn_status load_left(void *ctx, tn_bytes image) {
  tn_trial_package *k = ctx;
  return reference.backend->load(reference.self, NULL, image, &k->reference);
}
/* The kernels of the reference. Its images stay in the process, where they are loaded from. */
static void compile_left(tn_trial_package *k) {
  tn_package_sink sink = {.size = sizeof sink, .ctx = k, .image = load_left, .kernel = take_left};
  if (!reference.backend) start(&reference, tn_plugin_query_ref);
  TN_NEED(reference.backend->compile(reference.self, NULL, k->w.m, NULL, &sink) == TN_OK);
}

static bool fits(const tn_trial_package *k, const tn_case *c, const char *pipeline, const tn_target *t) {
  return k->text && !strcmp(k->text, c->text) && !strcmp(k->pipeline, pipeline) &&
         !strcmp(k->target, t->name) && !strcmp(k->precision, tn_case_precision(c)) &&
         k->plain == c->plain_weights;
}
static void package_fini(tn_trial_package *k, void (*drop)(tn_trial_package *k)) {
  if (!k->text) return;
  if (drop) drop(k);
  if (k->reference) reference.backend->unload(k->reference);
  tn_world_fini(&k->w);
  free(k->text);
  tn_buf_fini(&k->image);
  tn_vec_fini(&k->rows);
  tn_vec_fini(&k->left);
}

static tn_trial_package *package_of(tn_trial_plugin *p, const tn_target *t, const tn_case *c,
                                    const char *pipeline, void (*drop)(tn_trial_package *k)) {
  static tn_trial_package kept[16];
  static unsigned next;
  for (size_t i = 0; i < TN_COUNT(kept); i++)
    if (fits(&kept[i], c, pipeline, t)) return &kept[i];
  tn_trial_package *k = &kept[next++ % TN_COUNT(kept)];
  package_fini(k, drop);
  *k = (tn_trial_package){.text = strdup(c->text),
                          .pipeline = pipeline,
                          .target = t->name,
                          .precision = tn_case_precision(c),
                          .plain = c->plain_weights};
  tn_trial whole = {0};
  prepare(&whole, p, t, c, pipeline);
  for (uint32_t i = 0; i < whole.packed.count; i++) tn_wall_free(&whole.packed.items[i]);
  tn_vec_fini(&whole.packed);
  k->w = whole.w;
  tn_package_sink sink = {.size = sizeof sink, .ctx = k, .image = take_image, .kernel = take_kernel};
  if (p->backend->compile(p->self, t, k->w.m, NULL, &sink) != TN_OK)
    tn_trial_fail("%s: compile failed\n%s", t->name, c->text);
  if (p->left) compile_left(k);
  return k;
}

const tn_trial_row *tn_trial_row_of(const tn_trial_package *k, tn_op op, bool *left) {
  for (int side = 0; side < 2; side++) {
    const tn_trial_rows *rows = side ? &k->left : &k->rows;
    *left = side;
    for (uint32_t i = 0; i < rows->count; i++)
      if (rows->items[i].op == op) return &rows->items[i];
  }
  tn_trial_fail("a kernel op was not compiled");
}
void tn_trial_left_kernel(const tn_trial_package *k, const tn_trial_row *row, tn_kernel_fn *fn, void **ctx) {
  TN_NEED(reference.backend->kernel(k->reference, row->symbol, fn, ctx) == TN_OK);
}
int64_t tn_trial_dim(const tn_trial *b, tn_dim d) { return tn_world_dim(b->package->w.m, b->w.c, d); }

void tn_trial_init(tn_trial *b, tn_trial_plugin *p, const tn_target *t, const tn_case *c,
                   const char *pipeline, void (*drop)(tn_trial_package *k)) {
  *b = (tn_trial){0};
  prepare(b, p, t, c, pipeline);
  b->package = package_of(p, t, c, pipeline, drop);
}
void tn_trial_fini(tn_trial *b) {
  for (uint32_t i = 0; i < b->packed.count; i++) tn_wall_free(&b->packed.items[i]);
  tn_vec_fini(&b->packed);
  tn_world_fini(&b->w);
}
