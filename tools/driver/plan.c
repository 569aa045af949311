/* plan.c - how good the plan of a function's arena is for given sizes: what the runtime will take, and the
 * least that any plan could, which is what lives at the fullest moment. */
#include "backends/runtime/rt.h"
#include "tools/driver/driver.h"

tn_status tn_plan_measure(tn_module *m, tn_func f, const double *values, uint32_t n, tn_plan_size *out) {
  tn_attr sizes, live, after;
  *out = (tn_plan_size){0, 0};
  if (!tn_ir_func_attr(m, f, "slots", &sizes) || !tn_ir_func_attr(m, f, "live", &live)) return TN_OK;
  if (!tn_ir_func_attr(m, f, "slots_after", &after)) after.count = 0;
  tn_rt_room *rooms = tn_mem_alloc((sizes.count + 1) * sizeof *rooms);
  if (!rooms) return TN_OOM;
  uint32_t nrooms = 0;
  for (uint32_t i = 0; i < sizes.count && 2 * i + 1 < live.count; i++) {
    double bytes = tn_dim_value(m, sizes.u.dims[i], values, n);
    if (i < after.count && after.u.ints[i]) continue;
    rooms[nrooms++] = (tn_rt_room){.bytes = bytes > 0 ? (uint64_t)bytes : 0,
                                   .slot = i,
                                   .from = (uint32_t)live.u.ints[2 * i],
                                   .until = (uint32_t)live.u.ints[2 * i + 1]};
  }
  bool ok = tn_rt_pack(rooms, nrooms, &out->plan, &out->least);
  tn_mem_free(rooms);
  return ok ? TN_OK : TN_INVALID;
}
