/* npy.c - NumPy's .npy files, as far as tensors of tenon go in and out of them.
 * Source: the format's description in NumPy's documentation (numpy.lib.format). */
#include "backends/ref/ref.h"
#include "tools/tool.h"
#include <stdio.h>
#include <stdlib.h>

static const struct {
  const char *descr;
  tn_dtype dtype;
} descrs[] = {{"<f8", TN_DT_f64}, {"<f4", TN_DT_f32}, {"<f2", TN_DT_f16}, {"<i8", TN_DT_i64},
              {"<i4", TN_DT_i32}, {"<i2", TN_DT_i16}, {"|i1", TN_DT_i8},  {"<u8", TN_DT_u64},
              {"<u4", TN_DT_u32}, {"<u2", TN_DT_u16}, {"|u1", TN_DT_u8},  {"|b1", TN_DT_bool}};

int64_t tn_tensor_count(const tn_tensor *t) {
  int64_t n = 1;
  for (uint32_t i = 0; i < t->rank; i++) n *= t->shape[i];
  return n;
}

uint64_t tn_tensor_bytes(const tn_tensor *t) {
  const tn_dtype_info *info = tn_ir_dtype_info(t->dtype);
  return info ? ((uint64_t)tn_tensor_count(t) * info->bits + 7) / 8 : 0;
}

double tn_tensor_at(const tn_tensor *t, int64_t i) {
  const tn_ref_tensor r = {.dtype = t->dtype, .data = t->data};
  return tn_ref_get(&r, i);
}

/* The text after 'key': in the header's Python dict; NULL: none. */
static const char *dict_value(const char *header, const char *key) {
  const char *at = strstr(header, key);
  at = at ? strchr(at, ':') : NULL;
  return at ? at + 1 + strspn(at + 1, " ") : NULL;
}

static tn_status parse_header(const char *path, const char *header, tn_tensor *t, tn_diags *d) {
  const char *descr = dict_value(header, "'descr'"), *order = dict_value(header, "'fortran_order'"),
             *shape = dict_value(header, "'shape'");
  if (!descr || !order || !shape || *shape != '(')
    return tn_fail(d, TN_INVALID, path, NULL, "the .npy header lacks descr, fortran_order or shape");
  if (!strncmp(order, "True", 4))
    return tn_fail(d, TN_UNSUPPORTED, path, NULL,
                   "Fortran order; save the array with numpy.ascontiguousarray");
  t->dtype = 0;
  for (size_t i = 0; i < TN_COUNT(descrs); i++)
    if (!strncmp(descr + 1, descrs[i].descr, 3)) t->dtype = descrs[i].dtype;
  if (!t->dtype) return tn_fail(d, TN_UNSUPPORTED, path, NULL, "element type %.6s", descr);
  uint64_t total = 1;
  for (const char *s = shape + 1; *s != ')';) {
    char *end;
    long long n = strtoll(s, &end, 10);
    if (end == s || n < 0 || t->rank == TN_MAX_RANK || !tn_mul_u64(total, (uint64_t)n, &total) ||
        total > (1ull << 40))
      return tn_fail(d, TN_INVALID, path, NULL, "bad shape %.40s", shape);
    t->shape[t->rank++] = n;
    s = end + strspn(end, ", ");
  }
  return TN_OK;
}

static tn_status read_mapped(const char *path, const tn_file *f, tn_tensor *t, tn_diags *d) {
  if (f->size < 12 || memcmp(f->data, "\x93NUMPY", 6))
    return tn_fail(d, TN_INVALID, path, NULL, "not a .npy file");
  bool v1 = f->data[6] == 1;
  uint64_t start = v1 ? 10 : 12, len = (uint64_t)f->data[8] | (uint64_t)f->data[9] << 8;
  if (!v1) len |= (uint64_t)f->data[10] << 16 | (uint64_t)f->data[11] << 24;
  if (start + len > f->size || len > 65536)
    return tn_fail(d, TN_INVALID, path, NULL, "the .npy header of %llu bytes does not fit the file",
                   (unsigned long long)len);
  char *header = tn_mem_alloc(len + 1);
  if (!header) return TN_OOM;
  memcpy(header, f->data + start, len);
  tn_status s = parse_header(path, header, t, d);
  tn_mem_free(header);
  TN_TRY(s);
  uint64_t bytes = tn_tensor_bytes(t);
  if (f->size - start - len != bytes)
    return tn_fail(d, TN_INVALID, path, NULL, "%llu bytes of data, the shape needs %llu",
                   (unsigned long long)(f->size - start - len), (unsigned long long)bytes);
  t->data = malloc(bytes + 1);
  if (!t->data) return TN_OOM;
  memcpy(t->data, f->data + start + len, bytes);
  return TN_OK;
}

tn_status tn_npy_read(const char *path, tn_tensor *out, tn_diags *d) {
  memset(out, 0, sizeof *out);
  tn_file f;
  const char *why;
  tn_status s = tn_file_map(&f, path, &why);
  if (s != TN_OK) return tn_fail(d, s, path, NULL, "cannot read the file: %s", why);
  s = read_mapped(path, &f, out, d);
  tn_file_unmap(&f);
  return s;
}

tn_status tn_npy_write(const char *path, const tn_tensor *t, tn_diags *d) {
  const char *descr = NULL;
  for (size_t i = 0; i < TN_COUNT(descrs); i++)
    if (descrs[i].dtype == t->dtype) descr = descrs[i].descr;
  if (!descr)
    return tn_fail(d, TN_UNSUPPORTED, path, NULL, "NumPy has no element type %s",
                   tn_ir_dtype_info(t->dtype)->name);
  tn_buf h = {0};
  tn_buf_printf(&h, "{'descr': '%s', 'fortran_order': False, 'shape': (", descr);
  for (uint32_t i = 0; i < t->rank; i++)
    tn_buf_printf(&h, "%lld,%s", (long long)t->shape[i], i + 1 < t->rank ? " " : "");
  tn_buf_puts(&h, "), }");
  while ((10 + h.len + 1) % 64) tn_buf_puts(&h, " ");
  tn_buf_puts(&h, "\n");
  uint8_t head[10] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (uint8_t)h.len, (uint8_t)(h.len >> 8)};
  tn_outfile o;
  const char *why;
  tn_status s = h.failed ? TN_OOM : tn_outfile_open(&o, path, &why);
  if (s != TN_OK) {
    tn_buf_fini(&h);
    return s == TN_OOM ? s : tn_fail(d, s, path, NULL, "cannot write: %s", why);
  }
  s = tn_outfile_write(&o, head, sizeof head);
  if (s == TN_OK) s = tn_outfile_write(&o, h.text, h.len);
  if (s == TN_OK) s = tn_outfile_write(&o, t->data, tn_tensor_bytes(t));
  if (s == TN_OK) s = tn_outfile_commit(&o, 0644);
  tn_outfile_abort(&o);
  tn_buf_fini(&h);
  return s == TN_OK ? s : tn_fail(d, s, path, NULL, "cannot write the file");
}
