/* ptxas.c - see ptxas.h. Packages are put into one PTX text, their names behind a prefix p0_, p1_, ... */
#include "tests/cuda/ptxas.h"
#include "backends/cuda/package.h"
#include "tools/conform/world.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BATCH = 64 };
static tn_buf all;         /* the text so far */
static char *cases[BATCH]; /* behind it */
static uint32_t ncases;
static const char *target_;

/* The PTX of the package, ended by NUL. */
static const char *ptx_of(tn_bytes package) {
  const char *p = package.ptr;
  tn_cuda_package h;
  memcpy(&h, p, sizeof h);
  for (uint32_t i = 0; i < h.images.count; i++) {
    tn_cuda_image image;
    memcpy(&image, p + h.images.offset + i * sizeof image, sizeof image);
    if (image.kind == TN_CUDA_PTX) return p + image.offset;
  }
  tn_trial_fail("a package without PTX");
}

static bool is_new(const char *ptx) {
  static uint64_t seen[4096];
  static uint32_t count;
  uint64_t hash = tn_hash_bytes(ptx, strlen(ptx), 0);
  for (uint32_t i = 0; i < count && i < TN_COUNT(seen); i++)
    if (seen[i] == hash) return false;
  seen[count++ % TN_COUNT(seen)] = hash;
  return true;
}

/* Runs it with `ptx` in a file; what it says, in *words. */
static int assemble(tn_str ptx, tn_buf *words) {
  char file[] = "/tmp/tn-ptxas-XXXXXX", command[512], line[1024];
  int fd = mkstemp(file);
  TN_NEED(fd >= 0 && write(fd, ptx.ptr, ptx.len) == (ssize_t)ptx.len);
  close(fd);
  snprintf(command, sizeof command, "'%s' -v -arch=%s '%s' -o /dev/null 2>&1", getenv("TENON_TEST_PTXAS"),
           target_, file);
  FILE *f = popen(command, "r");
  TN_NEED(f);
  while (fgets(line, sizeof line, f)) tn_buf_puts(words, line);
  int status = pclose(f);
  unlink(file);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The first word about a kernel that is not fine; NULL: all are. */
static const char *complaint(const char *words) {
  static const char begin[] = "Compiling entry function 'p", frame[] = "bytes stack frame";
  if (strstr(words, "C75")) return strstr(words, "C75");
  for (const char *at = words; (at = strstr(at, begin)); at += sizeof begin) {
    const char *next = strstr(at + sizeof begin, begin), *line = strstr(at, frame);
    unsigned stack, stores, loads;
    if (!line || (next && line > next)) return at;
    while (line[-1] != '\n') line--;
    if (sscanf(line, " %u bytes stack frame, %u bytes spill stores, %u bytes spill loads", &stack, &stores,
               &loads) != 3 ||
        stack || stores || loads)
      return at;
  }
  return NULL;
}

static void flush(void) {
  tn_buf words = {0};
  if (!ncases) return;
  int status = assemble((tn_str){all.text, all.len}, &words);
  const char *text = tn_buf_cstr(&words), *at = complaint(text), *name = at ? strstr(at, "'p") : NULL;
  uint32_t i = name ? (uint32_t)strtoul(name + 2, NULL, 10) : 0;
  if (status != 0) tn_trial_fail("ptxas for %s ends with %d:\n%s", target_, status, text);
  if (at) tn_trial_fail("ptxas for %s: %.400s\n%s", target_, at, i < ncases ? cases[i] : "");
  while (ncases) free(cases[--ncases]);
  tn_buf_fini(&words);
  tn_buf_fini(&all);
}

/* Appends the text with its names prefixed, and its header if it is the first. */
static void append(const char *ptx, uint32_t number) {
  static const char last[] = ".address_size 64\n";
  const char *body = strstr(ptx, last);
  TN_NEED(body);
  body += sizeof last - 1;
  if (!all.len) tn_buf_put(&all, ptx, (uint64_t)(body - ptx));
  for (const char *name; (name = strstr(body, "tn_")); body = name + 3) {
    tn_buf_put(&all, body, (uint64_t)(name - body));
    tn_buf_printf(&all, "p%u_tn_", number);
  }
  tn_buf_puts(&all, body);
}

void ptxas_check(tn_bytes package, const char *target, const char *text) {
  const char *ptxas = getenv("TENON_TEST_PTXAS"), *ptx = ptx_of(package);
  if (!ptxas || !*ptxas || !strstr(ptx, ".entry") || !is_new(ptx)) return;
  if (!target_) TN_NEED(atexit(flush) == 0);
  target_ = target;
  append(ptx, ncases);
  cases[ncases++] = strdup(text);
  if (ncases == BATCH) flush();
}
