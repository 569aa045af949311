/* adapter.c - the weights of a model's adapters: a state "adapters" of one f32 each, which calls read. It is
 * a setting of the session, no memory of tokens: reset and rewind leave it alone. */
#include "backends/runtime/rt.h"
#include <math.h>
#include <stdlib.h>

static float *weights_of(tn_session *s, uint64_t *count) {
  for (uint32_t i = 0; i < s->model->view.nstates; i++)
    if (tn_view_is_setting(&s->model->view, i)) {
      *count = s->state_bytes[i] / sizeof(float);
      return s->states[i].base;
    }
  return NULL;
}

void tn_rt_adapters_default(tn_session *s) {
  uint64_t n = 0;
  float *w = weights_of(s, &n);
  const char *p = tn_view_meta(&s->model->view, "adapter_weights");
  for (uint64_t i = 0; w && p && i < n; i++) {
    char *end;
    w[i] = strtof(p, &end);
    p = *end ? end + 1 : end;
  }
}

tn_status tn_rt_adapter(tn_session *s, const char *name, float weight) {
  uint64_t n = 0, i = 0;
  float *w = weights_of(s, &n);
  const char *names = tn_view_meta(&s->model->view, "adapters"), *p = names;
  if (!w || !names)
    return tn_rt_fail(s, TN_UNSUPPORTED,
                      names ? "the model's adapters are merged into its weights"
                            : "the model was made without adapters");
  if (!isfinite(weight))
    return tn_rt_fail(s, TN_INVALID, "the weight of adapter '%s' is not a finite number", name);
  for (; i < n; i++) {
    size_t len = strcspn(p, ",");
    if (strlen(name) == len && !memcmp(p, name, len)) {
      w[i] = weight;
      return TN_OK;
    }
    p += len + (p[len] == ',');
  }
  return tn_rt_fail(s, TN_NOT_FOUND, "there is no adapter '%s'; the model has %s", name, names);
}
