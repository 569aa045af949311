/* export_checkpoint.c - tenon export gguf and safetensors: a model on disk in the other format, or in the
 * same one with other types, tensor by tensor. */
#include "frontend/checkpoint/checkpoint.h"
#include "ir/quant/quant.h"
#include "tools/export/export.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* What --outtype means for matrices; what is no matrix stays plain. */
typedef struct out_type {
  const char *name;
  tn_dtype dtype;    /* of matrices; TN_DT_NONE: as they are stored */
  const char *block; /* or this block type */
  uint32_t file;     /* general.file_type of GGUF files */
} out_type;
static const out_type out_types[] = {
    {"auto", TN_DT_NONE, NULL, 0},  {"f32", TN_DT_f32, NULL, 0},     {"f16", TN_DT_f16, NULL, 1},
    {"bf16", TN_DT_bf16, NULL, 32}, {"q8_0", TN_DT_NONE, "q8_0", 7},
};

typedef struct export_run {
  const tn_args *a;
  tn_checkpoint *ck, *view;
  const out_type *type;
  tn_ck_format format;
  tn_dtype block;
  tn_dtype *types;
  uint64_t bytes;
  uint32_t changed; /* tensors whose type is another */
  uint32_t halves;  /* matrices that do not fit the block type */
  uint32_t file_type;
} export_run;

static const out_type *type_of(const char *name) {
  for (size_t i = 0; i < TN_COUNT(out_types); i++)
    if (!strcmp(out_types[i].name, name ? name : "auto")) return &out_types[i];
  return NULL;
}

static tn_dtype block_named(const char *name) {
  for (uint32_t i = 0; name && i < tn_quant_count(); i++)
    if (!strcmp(tn_quant_of(TN_DT_BLOCK + i)->name, name)) return TN_DT_BLOCK + i;
  return TN_DT_NONE;
}

static bool is_float(tn_dtype t) {
  return t == TN_DT_f32 || t == TN_DT_f16 || t == TN_DT_bf16 || t == TN_DT_f64 || t == TN_DT_f8e4m3 ||
         t == TN_DT_f8e5m2 || t == TN_DT_f8e4m3fnuz || t == TN_DT_f8e5m2fnuz;
}

/* ---- types ---- */

/* Programs that read GGUF expect what is no operand of a product, and routers, in f32. */
static tn_dtype gguf_type(const export_run *r, const tn_ck_tensor *t) {
  const tn_quant *q = tn_quant_of(r->block);
  bool vector = t->rank < 2 || t->role == TN_CK_OTHER || t->role == TN_CK_ROUTER;
  if (vector) return TN_DT_f32;
  if (q && t->shape[t->rank - 1] % q->values == 0) return r->block;
  if (q) return TN_DT_f16; /* reported by choose_types */
  if (r->type->dtype) return r->type->dtype;
  if (tn_quant_of(t->dtype)) return tn_gguf_type_of(t->dtype) >= 0 ? t->dtype : TN_DT_f16;
  return t->dtype == TN_DT_f16 || t->dtype == TN_DT_bf16 ? t->dtype : TN_DT_f32;
}

/* Blocks become f16, which holds nearly all that they hold; where a tensor of a GGUF file is f32 only because
 * such files want it so, the folder has the type of the matrices. */
static tn_dtype folder_type(const export_run *r, const tn_ck_tensor *t, tn_dtype usual) {
  if (!tn_quant_of(t->dtype) && !is_float(t->dtype)) return t->dtype;
  if (r->type->dtype) return r->type->dtype;
  if (tn_quant_of(t->dtype)) return r->ck == r->view ? t->dtype : TN_DT_f16;
  return r->ck == r->view || !usual ? t->dtype : usual;
}

/* What the matrices of a GGUF file become in a folder. */
static tn_dtype usual_type(const export_run *r) {
  uint64_t half = 0, brain = 0, single = 0;
  for (uint32_t i = 0; i < tn_checkpoint_count(r->view); i++) {
    const tn_ck_tensor *t = tn_checkpoint_at(r->view, i);
    if (t->rank < 2) continue;
    *(t->dtype == TN_DT_bf16 ? &brain : t->dtype == TN_DT_f32 ? &single : &half) += t->bytes;
  }
  return brain >= half && brain >= single ? TN_DT_bf16 : single >= half ? TN_DT_f32 : TN_DT_f16;
}

static tn_status choose_types(export_run *r, tn_diags *diags) {
  uint32_t n = tn_checkpoint_count(r->view);
  tn_dtype usual = usual_type(r);
  bool same = r->ck == r->view && r->type == &out_types[0]; /* the same format, as it is */
  r->types = tn_mem_alloc((n + 1) * sizeof *r->types);
  if (!r->types) return tn_fail(diags, TN_OOM, NULL, NULL, "out of memory");
  for (uint32_t i = 0; i < n; i++) {
    const tn_ck_tensor *t = tn_checkpoint_at(r->view, i);
    r->types[i] = same ? t->dtype : r->format == TN_CK_GGUF ? gguf_type(r, t) : folder_type(r, t, usual);
    r->changed += r->types[i] != t->dtype;
    r->halves += r->block && r->types[i] == TN_DT_f16;
    if (t->rank >= 2 && t->role != TN_CK_OTHER && r->types[i] == TN_DT_bf16) r->file_type = 32;
    if (t->rank >= 2 && t->role != TN_CK_OTHER && r->types[i] == TN_DT_f16) r->file_type = 1;
  }
  if (r->block) r->file_type = r->type->file;
  if (r->halves)
    tn_diags_add(diags, TN_WARNING, tn_checkpoint_path(r->ck), 0, 0, NULL,
                 "%u matrices stay f16: their rows are not whole blocks of %s", r->halves, r->type->name);
  return TN_OK;
}

/* A file that is copied keeps what it says of itself. */
static void put_keys(void *ctx, tn_gguf_writer *w) {
  const export_run *r = ctx;
  if (r->ck != r->view || r->changed) tn_gguf_put_u32(w, "general.file_type", r->file_type);
}

static void count(void *ctx, uint32_t tensor, const tn_ck_error *e) {
  export_run *r = ctx;
  const tn_ck_tensor *t = tn_checkpoint_at(r->view, tensor);
  const tn_quant *q = tn_quant_of(r->types[tensor]);
  const tn_dtype_info *info = tn_ir_dtype_info(r->types[tensor]);
  uint64_t values = 1;
  (void)e;
  for (uint32_t i = 0; i < t->rank; i++) values *= (uint64_t)t->shape[i];
  r->bytes += q ? values / q->values * q->bytes : values * info->bits / 8;
}

/* ---- the run ---- */

/* OUT of gguf: a file, or a folder (there already, or with a slash behind) for one of the model's name. */
static tn_status place(const export_run *r, tn_arena *arena, const char *out, const char **path,
                       tn_diags *diags) {
  size_t n = strlen(out), end = strlen(r->a->positional[1]), first;
  const char *model = r->a->positional[1];
  *path = out;
  if (r->format == TN_CK_FOLDER || (!(n && out[n - 1] == '/') && !tn_path_is_dir(out))) return TN_OK;
  if (!tn_path_is_dir(out) && mkdir(out, 0777))
    return tn_fail(diags, TN_UNAVAILABLE, out, NULL, "cannot make the folder: %s", strerror(errno));
  while (end > 1 && model[end - 1] == '/') end--;
  for (first = end; first && model[first - 1] != '/';) first--;
  if (tn_str_ends((tn_str){model + first, end - first}, ".gguf")) end -= 5;
  const char *name = tn_arena_printf(arena, "%.*s.gguf", (int)(end - first), model + first);
  *path = name ? tn_path_join(arena, out, name) : NULL;
  return *path ? TN_OK : TN_OOM;
}

static void print_result(const export_run *r, const char *path, double seconds) {
  struct rusage u;
  uint32_t n = tn_checkpoint_count(r->view);
  getrusage(RUSAGE_SELF, &u);
  if (!r->a->given[OPT_json]) {
    printf("%s: %s, %u tensors, %.1f MB\n", path, tn_checkpoint_architecture(r->view), n,
           (double)r->bytes / 1e6);
    return;
  }
  tn_buf out = {0};
  tn_buf_puts(&out, "{\"model\": ");
  tn_buf_json(&out, tn_str_of(path));
  tn_buf_puts(&out, ", \"architecture\": ");
  tn_buf_json(&out, tn_str_of(tn_checkpoint_architecture(r->view)));
  tn_buf_printf(&out, ", \"tensors\": %u, \"changed\": %u, \"tensor_bytes\": %llu, ", n, r->changed,
                (unsigned long long)r->bytes);
  tn_buf_printf(&out, "\"seconds\": %.3f, \"peak_memory_bytes\": %llu}", seconds,
                (unsigned long long)u.ru_maxrss * 1024);
  puts(tn_buf_cstr(&out));
  tn_buf_fini(&out);
}

static tn_status write_it(export_run *r, tn_arena *arena, const tn_ck_save *how, tn_diags *diags) {
  double begin = tn_now();
  const char *path;
  tn_driver_options o = {0};
  tn_args_driver(r->a, arena, &o);
  tn_ck_open pages = {.pages = o.pages};
  TN_TRY(tn_checkpoint_open(r->a->positional[1], &pages, diags, &r->ck));
  r->view = r->ck;
  if (tn_checkpoint_format(r->ck) != r->format) {
    r->view = NULL;
    TN_TRY(tn_checkpoint_convert(r->ck, r->format, diags, &r->view));
  }
  TN_TRY(choose_types(r, diags));
  TN_TRY(place(r, arena, r->a->positional[2], &path, diags));
  tn_ck_save s = *how;
  s.types = r->types;
  s.keys = put_keys;
  s.done = count;
  s.no_errors = true;
  s.ctx = r;
  TN_TRY(tn_checkpoint_save(r->view, path, &s, diags));
  print_result(r, path, tn_now() - begin);
  return TN_OK;
}

/* "5G", "200M": bytes; 0: none. */
static bool read_size(const char *text, uint64_t *out) {
  char *end;
  double x = text ? strtod(text, &end) : 0;
  *out = 0;
  if (!text) return true;
  double unit = *end == 'G' ? 1e9 : *end == 'M' ? 1e6 : *end == 'k' ? 1e3 : 1;
  if (unit > 1) end++;
  if (*end || !(x > 0) || x * unit > 1e18) return false;
  *out = (uint64_t)(x * unit);
  return *out > 0;
}

int tn_export_checkpoint(const tn_args *a) {
  bool bad = false;
  int64_t threads = tn_args_int(a, OPT_threads, 0, &bad);
  export_run r = {.a = a, .type = type_of(a->last[OPT_outtype])};
  tn_ck_save how = {.threads = threads > 0 ? (uint32_t)threads : 0, .pre = a->last[OPT_pre]};
  r.format = strcmp(a->positional[0], "gguf") ? TN_CK_FOLDER : TN_CK_GGUF;
  if (bad) return 2;
  if (!r.type || (r.type->block && r.format == TN_CK_FOLDER))
    return fprintf(stderr, "tenon: --outtype: '%s' is not auto, f32, f16%s\n", a->last[OPT_outtype],
                   r.format == TN_CK_GGUF ? ", bf16 or q8_0 (tenon quantize has the others)" : " or bf16"),
           2;
  if (!read_size(a->last[OPT_shard], &how.shard_bytes))
    return fprintf(stderr, "tenon: --max-shard-size: '%s' is not a size\n", a->last[OPT_shard]), 2;
  if (a->given[OPT_adapter])
    return fprintf(stderr,
                   "tenon: export %s: adapters are not merged here; --adapter-mode merge of other commands "
                   "does it\n",
                   a->positional[0]),
           2;
  r.block = block_named(r.type->block);
  tn_diags diags;
  tn_arena arena;
  tn_diags_init(&diags);
  tn_arena_init(&arena);
  tn_status s = write_it(&r, &arena, &how, &diags);
  int status = tn_tool_finish(a, &diags, s);
  if (r.view != r.ck) tn_checkpoint_close(r.view);
  tn_checkpoint_close(r.ck);
  tn_mem_free(r.types);
  tn_arena_fini(&arena);
  tn_diags_fini(&diags);
  return status;
}
