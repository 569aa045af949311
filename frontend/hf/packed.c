/* packed.c - the entries of packed checkpoints: found by name, with a note of what the page took. */
#include "frontend/hf/packed.h"
#include "ir/quant/quant.h"

tn_status tn_packed_fail(tn_hf *h, const tn_st_tensor *t, const char *fmt, ...) {
  tn_buf where = {0}, text = {0};
  va_list ap;
  va_start(ap, fmt);
  tn_buf_vprintf(&text, fmt, ap);
  va_end(ap);
  tn_buf_printf(&where, "tensor '%s'", t->name);
  tn_fail(&h->diags, TN_INVALID, t->file, tn_buf_cstr(&where), "%s", tn_buf_cstr(&text));
  tn_buf_fini(&where);
  tn_buf_fini(&text);
  return TN_INVALID;
}

const tn_st_tensor *tn_packed_tensor(tn_hf *h, const char *name, const char *suffix) {
  const char *full = tn_arena_printf(&h->arena, "%s%s", name, suffix);
  return full ? tn_st_find(&h->files, full) : NULL;
}

tn_status tn_packed_data(tn_hf *h, const tn_st_tensor *t, const uint8_t **data) {
  struct tn_hf_packed *p = h->packed;
  if (!p->open || strcmp(p->open, t->file)) {
    if (p->open) tn_file_unmap(&p->map);
    p->open = NULL;
    TN_TRY(tn_folder_map(h->folder, t->file, &h->diags, &p->map));
    p->open = t->file;
  }
  if (t->bytes > p->map.size || t->offset > p->map.size - t->bytes)
    return tn_packed_fail(h, t, "its file is too short");
  *data = p->map.data + t->offset;
  return TN_OK;
}

tn_dtype tn_packed_type(const char *name) {
  for (uint32_t i = 0; i < tn_quant_count(); i++)
    if (!strcmp(tn_quant_of(TN_DT_BLOCK + (tn_dtype)i)->name, name)) return TN_DT_BLOCK + (tn_dtype)i;
  return 0;
}

tn_status tn_packed_add(tn_hf *h, const char *name, tn_dtype dtype, uint32_t rank, const int64_t *dims,
                        const tn_st_tensor *const *tensors, const char *form, packed_entry **out) {
  struct tn_hf_packed *p = h->packed;
  packed_entry *e = tn_arena_alloc(&h->arena, sizeof *e);
  const tn_quant *q = tn_quant_of(dtype);
  bool taken = false;
  if (!e || !name || (form && !*form)) return tn_fail(&h->diags, TN_OOM, h->folder, NULL, "out of memory");
  if (q && dims[rank - 1] % q->values)
    return tn_packed_fail(h, tensors[0],
                          "the rows of '%s' have %lld values, which are not whole blocks of %u (%s)", name,
                          (long long)dims[rank - 1], q->values, q->name);
  e->name = name;
  memcpy(e->shape, dims, rank * sizeof *dims);
  for (; e->nused < PACKED_PARTS && tensors[e->nused]; e->nused++) {
    const tn_st_tensor *t = tensors[e->nused];
    e->parts[e->nused] = (tn_part){t->file, t->offset, t->bytes};
    e->used[e->nused] = (uint32_t)(t - h->files.tensors.items);
  }
  e->ref = (tn_tensor_ref){dtype,
                           rank,
                           e->shape,
                           tensors[0]->file,
                           tensors[0]->offset,
                           tensors[0]->bytes,
                           .parts = e->parts,
                           .nparts = e->nused,
                           .form = form};
  if (tn_map_put(&p->by_name, tn_str_of(name), p->entries.count, &taken) != TN_OK ||
      !tn_vec_push(&p->entries, e))
    return tn_fail(&h->diags, TN_OOM, h->folder, NULL, "out of memory");
  if (taken) return tn_packed_fail(h, tensors[0], "'%s' is packed twice", name);
  if (out) *out = e;
  return TN_OK;
}

/* ---- building ---- */

static tn_status make_entries(tn_hf *h, const tn_st_tensor *t) {
  size_t n = strlen(t->name);
  for (uint32_t i = 0; i < tn_packed_marker_count; i++) {
    size_t len = strlen(tn_packed_markers[i].ending);
    if (n <= len || strcmp(t->name + n - len, tn_packed_markers[i].ending)) continue;
    const char *name = tn_arena_str(&h->arena, (tn_str){t->name, n - len});
    return name ? tn_packed_markers[i].make(h, t, name) : TN_OOM;
  }
  return TN_OK;
}

tn_status tn_hf_open_packed(tn_hf *h) {
  tn_status status = TN_OK;
  if (!h->packed) return TN_OK;
  for (uint32_t i = 0; i < h->files.tensors.count && status == TN_OK; i++)
    status = make_entries(h, &h->files.tensors.items[i]);
  if (h->packed->open) tn_file_unmap(&h->packed->map);
  h->packed->open = NULL;
  if (status == TN_OK && !h->packed->entries.count)
    return tn_hf_fail_key(h, TN_INVALID, h->packed->file, "quant_method",
                          "is '%s', but no tensor is packed that way", h->packed->method);
  return status;
}

void tn_hf_close_packed(tn_hf *h) {
  if (!h->packed) return;
  tn_vec_fini(&h->packed->entries);
  tn_map_fini(&h->packed->by_name);
}

/* ---- what pages ask ---- */

bool tn_hf_find_packed(tn_hf *h, const char *name, tn_tensor_ref *out) {
  uint64_t i;
  tn_str key = tn_str_of(name);
  if (!h->packed) return false;
  if (tn_str_ends(key, "@packed")) key.len -= strlen("@packed");
  if (!tn_map_get(&h->packed->by_name, key, &i)) return false;
  packed_entry *e = h->packed->entries.items[i];
  for (uint32_t k = 0; k < e->nused; k++) h->tensor_used[e->used[k]] = true;
  e->asked |= key.len == strlen(name);
  *out = e->ref;
  return true;
}

/* A scale or an order that nobody applied would silently give wrong numbers. */
tn_status tn_hf_check_packed(tn_hf *h) {
  for (uint32_t i = 0; h->packed && i < h->packed->entries.count; i++) {
    const packed_entry *e = h->packed->entries.items[i];
    if (!e->of || e->asked || !h->packed->entries.items[e->of - 1]->asked) continue;
    return tn_fail(
        &h->diags, TN_UNSUPPORTED, e->parts[0].file, NULL,
        "'%s' is packed with a scale for each row or with sorted columns, which this page cannot apply to it",
        h->packed->entries.items[e->of - 1]->name);
  }
  return TN_OK;
}
