/* harness.c - runs a case of tests/kernels/case.h through the cuda plugin, as a session would: compile, open
 * a device with the package, upload, launch, download. TENON_TEST_TARGET names the target (sm_80); the device
 * is the interpreter of tests/ptx with that compute capability, unless TENON_TEST_DRIVER names another
 * libcuda. Buffers have the tensors' exact sizes, and half of them lie at odd multiples of 64 bytes; results
 * and scratch begin as 0xcd. TENON_CUDA_CASES names a folder in which each case is left as a file
 * (gpu/case.h). */
#include "tests/cuda/gpu/write.h"
#include "tests/cuda/ptxas.h"
#include "tests/kernels/case.h"
#include "tools/conform/run.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

static bool is_left(const char *mnemonic) {
#define TN_LEFT(op) #op,
  static const char *const ops[] = {
#include "tests/cuda/left.def"
      NULL};
#undef TN_LEFT
  for (const char *const *o = ops; *o; o++)
    if (!strcmp(*o, mnemonic)) return true;
  return false;
}
static tn_trial_plugin plugin = {.file = TN_BINARY_DIR "/plugins/tenon-cuda.so", .left = is_left};
static tn_target target;

static void take_target(void *user, const tn_target *t) {
  if (!strcmp(t->name, user)) target = *t;
}
/* Loads the driver before the plugin looks for it, so that its search path says nothing. */
static void load_driver(const char *name) {
  const char *driver = getenv("TENON_TEST_DRIVER");
  char settings[64];
  snprintf(settings, sizeof settings, "sm=%d,seed=%d", atoi(name + 3), atoi(name + 3) / 10);
  if (!driver) setenv("TENON_FAKE_CUDA", settings, 0);
  if (!dlopen(driver ? driver : FAKE_CUDA, RTLD_NOW | RTLD_LOCAL)) tn_trial_fail("%s", dlerror());
}
static void set_up(void) {
  const char *name = getenv("TENON_TEST_TARGET");
  if (target.name) return;
  if (!name) name = "sm_80";
  tn_trial_plugin_load(&plugin);
  plugin.backend->targets(plugin.self, take_target, (void *)name);
  if (!target.name) tn_trial_fail("there is no target '%s'", name);
  load_driver(name);
}

static void check_one(tn_world *ref, tn_op ref_ret, const char *pipeline) {
  char where[96];
  tn_device_run r;
  tn_device_run_init(&r, &plugin, &target, ref->c, pipeline);
  tn_trial_package *k = r.trial.package;
  uint32_t wants = strstr(pipeline, "max=1") ? 0 : ref->c->device_kernels;
  if (wants && k->rows.count != wants)
    tn_trial_fail("%s: %u kernels, wants %u\n%s", target.name, k->rows.count, wants, ref->c->text);
  ptxas_check((tn_bytes){k->image.text, k->image.len}, target.name, k->text);
  tn_device_run_all(&r);
  snprintf(where, sizeof where, "%s, %s", target.name, pipeline);
  tn_world_compare(ref, ref_ret, &r.trial.w, r.ret, where);
  if (getenv("TENON_CUDA_CASES")) case_write(getenv("TENON_CUDA_CASES"), &r, ref, ref_ret, where);
  tn_device_run_fini(&r);
}

/* Every fourth case, other ones on each target, so that the four of them run all; TENON_TEST_SHARE=1: all. */
static bool is_mine(const tn_case *c) {
  static const char *const order[] = {"sm_80", "sm_90a", "sm_100a", "sm_120"};
  const char *given = getenv("TENON_TEST_SHARE");
  uint32_t share = given ? (uint32_t)atoi(given) : 4, phase = 0;
  uint64_t hash = tn_hash_bytes(c->text, strlen(c->text), c->seed);
  for (int i = 0; i < 8 && c->dims[i].name; i++)
    hash = tn_hash_bytes(&c->dims[i].value, sizeof c->dims[i].value, hash);
  for (uint32_t i = 0; i < TN_COUNT(order); i++)
    if (!strcmp(order[i], target.name)) phase = i;
  return share < 2 || hash % share == phase % share;
}

void kernel_check(const tn_case *c) {
  static const char *const both[] = {"partition, fuse", "partition, fuse{max=1}"};
  tn_world ref;
  set_up();
  if (!is_mine(c)) return;
  tn_world_init(&ref, c);
  tn_op ret = tn_world_reference(&ref);
  for (int i = 0; i < (c->pipeline ? 1 : 2); i++) check_one(&ref, ret, c->pipeline ? c->pipeline : both[i]);
  tn_world_fini(&ref);
}
