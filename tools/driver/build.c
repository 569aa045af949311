/* build.c - the second half of a compile: weight layouts, the backends' kernels for every target, then the
 * step program. Kernels are matched by their op: each target has its own symbol for it, arguments are the
 * same. */
#include "tools/driver/tuning.h"
#include "frontend/gguf/gguf.h"
#include "frontend/tokenizer/tokenizer.h"
#include <stdlib.h>

/* ---- weights
 * ------------------------------------------------------------------------------------------------- */

static uint32_t backend_of(const tn_driver *d, tn_module *m, tn_op kernel) {
  tn_attr name;
  uint32_t i = 0;
  bool named = tn_ir_opcode(m, kernel) == TN_OPC_kernel && tn_ir_op_attr(m, kernel, "backend", &name);
  while (named && i < d->backends.count && strcmp(d->backends.items[i].table.name, name.u.s)) i++;
  return named ? i : d->backends.count;
}

/* The backend whose kernels are all that use the value, from *owner = UINT32_MAX on; else backends.count. */
static void find_owner(const tn_driver *d, tn_module *m, tn_value value, uint32_t *owner) {
  tn_value_info v;
  tn_ir_value_get(m, value, &v);
  for (uint32_t i = 0; i < v.nuses; i++) {
    uint32_t operand;
    tn_op user = tn_ir_value_use(m, value, i, &operand);
    if (tn_ir_opcode(m, user) == TN_OPC_reshape) {
      find_owner(d, m, tn_ir_op_result(m, user, 0), owner);
      continue;
    }
    uint32_t backend = backend_of(d, m, user);
    *owner = *owner == UINT32_MAX || *owner == backend ? backend : d->backends.count;
  }
}

/* A weight that several backends use stays plain: all of them read that. */
static tn_status choose_layout(tn_driver *d, tn_module *m, tn_weight w, const tn_weight_info *info,
                               uint64_t *bytes, uint32_t *owner) {
  *owner = UINT32_MAX;
  find_owner(d, m, info->value, owner);
  if (*owner >= d->backends.count) return TN_OK;
  const tn_backend_ref *b = &d->backends.items[*owner];
  const char *layout = b->table.layout ? b->table.layout(b->self, m, w, bytes) : NULL;
  if (!layout) return TN_OK;
  tn_type_info t;
  tn_ir_type_get(m, info->type, &t);
  return tn_ir_weight_set_type(m, w, tn_ir_type_make(m, t.dtype, t.rank, t.dims, layout));
}

static tn_status layout_weights(tn_driver *d, tn_module *m, uint32_t mode, tn_build *b) {
  uint64_t at = 0;
  for (tn_weight w = 1; w <= tn_ir_weight_count(m); w++) {
    tn_weight_info info;
    tn_ir_weight_get(m, w, &info);
    tn_value_info v;
    tn_ir_value_get(m, info.value, &v);
    if (!v.nuses) continue;
    uint64_t bytes = tn_weight_bytes(m, &info);
    bool stays = mode == TN_WEIGHTS_INPLACE && info.nparts == 1 && !info.form;
    uint32_t owner = 0;
    if (!stays) TN_TRY(choose_layout(d, m, w, &info, &bytes, &owner));
    at = tn_align_up(at, 64);
    if (!tn_vec_push(&b->weights, w) || !tn_vec_push(&b->weight_offsets, stays ? UINT64_MAX : at) ||
        !tn_vec_push(&b->weight_bytes, bytes) || !tn_vec_push(&b->weight_owners, owner))
      return TN_OOM;
    if (!stays && !tn_add_u64(at, bytes, &at))
      return tn_fail(d->diags, TN_INVALID, NULL, info.name, "the weights are larger than 64 bits can count");
  }
  b->weights_total = tn_align_up(at, 64);
  return TN_OK;
}

/* ---- kernels
 * ------------------------------------------------------------------------------------------------- */

typedef struct sink_ctx {
  tn_driver *d;
  tn_module *m;
  tn_build *b;
  uint32_t backend, target, ntargets;
} sink_ctx;

static tn_status take_image(void *ctx, tn_bytes image) {
  sink_ctx *s = ctx;
  tn_build_image im = {s->backend, s->target, {0}};
  tn_buf_put(&im.bytes, image.ptr, image.len);
  if (im.bytes.failed || !tn_vec_push(&s->b->images, im)) {
    tn_buf_fini(&im.bytes);
    return TN_OOM;
  }
  return TN_OK;
}

/* Kernels are in op id order within a backend; with several backends a search may miss, then all are looked
 * at. */
tn_build_kernel *tn_build_kernel_of(const tn_build *b, tn_op op) {
  tn_build_kernel *list = b->kernels.items;
  uint32_t lo = 0, hi = b->kernels.count;
  while (lo < hi) {
    uint32_t mid = (lo + hi) / 2;
    if (list[mid].op == op) return &list[mid];
    if (list[mid].op < op)
      lo = mid + 1;
    else
      hi = mid;
  }
  for (uint32_t i = 0; i < b->kernels.count; i++)
    if (list[i].op == op) return &list[i];
  return NULL;
}

static tn_status take_first(sink_ctx *s, const tn_kernel_info *k) {
  tn_arena *a = &s->b->arena;
  const char **symbols = tn_arena_alloc(a, s->ntargets * sizeof *symbols);
  tn_dim *dims = tn_arena_alloc(a, (k->ndims + 1) * sizeof *dims);
  tn_build_kernel row = {k->op, symbols, dims, k->ndims, k->flags, 0, s->backend, k->scratch, NULL, NULL};
  if (k->key) row.key = tn_arena_str(a, tn_str_of(k->key));
  if (k->choices) row.choices = tn_arena_str(a, tn_str_of(k->choices));
  if (!symbols || !dims || !(symbols[0] = tn_arena_str(a, tn_str_of(k->symbol)))) return TN_OOM;
  if (k->ndims) memcpy(dims, k->dims, k->ndims * sizeof *dims);
  return tn_vec_push(&s->b->kernels, row) ? TN_OK : TN_OOM;
}

static tn_status take_kernel(void *ctx, const tn_kernel_info *theirs) {
  sink_ctx *s = ctx;
  tn_kernel_info k;
  tn_take(&k, sizeof k, theirs);
  if (s->target == 0) return take_first(s, &k);
  tn_build_kernel *row = tn_build_kernel_of(s->b, k.op);
  if (!row || row->ndims != k.ndims || memcmp(row->dims, k.dims, k.ndims * sizeof *k.dims) ||
      row->flags != k.flags)
    return tn_fail(s->d->diags, TN_INTERNAL, NULL, k.symbol, "the kernel's arguments differ between targets");
  ((const char **)row->symbols)[s->target] = tn_arena_str(&s->b->arena, tn_str_of(k.symbol));
  if (k.scratch)
    row->scratch = row->scratch ? tn_ir_dim_make(s->m, TN_DIM_MAX, row->scratch, k.scratch) : k.scratch;
  return row->symbols[s->target] ? TN_OK : TN_OOM;
}

static void take_phase(void *ctx, const char *name, double seconds, uint32_t parts, uint32_t kept) {
  sink_ctx *s = ctx;
  const tn_target *target = tn_driver_target(s->d, s->backend, s->target);
  tn_phase p = {.target = target ? target->name : NULL,
                .name = tn_arena_str(&s->d->arena, tn_str_of(name)),
                .seconds = seconds,
                .parts = parts,
                .kept = kept};
  if (p.name) tn_driver_phase_timed(s->d, &p);
}

static bool backend_has_kernels(tn_module *m, const char *name) {
  for (tn_func f = 1; f <= tn_ir_func_count(m); f++)
    for (tn_op op = tn_ir_first_op(m, f, 0); op; op = tn_ir_next_op(m, op)) {
      tn_attr a;
      if (tn_ir_opcode(m, op) == TN_OPC_kernel && tn_ir_op_attr(m, op, "backend", &a) && !strcmp(a.u.s, name))
        return true;
    }
  return false;
}

static tn_status compile_backend(tn_driver *d, tn_module *m, uint32_t i, tn_build *b) {
  const tn_backend_ref *ref = &d->backends.items[i];
  if (!backend_has_kernels(m, ref->table.name)) return TN_OK;
  uint32_t ntargets = tn_driver_ntargets(d, i);
  const char *cache = tn_driver_cache(d);
  for (uint32_t t = 0; t < ntargets; t++) {
    sink_ctx ctx = {d, m, b, i, t, ntargets};
    tn_package_sink sink = {sizeof sink, 0, &ctx, take_image, take_kernel, take_phase};
    uint32_t errors = d->diags->errors;
    tn_target *target = tn_driver_target(d, i, t);
    tn_buf tuning = {0};
    if (d->tuning && target) tn_tuning_text(d->tuning, target->name, &tuning);
    const char *keys[3], *values[3];
    tn_options o = {keys, values, 0};
    if (tuning.len) keys[o.count] = "tuning", values[o.count++] = tn_buf_cstr(&tuning);
    if (cache) keys[o.count] = "cache", values[o.count++] = cache;
    if (d->options.ptxas) keys[o.count] = "ptxas", values[o.count++] = d->options.ptxas;
    tn_status s = tuning.failed ? TN_OOM : ref->table.compile(ref->self, target, m, &o, &sink);
    tn_buf_fini(&tuning);
    if (s != TN_OK && d->diags->errors == errors)
      return tn_fail(d->diags, s, NULL, NULL, "backend '%s' failed to compile (status %d)", ref->table.name,
                     s);
    TN_TRY(s);
  }
  return TN_OK;
}

/* Kernels with the same symbols for every target share a program row. */
static tn_status number_rows(tn_build *b) {
  tn_map seen;
  tn_map_init(&seen);
  tn_buf key = {0};
  tn_status s = TN_OK;
  for (uint32_t i = 0; s == TN_OK && i < b->kernels.count; i++) {
    tn_build_kernel *k = &b->kernels.items[i];
    key.len = 0;
    tn_buf_printf(&key, "%u:%s", k->backend, k->symbols[0]);
    uint64_t row;
    if (tn_map_get(&seen, (tn_str){key.text, key.len}, &row)) {
      k->row = (uint32_t)row;
      continue;
    }
    k->row = b->rows.count;
    s = tn_map_put(&seen, (tn_str){tn_buf_cstr(&key), key.len}, k->row, NULL);
    if (s == TN_OK && !tn_vec_push(&b->rows, i)) s = TN_OOM;
  }
  tn_buf_fini(&key);
  tn_map_fini(&seen);
  return s;
}

/* ---- all together
 * -------------------------------------------------------------------------------------------- */

static tn_status gguf_tokenizer(tn_driver *d, tn_build *b) {
  tn_gguf *g;
  TN_TRY(tn_gguf_open(d->path, d->diags, &g));
  tn_status s = tn_tokenizer_from_gguf(g, &b->tokenizer, d->diags);
  tn_gguf_close(g);
  return s;
}

/* The metadata names the file of a folder, or "gguf" for a model that is one file. */
static tn_status import_tokenizer(tn_driver *d, tn_module *m, tn_build *b) {
  const char *where = tn_ir_meta_get(m, "tokenizer");
  if (!where) return TN_OK;
  tn_status s =
      !strcmp(where, "gguf") ? gguf_tokenizer(d, b) : tn_tokenizer_import(d->folder, &b->tokenizer, d->diags);
  return s == TN_NOT_FOUND ? TN_OK : s;
}

/* A library with weights inplace finds them through the folder that this metadata names. */
static tn_status note_folder(tn_driver *d, tn_module *m) {
  char *full = realpath(d->folder, NULL);
  if (!full)
    return tn_fail(d->diags, TN_UNAVAILABLE, d->folder, NULL, "the folder of the weights cannot be resolved");
  tn_status s = tn_ir_meta_set(m, "weights.folder", full);
  free(full);
  return s;
}

tn_status tn_driver_build(tn_driver *d, tn_module *m, uint32_t mode, tn_build *b) {
  memset(b, 0, sizeof *b);
  tn_arena_init(&b->arena);
  TN_TRY(import_tokenizer(d, m, b));
  if (mode == TN_WEIGHTS_INPLACE) TN_TRY(note_folder(d, m));
  tn_driver_phase(d, "tokenizer");
  TN_TRY(layout_weights(d, m, mode, b));
  tn_driver_phase(d, "layouts");
  for (uint32_t i = 0; i < d->backends.count; i++) TN_TRY(compile_backend(d, m, i, b));
  TN_TRY(number_rows(b));
  tn_status s = tn_program_write(d, m, b);
  tn_driver_phase(d, "program");
  return s;
}

void tn_build_fini(tn_build *b) {
  for (uint32_t i = 0; i < b->images.count; i++) tn_buf_fini(&b->images.items[i].bytes);
  tn_vec_fini(&b->images);
  tn_vec_fini(&b->kernels);
  tn_vec_fini(&b->rows);
  tn_vec_fini(&b->weights);
  tn_vec_fini(&b->weight_offsets);
  tn_vec_fini(&b->weight_bytes);
  tn_vec_fini(&b->weight_owners);
  tn_vec_fini(&b->steps);
  tn_buf_fini(&b->tokenizer);
  tn_buf_fini(&b->program);
  tn_arena_fini(&b->arena);
}
