/* run.c - the report of a command that takes a model through a pipeline and writes something of it. */
#include "tools/report/attention.h"
#include <dirent.h>
#include <math.h>
#include <sys/stat.h>

tn_report *tn_report_begin(tn_driver *d, const char *command, const tn_args *a) {
  tn_report *r = a->given[OPT_report] ? tn_arena_alloc(&d->arena, sizeof *r) : NULL;
  if (r) tn_report_init(r, command, a);
  return r;
}

void tn_report_passes(tn_report *r, const tn_pipeline_run *run, tn_module *m) {
  if (r) tn_report_fusions(r, run->fusions.items, run->fusions.count, m);
}

static uint64_t file_bytes(const char *path, const char *ending) {
  struct stat st;
  char name[4096];
  int n = snprintf(name, sizeof name, "%s%s", path, ending);
  return n > 0 && n < (int)sizeof name && !stat(name, &st) && S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
}

/* Of a folder its weights; of a file also what lies beside it. */
static uint64_t model_bytes(const char *path) {
  if (!tn_path_is_dir(path)) return file_bytes(path, "") + file_bytes(path, ".data");
  uint64_t total = 0;
  DIR *dir = opendir(path);
  for (struct dirent *e; dir && (e = readdir(dir));) {
    tn_str name = tn_str_of(e->d_name);
    char file[4096];
    int n = snprintf(file, sizeof file, "%s/%s", path, e->d_name);
    bool weights =
        tn_str_ends(name, ".safetensors") || tn_str_ends(name, ".onnx") || tn_str_ends(name, ".data");
    if (weights && n > 0 && n < (int)sizeof file) total += file_bytes(file, "");
  }
  if (dir) closedir(dir);
  return total;
}

static const char *format_of(const char *path) {
  const char *slash = strrchr(path, '/'), *dot = strrchr(slash ? slash : path, '.');
  return tn_path_is_dir(path) || !dot ? "folder" : dot + 1;
}

tn_status tn_report_finish(tn_report *r, tn_driver *d, const tn_args *a, const char *in, const char *out) {
  if (!r) return TN_OK;
  tn_report_model(r, "before", in, format_of(in), model_bytes(in), NAN);
  if (out) tn_report_model(r, "after", out, format_of(out), model_bytes(out), NAN);
  for (uint32_t i = 0; i < d->phases.count; i++)
    tn_report_phase(r, d->phases.items[i].name, d->phases.items[i].seconds);
  tn_status s = tn_report_attention_asked(r, a, in, d->diags);
  return s == TN_OK ? tn_report_write(r, a->last[OPT_report], d->diags) : s;
}

void tn_report_drop(tn_report *r) {
  if (r) tn_report_fini(r);
}
