/* emit_code.c - compile --emit ptx and cubin: the code for a device, taken out of the packages that the
 * backend made (backends/cuda/package.h), and how many steps of a program run where. */
#include "backends/cuda/package.h"
#include "backends/runtime/view.h"
#include "tools/reports.h"

/* ---- where steps run ------------------------------------------------------------------------------------
 */

typedef struct step_counts {
  TN_VEC(uint32_t) kernels; /* per backend */
  uint32_t uploads, downloads;
} step_counts;

static bool count_steps(const tn_driver *d, const tn_build *b, step_counts *c) {
  tn_view v;
  if (tn_view_open((tn_bytes){b->program.text, b->program.len}, &v, NULL, 0)) return false;
  for (uint32_t i = 0; i < d->backends.count; i++)
    if (!tn_vec_push(&c->kernels, 0)) return false;
  for (uint32_t i = 0; i < v.nsteps; i++) {
    const tn_prog_step *s = &v.steps[i];
    c->uploads += s->kind == TN_PROG_COPY && s->kernel == TN_PROG_UPLOAD;
    c->downloads += s->kind == TN_PROG_COPY && s->kernel == TN_PROG_DOWNLOAD;
    const char *name = s->kind == TN_PROG_KERNEL ? tn_view_str(&v, v.kernels[s->kernel].backend) : "";
    for (uint32_t k = 0; k < d->backends.count; k++)
      c->kernels.items[k] += !strcmp(name, d->backends.items[k].table.name);
  }
  return true;
}

void tn_report_steps(const tn_driver *d, const tn_build *b, bool json, tn_buf *out) {
  step_counts c = {0};
  bool ok = count_steps(d, b, &c);
  tn_buf_puts(out, json ? "{" : "steps: ");
  for (uint32_t i = 0, n = 0; ok && i < c.kernels.count; i++) {
    if (!c.kernels.items[i]) continue;
    const char *name = d->backends.items[i].table.name;
    tn_buf_printf(out, json ? "%s\"%s\": %u" : "%s%s %u", n++ ? ", " : "", name, c.kernels.items[i]);
  }
  if (ok && (c.uploads || c.downloads))
    tn_buf_printf(out,
                  json ? ", \"uploads\": %u, \"downloads\": %u" : ", copies to the device %u, to the host %u",
                  c.uploads, c.downloads);
  if (json) tn_buf_puts(out, "}");
  tn_vec_fini(&c.kernels);
}

/* ---- code ------------------------------------------------------------------------------------------------
 */

static bool fits(uint64_t offset, uint64_t bytes, uint64_t size) {
  uint64_t end;
  return tn_add_u64(offset, bytes, &end) && end <= size;
}

/* The image of that kind in a package; NULL: there is none. */
static const char *code_of(const tn_buf *package, uint32_t kind, uint64_t *bytes) {
  tn_cuda_package p;
  if (package->len < sizeof p) return NULL;
  memcpy(&p, package->text, sizeof p);
  if (memcmp(p.magic, TN_CUDA_PACKAGE_MAGIC, sizeof p.magic)) return NULL;
  for (uint32_t i = 0; i < p.images.count; i++) {
    tn_cuda_image x;
    uint64_t at = p.images.offset + (uint64_t)i * sizeof x;
    if (!fits(at, sizeof x, package->len)) return NULL;
    memcpy(&x, package->text + at, sizeof x);
    if (x.kind != kind || !fits(x.offset, x.bytes, package->len)) continue;
    *bytes = kind == TN_CUDA_PTX && x.bytes ? x.bytes - 1 : x.bytes;
    return package->text + x.offset;
  }
  return NULL;
}

/* PTX of several targets is joined; of machine code there is one file. */
static tn_status put_images(tn_driver *d, const tn_build *b, bool cubin, tn_buf *out) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < b->images.count; i++) {
    const tn_build_image *im = &b->images.items[i];
    uint64_t bytes = 0;
    const char *code = code_of(&im->bytes, cubin ? TN_CUDA_CUBIN : TN_CUDA_PTX, &bytes);
    if (!code) continue;
    if (cubin && n)
      return tn_fail(d->diags, TN_INVALID, NULL, NULL,
                     "a cubin is for one target: name one, such as --target cuda:sm_90a");
    if (!cubin && n) tn_buf_puts(out, "\n");
    tn_buf_put(out, code, bytes);
    n++;
  }
  if (!n)
    return tn_fail(d->diags, TN_NOT_FOUND, NULL, NULL,
                   cubin ? "there is no cubin: no kernel is for cuda, or ptxas was not found"
                         : "there is no PTX: no kernel is for cuda; give --target cuda");
  return out->failed ? TN_OOM : TN_OK;
}

tn_status tn_emit_code(tn_driver *d, tn_module *m, bool cubin, const char *path) {
  tn_build b;
  tn_buf out = {0};
  tn_status s = tn_driver_build(d, m, TN_WEIGHTS_EMBED, &b);
  if (s == TN_OK) s = put_images(d, &b, cubin, &out);
  if (s == TN_OK && path)
    s = tn_text_write(path, &out, d->diags);
  else if (s == TN_OK && fwrite(out.text, 1, out.len, stdout) != out.len)
    s = tn_fail(d->diags, TN_UNAVAILABLE, NULL, NULL, "the code cannot be written to stdout");
  tn_buf_fini(&out);
  tn_build_fini(&b);
  return s;
}
