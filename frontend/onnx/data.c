/* data.c - test data folders. The files are named by number; which number has which name is read from the
 * model: inputs count without those that have an initialiser of the same name, as in IR version 3. */
#include "frontend/onnx/data.h"
#include "frontend/onnx/model.h"
#include <stdio.h>

struct tn_onnx_data {
  tn_ox_model model; /* arena and folder of the tensors that are read */
  const tn_ir *ir;
  tn_diags *diags;
  const char *folder;
  TN_VEC(tn_onnx_data_item) items;
};

bool tn_onnx_data_is(const char *folder) {
  static const char *const first[] = {"input_0.pb", "output_0.pb"};
  bool found = false;
  tn_arena a;
  tn_arena_init(&a);
  for (size_t i = 0; i < TN_COUNT(first) && !found; i++) {
    const char *path = tn_path_join(&a, folder, first[i]);
    found = path && tn_path_exists(path);
  }
  tn_arena_fini(&a);
  return found;
}

static tn_status add(tn_onnx_data *d, const char *path, const char *name, const tn_ox_tensor_proto *t) {
  const char *why = "";
  tn_ox_data e = {0};
  tn_status s = tn_ox_tensor_read(&d->model, t, &e, &why);
  if (s != TN_OK) return tn_fail(d->diags, s, path, NULL, "%s", why);
  e.dtype = tn_ox_type_dtype(d->ir, t->data_type);
  tn_onnx_data_item item = {.name = name, .dtype = e.dtype, .rank = e.rank, .nbytes = e.bytes};
  void *bytes = tn_arena_alloc(&d->model.arena, e.bytes + 1);
  if (!bytes) return TN_OOM;
  if (e.bytes) memcpy(bytes, e.ptr, e.bytes);
  item.bytes = bytes;
  memcpy(item.dims, e.dims, sizeof item.dims);
  return tn_vec_push(&d->items, item) ? TN_OK : TN_OOM;
}

/* Strings, as the importer has them: name.bytes, name.starts and name.lengths. */
static tn_status add_strings(tn_onnx_data *d, const char *name, const tn_ox_tensor_proto *t) {
  static const char *const parts[] = {"bytes", "starts", "lengths"};
  tn_onnx_data_item item[3] = {{.dtype = TN_DT_u8, .rank = 1}, {.dtype = TN_DT_i64}, {.dtype = TN_DT_i64}};
  uint64_t n = t->n_string_data;
  tn_buf bytes = {0};
  int64_t *at = tn_arena_alloc(&d->model.arena, (2 * n + 1) * sizeof *at);
  if (!at || t->n_dims > TN_MAX_RANK) return TN_OOM;
  for (uint64_t i = 0; i < n; i++) {
    at[i] = (int64_t)bytes.len, at[n + i] = (int64_t)t->string_data[i].len;
    tn_buf_put(&bytes, t->string_data[i].data, t->string_data[i].len);
  }
  item[0].nbytes = bytes.len, item[0].dims[0] = (int64_t)bytes.len;
  item[0].bytes = tn_arena_copy(&d->model.arena, bytes.len ? bytes.text : "", bytes.len + !bytes.len);
  item[1].bytes = at, item[2].bytes = at + n;
  tn_buf_fini(&bytes);
  for (int i = 0; i < 3; i++) {
    if (i) item[i].nbytes = n * sizeof *at, item[i].rank = (uint32_t)t->n_dims;
    for (size_t k = 0; i && k < t->n_dims; k++) item[i].dims[k] = t->dims[k];
    item[i].name = tn_arena_printf(&d->model.arena, "%s.%s", name, parts[i]);
    if (!item[i].name || !item[i].bytes || !tn_vec_push(&d->items, item[i])) return TN_OOM;
  }
  return TN_OK;
}

static tn_status add_list(tn_onnx_data *d, const char *path, const char *name, const tn_file *f) {
  Onnx__SequenceProto *p = onnx__sequence_proto__unpack(NULL, f->size, f->data);
  if (!p) return tn_fail(d->diags, TN_DATA_LOSS, path, NULL, "not a sequence of tensors");
  tn_status s = TN_OK;
  for (size_t i = 0; i < p->n_tensor_values && s == TN_OK; i++) {
    const char *element = tn_arena_printf(&d->model.arena, "%s[%zu]", name, i);
    s = element ? add(d, path, element, p->tensor_values[i]) : TN_OOM;
  }
  onnx__sequence_proto__free_unpacked(p, NULL);
  return s;
}

static tn_status add_tensor(tn_onnx_data *d, const char *path, const char *name, const tn_file *f) {
  Onnx__TensorProto *p = onnx__tensor_proto__unpack(NULL, f->size, f->data);
  if (!p) return tn_fail(d->diags, TN_DATA_LOSS, path, NULL, "not a tensor");
  bool strings = p->data_type == ONNX__TENSOR_PROTO__DATA_TYPE__STRING;
  tn_status s = strings ? add_strings(d, name, p) : add(d, path, name, p);
  onnx__tensor_proto__free_unpacked(p, NULL);
  return s;
}

static bool is_list(const Onnx__TypeProto *t) {
  if (t && t->value_case == ONNX__TYPE_PROTO__VALUE_OPTIONAL_TYPE) t = t->optional_type->elem_type;
  return t && t->value_case == ONNX__TYPE_PROTO__VALUE_SEQUENCE_TYPE;
}

static tn_status read_one(tn_onnx_data *d, const char *kind, uint32_t i, const Onnx__ValueInfoProto *v) {
  const char *file = tn_arena_printf(&d->model.arena, "%s_%u.pb", kind, i), *why;
  const char *path = file ? tn_path_join(&d->model.arena, d->folder, file) : NULL;
  const char *name = tn_arena_str(&d->model.arena, tn_str_of(v->name ? v->name : ""));
  if (!path || !name) return TN_OOM;
  if (!tn_path_exists(path)) return TN_OK;
  tn_file f;
  tn_status s = tn_file_map(&f, path, &why);
  if (s != TN_OK) return tn_fail(d->diags, s, path, NULL, "cannot read the file: %s", why);
  s = is_list(v->type) ? add_list(d, path, name, &f) : add_tensor(d, path, name, &f);
  tn_file_unmap(&f);
  return s;
}

static bool initialised(const Onnx__GraphProto *g, const char *name) {
  for (size_t i = 0; i < g->n_initializer; i++)
    if (name && g->initializer[i]->name && !strcmp(g->initializer[i]->name, name)) return true;
  return false;
}

static tn_status read_all(tn_onnx_data *d, const Onnx__GraphProto *g) {
  uint32_t number = 0;
  for (size_t i = 0; i < g->n_input; i++)
    if (!initialised(g, g->input[i]->name)) TN_TRY(read_one(d, "input", number++, g->input[i]));
  for (size_t i = 0; i < g->n_output; i++) TN_TRY(read_one(d, "output", (uint32_t)i, g->output[i]));
  return TN_OK;
}

tn_status tn_onnx_data_open(const tn_ir *ir, const char *model, const char *folder, tn_diags *diags,
                            tn_onnx_data **out) {
  *out = NULL;
  tn_onnx_data *d = tn_mem_alloc(sizeof *d);
  if (!d) return TN_OOM;
  memset(d, 0, sizeof *d);
  d->ir = ir;
  d->diags = diags;
  d->folder = folder;
  tn_status s = tn_ox_model_open(&d->model, model, "", diags);
  if (s == TN_OK) s = read_all(d, d->model.proto->graph);
  if (s == TN_OK)
    *out = d;
  else
    tn_onnx_data_close(d);
  return s;
}

void tn_onnx_data_close(tn_onnx_data *d) {
  if (!d) return;
  tn_ox_model_close(&d->model);
  tn_vec_fini(&d->items);
  tn_mem_free(d);
}

const tn_onnx_data_item *tn_onnx_data_find(const tn_onnx_data *d, const char *name) {
  for (uint32_t i = 0; i < d->items.count; i++)
    if (!strcmp(d->items.items[i].name, name)) return &d->items.items[i];
  return NULL;
}
