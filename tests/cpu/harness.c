/* harness.c - see harness.h. */
#include "tests/cpu/harness.h"
#include "tests/amx/amx.h"
#include "tools/conform/run.h"
#include <stdio.h>
#include <stdlib.h>

static tn_trial_plugin plugin = {.file = TN_BINARY_DIR "/plugins/tenon-cpu.so"};

const char *cpu_last_words(void) { return plugin.words; }
const tn_backend *cpu_plugin(void **self) {
  amx_provide();
  tn_trial_plugin_load(&plugin);
  *self = plugin.self;
  return plugin.backend;
}

struct cpu_built {
  tn_host_run run;
};
void cpu_run(cpu_built *b, uint32_t thread, uint32_t nthreads) {
  for (uint32_t i = 0; i < b->run.calls.count; i++) {
    tn_host_call *c = &b->run.calls.items[i];
    tn_kcall k = {c->bufs, c->dims, b->run.scratch[thread].data, c->ctx, thread, nthreads};
    c->fn(&k);
  }
}

static void check_one(const tn_target *t, tn_world *ref, tn_op ref_ret, const char *pipeline) {
  const tn_case *c = ref->c;
  for (uint32_t n = 1; n <= 3; n++) {
    tn_host_run r;
    char where[96];
    tn_host_run_init(&r, &plugin, t, c, pipeline);
    if (c->kernels && !strcmp(pipeline, "partition, fuse") && r.calls.count != c->kernels)
      tn_trial_fail("%s: %u kernels, wants %u\n%s", t->name, r.calls.count, c->kernels, c->text);
    tn_host_run_threads(&r, n);
    snprintf(where, sizeof where, "%s, %s, %u threads", t->name, pipeline, n);
    tn_world_compare(ref, ref_ret, &r.trial.w, r.ret, where);
    tn_host_run_fini(&r);
  }
}

static void take_target(void *user, const tn_target *t) {
  tn_target *list = user;
  while (list->name) list++;
  *list = *t;
}
/* Targets that this machine runs and whose code for the case is not another one's: at strict those without
 * narrow products, at fast the best of those with them as well, and the one whose tiles are emulated. */
static bool is_better(const tn_backend *p, void *self, const tn_target *t, const tn_target *than) {
  return t->score > than->score && p->runs_here(self, t) == TN_OK &&
         (amx_native() || strcmp(t->name, "amx") != 0);
}
static bool is_wanted(const tn_case *c, const tn_backend *p, void *self, const tn_target *t,
                      const tn_target *all) {
  if (p->runs_here(self, t) != TN_OK) return false;
  if (c->target || c->every_target) return !c->target || !strcmp(c->target, t->name);
  if (!(t->flags & TN_TARGET_FAST)) return true;
  for (; all->name; all++)
    if (is_better(p, self, all, t)) return false;
  return !strcmp(tn_case_precision(c), "fast");
}

void kernel_check(const tn_case *c) {
  static const char *const both[] = {"partition, fuse", "partition, fuse{max=1}"};
  void *self;
  tn_target targets[8] = {{0}};
  const tn_backend *p = cpu_plugin(&self);
  tn_world ref;
  tn_world_init(&ref, c);
  tn_op ret = tn_world_reference(&ref);
  p->targets(self, take_target, targets);
  for (int t = 0; targets[t].name; t++) {
    if (!is_wanted(c, p, self, &targets[t], targets)) continue;
    for (int i = 0; i < (c->pipeline ? 1 : 2); i++)
      check_one(&targets[t], &ref, ret, c->pipeline ? c->pipeline : both[i]);
  }
  tn_world_fini(&ref);
}

cpu_built *cpu_build(const tn_case *c, const char *target) {
  void *self;
  tn_target targets[8] = {{0}};
  const tn_target *found = targets;
  cpu_plugin(&self)->targets(self, take_target, targets);
  while (found->name && strcmp(found->name, target)) found++;
  if (!found->name) tn_trial_fail("there is no target '%s'", target);
  cpu_built *b = calloc(1, sizeof *b);
  tn_host_run_init(&b->run, &plugin, found, c, c->pipeline ? c->pipeline : "partition, fuse");
  return b;
}
void cpu_free(cpu_built *b) {
  tn_host_run_fini(&b->run);
  free(b);
}
