/* cores.c - processors: those that the affinity mask allows, fewer where a control group gives less time than
 * they have (containers with a CPU limit), because threads beyond that only stop one another. */
#include "backends/runtime/cores.h"
#include "backends/runtime/pool.h"
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { MAX_CORES = 8192, PATH_ROOM = 4096 };
#define SET_BYTES CPU_ALLOC_SIZE(MAX_CORES)

/* ---- control groups ------------------------------------------------------------------------------------ */

static bool read_line(const char *path, char *out, int room) {
  FILE *f = fopen(path, "re");
  bool ok = f && fgets(out, room, f);
  if (f) fclose(f);
  return ok;
}

/* One folder's limit in thousandths of a processor; 0: none. Version 2 has "QUOTA PERIOD" or "max PERIOD" in
 * one file, version 1 two files, -1 for none. */
static uint64_t limit_of(const char *folder, bool v2) {
  char path[PATH_ROOM + 32], line[64] = "";
  long long quota = 0, period = 0;
  snprintf(path, sizeof path, "%s/%s", folder, v2 ? "cpu.max" : "cpu.cfs_quota_us");
  if (!read_line(path, line, sizeof line)) return 0;
  char *end;
  quota = strtoll(line, &end, 10);
  if (!v2) {
    snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
    if (!read_line(path, line, sizeof line)) return 0;
    end = line;
  }
  period = strtoll(end, NULL, 10);
  if (quota <= 0 || period <= 0 || quota > INT64_MAX / 1000) return 0;
  uint64_t share = (uint64_t)quota * 1000 / (uint64_t)period;
  return share ? share : 1;
}

/* The least limit of the group and those around it. A container sees its own group as the root, whatever
 * /proc/self/cgroup calls it: folders that are not there have no limit. */
static uint64_t least_limit(const char *base, const char *group, bool v2) {
  char folder[PATH_ROOM];
  size_t root = strlen(base), length = strlen(group);
  if (root + length >= sizeof folder) return 0;
  memcpy(folder, base, root);
  memcpy(folder + root, group, length + 1);
  for (uint64_t least = 0;;) {
    uint64_t one = limit_of(folder, v2);
    if (one && (!least || one < least)) least = one;
    char *slash = strrchr(folder + root, '/');
    if (!slash) return least;
    *slash = 0;
  }
}

/* "5:cpu,cpuacct:/path" of version 1, "0::/path" of version 2. */
static uint64_t limit_of_line(char *line, const char *mount) {
  line[strcspn(line, "\n")] = 0;
  char *names = strchr(line, ':'), *group = names ? strchr(names + 1, ':') : NULL;
  if (!group) return 0;
  *group++ = 0;
  if (!strcmp(group, "/")) group++;
  if (!names[1]) return least_limit(mount, group, true);
  char base[PATH_ROOM + 8];
  snprintf(base, sizeof base, "%.*s/cpu", PATH_ROOM, mount);
  for (const char *name = names + 1; *name; name += *name == ',') {
    size_t n = strcspn(name, ",");
    if (n == 3 && !memcmp(name, "cpu", 3)) return least_limit(base, group, false);
    name += n;
  }
  return 0;
}

uint32_t tn_cores_quota(const char *self, const char *mount) {
  char line[PATH_ROOM];
  uint64_t least = 0;
  FILE *f = fopen(self, "re");
  while (f && fgets(line, sizeof line, f)) {
    uint64_t one = limit_of_line(line, mount);
    if (one && (!least || one < least)) least = one;
  }
  if (f) fclose(f);
  least = (least + 999) / 1000;
  return least > TN_POOL_MAX_THREADS ? TN_POOL_MAX_THREADS : (uint32_t)least;
}

uint32_t tn_pool_cores(void) {
  cpu_set_t *set = tn_mem_alloc(SET_BYTES);
  int n = set && !sched_getaffinity(0, SET_BYTES, set) ? CPU_COUNT_S(SET_BYTES, set) : 1;
  tn_mem_free(set);
  uint32_t cores = n < 1 ? 1 : n > TN_POOL_MAX_THREADS ? TN_POOL_MAX_THREADS : (uint32_t)n;
  uint32_t quota = tn_cores_quota("/proc/self/cgroup", "/sys/fs/cgroup");
  return quota && quota < cores ? quota : cores;
}

/* ---- staying on one ------------------------------------------------------------------------------------ */

struct tn_cores {
  pthread_t thread;
  cpu_set_t set[]; /* SET_BYTES */
};

static cpu_set_t *set_of(uint32_t core) {
  cpu_set_t *set = core < MAX_CORES ? tn_mem_alloc(SET_BYTES) : NULL;
  if (set) CPU_SET_S(core, SET_BYTES, set);
  return set;
}

tn_status tn_cores_move(uint32_t core, tn_cores **before) {
  if (core >= MAX_CORES) return TN_INVALID;
  cpu_set_t *set = set_of(core);
  tn_cores *b = tn_mem_alloc(sizeof *b + SET_BYTES);
  tn_status status = !set || !b ? TN_OOM : TN_OK;
  if (!status && (sched_getaffinity(0, SET_BYTES, b->set) || sched_setaffinity(0, SET_BYTES, set)))
    status = TN_INVALID;
  tn_mem_free(set);
  if (status) return tn_mem_free(b), status;
  b->thread = pthread_self();
  *before = b;
  return TN_OK;
}

void tn_cores_back(tn_cores *before) {
  if (before && pthread_equal(before->thread, pthread_self())) sched_setaffinity(0, SET_BYTES, before->set);
  tn_mem_free(before);
}

int tn_cores_pin(pthread_attr_t *a, uint32_t core) {
  cpu_set_t *set = set_of(core);
  int error = !set ? EINVAL : pthread_attr_setaffinity_np(a, SET_BYTES, set);
  tn_mem_free(set);
  return error;
}
