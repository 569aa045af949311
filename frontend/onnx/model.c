/* model.c - opening a model: map, strip (wire.c), unpack, check (check.c). */
#include "frontend/onnx/model.h"

static void *proto_alloc(void *arena, size_t n) { return tn_arena_alloc(arena, n); }
static void proto_free(void *arena, void *p) { (void)arena, (void)p; }

const char *tn_ox_words(tn_ox_model *x, const char *fmt, ...) {
  tn_buf text = {0};
  va_list ap;
  va_start(ap, fmt);
  tn_buf_vprintf(&text, fmt, ap);
  va_end(ap);
  const char *s = tn_arena_str(&x->arena, tn_str_of(tn_buf_cstr(&text)));
  tn_buf_fini(&text);
  return s ? s : "out of memory";
}

static tn_status unpack(tn_ox_model *x) {
  ProtobufCAllocator allocator = {proto_alloc, proto_free, &x->arena};
  tn_buf bytes = {0};
  tn_status s =
      tn_ox_wire_strip((tn_str){(const char *)x->file.data, x->file.size}, x->name, x->diags, &bytes);
  if (s == TN_OK) {
    x->proto = onnx__model_proto__unpack(&allocator, bytes.len, (const uint8_t *)tn_buf_cstr(&bytes));
    if (x->arena.failed)
      s = tn_fail(x->diags, TN_OOM, x->name, NULL, "out of memory");
    else if (!x->proto)
      s = tn_fail(x->diags, TN_INVALID, x->name, NULL, "not a valid ONNX file: its messages cannot be read");
  }
  tn_buf_fini(&bytes);
  return s;
}

static tn_status open_file(tn_ox_model *x, const char *path) {
  const char *slash = strrchr(path, '/'), *why;
  x->name = slash ? slash + 1 : path;
  x->folder = slash ? tn_arena_str(&x->arena, (tn_str){path, (uint64_t)(slash - path) + (slash == path)})
                    : tn_arena_str(&x->arena, TN_STR("."));
  if (!x->folder) return TN_OOM;
  tn_status s = tn_file_map(&x->file, path, &why);
  if (s != TN_OK) return tn_fail(x->diags, s, x->name, NULL, "cannot read the file: %s", why);
  if (!x->file.size) return tn_fail(x->diags, TN_INVALID, x->name, NULL, "the file is empty");
  return TN_OK;
}

tn_status tn_ox_model_open(tn_ox_model *x, const char *path, const char *prefix, tn_diags *diags) {
  *x = (tn_ox_model){.path = path, .prefix = prefix, .name = path, .diags = diags, .file = {.fd = -1}};
  tn_arena_init(&x->arena);
  tn_map_init(&x->functions);
  tn_map_init(&x->external);
  TN_TRY(open_file(x, path));
  TN_TRY(unpack(x));
  return tn_ox_model_check(x);
}

void tn_ox_model_close(tn_ox_model *x) {
  tn_ox_external_close(x);
  tn_map_fini(&x->functions);
  tn_map_fini(&x->external);
  if (x->file.data) tn_file_unmap(&x->file);
  tn_arena_fini(&x->arena);
}
