/* inspect_report.c - what is known of one model as a report: its tensors, what was fused, where the time
 * went. */
#include "tools/inspect/inspect.h"
#include "tools/report/attention.h"
#include <math.h>

/* Only what something reads: the parts of merged weights are named by the whole. */
static uint64_t add_tensors(tn_report *r, tn_module *m, double *bits) {
  uint64_t total = 0, values = 0;
  for (tn_weight w = 1; w <= tn_ir_weight_count(m); w++) {
    tn_weight_info info;
    tn_type_info type;
    uint64_t bytes = tn_inspect_weight_bytes(m, w, &info), count = 1;
    if (!bytes) continue;
    tn_ir_type_get(m, info.type, &type);
    int64_t shape[TN_MAX_RANK] = {0};
    for (uint32_t i = 0; i < type.rank; i++)
      if (tn_ir_dim_is_const(m, type.dims[i], &shape[i])) count *= (uint64_t)shape[i];
    const char *name = tn_ir_dtype_info(type.dtype)->name;
    tn_report_tensor_add(r, &(tn_report_tensor){.name = info.name,
                                                .from = name,
                                                .to = name,
                                                .rank = type.rank,
                                                .shape = shape,
                                                .bytes_before = bytes,
                                                .bytes_after = bytes,
                                                .bits = count ? 8.0 * (double)bytes / (double)count : NAN,
                                                .rmse = NAN,
                                                .nmse = NAN,
                                                .max_abs = NAN,
                                                .sensitivity = NAN});
    total += bytes;
    values += count;
  }
  *bits = values ? 8.0 * (double)total / (double)values : NAN;
  return total;
}

tn_status tn_inspect_report(const tn_args *a, tn_module *m, const tn_pipeline_run *run, tn_driver *d) {
  tn_report r;
  double bits;
  tn_report_init(&r, "inspect", a);
  uint64_t bytes = add_tensors(&r, m, &bits);
  const char *source = tn_ir_meta_get(m, "architecture");
  tn_report_model(&r, "before", a->positional[0], source ? source : tn_ir_module_name(m), bytes, bits);
  tn_report_fusions(&r, run->fusions.items, run->fusions.count, m);
  for (uint32_t i = 0; i < d->phases.count; i++)
    tn_report_phase(&r, d->phases.items[i].name, d->phases.items[i].seconds);
  tn_status s = tn_report_attention_asked(&r, a, a->positional[0], d->diags);
  if (s == TN_OK) s = tn_report_write(&r, a->last[OPT_report], d->diags);
  tn_report_fini(&r);
  return s;
}
