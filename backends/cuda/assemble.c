/* assemble.c - ptxas found, run on files of its own, and its work kept. Code that it made is found again by
 * the text, the version of ptxas and the flags. */
#include "backends/cuda/assemble.h"
#include "backends/llvm/cache.h"
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

typedef struct job {
  tn_cuda *c;
  const tn_cuda_target *t;
  const char *ptx;
  tn_buf *cubin, *log;
  tn_arena arena;
  const char *ptxas; /* NULL: there is none */
  bool asked;        /* for this very one */
  tn_buf version;    /* what it says of itself */
} job;

static void note(job *j, const char *fmt, ...) TN_PRINTF(2, 3);
static void note(job *j, const char *fmt, ...) {
  char text[512];
  va_list ap;
  va_start(ap, fmt);
  vsnprintf(text, sizeof text, fmt, ap);
  va_end(ap);
  tn_diag d = {.size = sizeof d, .severity = TN_NOTE, .text = tn_str_of(text)};
  if (j->c->host.diag) j->c->host.diag(j->c->host.ctx, NULL, &d);
}

/* ---- finding it ---------------------------------------------------------------------------------------- */

static const char *program(const char *path) {
  return path && !access(path, X_OK) && !tn_path_is_dir(path) ? path : NULL;
}

static const char *in_path(job *j) {
  const char *found = NULL;
  for (const char *p = getenv("PATH"), *end; p && *p && !found; p = *end ? end + 1 : end) {
    end = strchrnul(p, ':');
    if (end > p) found = program(tn_arena_printf(&j->arena, "%.*s/ptxas", (int)(end - p), p));
  }
  return found;
}

/* A file that was named has to be there. */
static tn_status find(job *j, const char *ptxas) {
  static const char *const homes[] = {"CUDA_HOME", "CUDA_PATH"};
  if (!ptxas || !*ptxas) ptxas = getenv("TENON_PTXAS");
  if (ptxas && !strcmp(ptxas, "none")) return TN_OK;
  if (ptxas && *ptxas) {
    j->asked = true;
    j->ptxas = program(ptxas);
    return j->ptxas
               ? TN_OK
               : tn_cuda_fail(j->c, NULL, 0, TN_NOT_FOUND, "ptxas '%s' is not there or cannot be run", ptxas);
  }
  for (size_t i = 0; i < TN_COUNT(homes) && !j->ptxas; i++)
    if (getenv(homes[i])) j->ptxas = program(tn_arena_printf(&j->arena, "%s/bin/ptxas", getenv(homes[i])));
  if (!j->ptxas) j->ptxas = in_path(j);
  return TN_OK;
}

/* ---- running it ---------------------------------------------------------------------------------------- */

/* Files of one run; all are gone afterwards. */
typedef struct files {
  char folder[256], ptx[272], cubin[272], log[272];
} files;

static tn_status files_new(job *j, files *f) {
  const char *base = getenv("TMPDIR");
  if (!base || !*base || strlen(base) > 200) base = "/tmp";
  snprintf(f->folder, sizeof f->folder, "%s/tenon-ptxas-XXXXXX", base);
  if (!mkdtemp(f->folder))
    return tn_cuda_fail(j->c, NULL, 0, TN_UNAVAILABLE, "no folder can be made in '%s': %s", base,
                        strerror(errno));
  snprintf(f->ptx, sizeof f->ptx, "%s/kernels.ptx", f->folder);
  snprintf(f->cubin, sizeof f->cubin, "%s/kernels.cubin", f->folder);
  snprintf(f->log, sizeof f->log, "%s/log", f->folder);
  return TN_OK;
}
static void files_remove(files *f) {
  unlink(f->ptx);
  unlink(f->cubin);
  unlink(f->log);
  rmdir(f->folder);
}

static bool read_file(const char *path, tn_buf *out) {
  tn_file f;
  if (tn_file_map(&f, path, NULL) != TN_OK) return false;
  tn_buf_put(out, f.data, f.size);
  tn_file_unmap(&f);
  return !out->failed;
}

/* Runs it with its words in f->log, which are appended to *words. TN_INTERNAL: it ended with an error. */
static tn_status run(job *j, const char *const *argv, const files *f, tn_buf *words) {
  posix_spawn_file_actions_t actions;
  pid_t child = 0, got;
  int code = 0;
  if (posix_spawn_file_actions_init(&actions)) return TN_OOM;
  int failed = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  if (!failed)
    failed = posix_spawn_file_actions_addopen(&actions, 1, f->log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (!failed) failed = posix_spawn_file_actions_adddup2(&actions, 1, 2);
  if (!failed) failed = posix_spawn(&child, argv[0], &actions, NULL, (char *const *)(uintptr_t)argv, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed)
    return tn_cuda_fail(j->c, NULL, 0, TN_UNAVAILABLE, "'%s' cannot be run: %s", argv[0], strerror(failed));
  do got = waitpid(child, &code, 0);
  while (got < 0 && errno == EINTR);
  if (got != child || !read_file(f->log, words))
    return tn_cuda_fail(j->c, NULL, 0, TN_UNAVAILABLE, "what '%s' said is lost", argv[0]);
  if (WIFSIGNALED(code)) tn_buf_printf(words, "ended by signal %d\n", WTERMSIG(code));
  return code ? TN_INTERNAL : TN_OK;
}

/* "13.0.88" out of its words. */
static const char *release(job *j) {
  const char *at = strstr(tn_buf_cstr(&j->version), ", V");
  int n = 0;
  while (at && (at[3 + n] == '.' || (at[3 + n] >= '0' && at[3 + n] <= '9'))) n++;
  return n ? tn_arena_printf(&j->arena, "%.*s", n, at + 3) : "of unknown version";
}

/* ---- what it says -------------------------------------------------------------------------------------- */

/* The first line of the log that is an error, without the file's name; *number: the line of the text. */
static tn_str first_error(const char *log, unsigned long *number) {
  const char *at = strstr(log, "error   : "), *fatal = strstr(log, "fatal   : ");
  if (!at || (fatal && fatal < at)) at = fatal;
  *number = 0;
  if (!at) return tn_str_of("it does not say why");
  const char *line = at;
  while (line > log && line[-1] != '\n') line--;
  const char *where = strstr(line, ", line ");
  if (where && where < at) *number = strtoul(where + 7, NULL, 10);
  at += strlen("error   : ");
  return (tn_str){at, (uint64_t)(strchrnul(at, '\n') - at)};
}

/* The function that a line of the text belongs to: the last one that begins before it. */
static tn_str function_at(const char *ptx, unsigned long number) {
  static const char mark[] = ".entry ";
  tn_str name = {"", 0};
  for (unsigned long i = 1; *ptx && i <= number; i++) {
    const char *end = strchrnul(ptx, '\n'), *at = memmem(ptx, (size_t)(end - ptx), mark, sizeof mark - 1);
    if (at) {
      at += sizeof mark - 1;
      name = (tn_str){at, strcspn(at, "( \n")};
    }
    ptx = *end ? end + 1 : end;
  }
  return name;
}

/* An old ptxas knows neither new devices nor new PTX. */
static bool too_old(tn_str why) {
  static const char *const signs[] = {"is not defined for option", "Unsupported .version"};
  for (size_t i = 0; i < TN_COUNT(signs); i++)
    if (memmem(why.ptr, why.len, signs[i], strlen(signs[i]))) return true;
  return false;
}

static tn_status refused(job *j) {
  unsigned long line;
  tn_str why = first_error(tn_buf_cstr(j->log), &line);
  if (too_old(why) && !j->asked) {
    note(j, "%s (%s) does not know %s: %.*s; the driver assembles the kernels", j->ptxas, release(j),
         j->t->target.name, (int)why.len, why.ptr);
    return TN_OK;
  }
  tn_str name = function_at(j->ptx, line);
  if (!name.len)
    return tn_cuda_fail(j->c, NULL, 0, TN_INTERNAL, "%s (%s) refuses the kernels for %s: %.*s", j->ptxas,
                        release(j), j->t->target.name, (int)why.len, why.ptr);
  return tn_cuda_fail(j->c, NULL, 0, TN_INTERNAL, "%s (%s) refuses kernel %.*s for %s, line %lu: %.*s",
                      j->ptxas, release(j), (int)name.len, name.ptr, j->t->target.name, line, (int)why.len,
                      why.ptr);
}

static void tell_spills(void *user, const tn_cuda_usage *u) {
  job *j = user;
  if (u->spills)
    note(j, "%s: kernel %s spills %u bytes of registers, it has %u", j->t->target.name, u->function,
         u->spills, u->registers);
}

/* ---- all of it ----------------------------------------------------------------------------------------- */

static tn_status assemble(job *j, const files *f) {
  const char *arch = tn_arena_printf(&j->arena, "-arch=%s", j->t->cpu);
  const char *const argv[] = {j->ptxas, "-v", arch, f->ptx, "-o", f->cubin, NULL};
  tn_outfile o;
  const char *why = "";
  if (!arch) return TN_OOM;
  tn_status s = tn_outfile_open(&o, f->ptx, &why);
  if (s == TN_OK) {
    s = tn_outfile_write(&o, j->ptx, strlen(j->ptx));
    if (s == TN_OK) s = tn_outfile_commit(&o, 0600);
    tn_outfile_abort(&o);
  }
  if (s != TN_OK) return tn_cuda_fail(j->c, NULL, 0, s, "'%s' cannot be written", f->ptx);
  s = run(j, argv, f, j->log);
  if (s == TN_INTERNAL) return refused(j);
  TN_TRY(s);
  tn_cuda_usage_of((tn_str){tn_buf_cstr(j->log), j->log->len}, tell_spills, j);
  if (read_file(f->cubin, j->cubin) && j->cubin->len) return TN_OK;
  return tn_cuda_fail(j->c, NULL, 0, TN_INTERNAL, "%s made no code and no error", j->ptxas);
}

static void key_of(job *j, char key[65]) {
  tn_sha256 s;
  tn_sha256_init(&s);
  tn_sha256_add(&s, tn_buf_cstr(&j->version), j->version.len + 1);
  tn_sha256_add(&s, j->t->cpu, strlen(j->t->cpu) + 1);
  tn_sha256_add(&s, j->ptx, strlen(j->ptx));
  tn_sha256_hex(&s, key);
}

static tn_status make(job *j, files *f, const char *folder) {
  const char *const ask[] = {j->ptxas, "--version", NULL};
  char key[65];
  tn_ll_cache cache;
  tn_status s = run(j, ask, f, &j->version);
  if (s == TN_INTERNAL) s = tn_cuda_fail(j->c, NULL, 0, s, "'%s --version' fails", j->ptxas);
  TN_TRY(s);
  key_of(j, key);
  tn_ll_cache_open(&cache, folder, "cuda");
  bool had = tn_ll_cache_get(&cache, key, j->cubin);
  if (!had) s = assemble(j, f);
  if (s == TN_OK && !had && j->cubin->len)
    tn_ll_cache_put(&cache, key, (tn_bytes){j->cubin->text, j->cubin->len});
  tn_ll_cache_close(&cache, TN_LL_CACHE_BYTES);
  if (s == TN_OK && j->cubin->len)
    note(j, "%s: machine code by %s (%s)%s", j->t->target.name, j->ptxas, release(j),
         had ? ", kept from before" : "");
  return s;
}

static tn_status all(job *j, const char *ptxas, const char *cache) {
  files f;
  TN_TRY(find(j, ptxas));
  if (!j->ptxas) {
    note(j, "%s: no ptxas, so the driver assembles the kernels when they are loaded", j->t->target.name);
    return TN_OK;
  }
  TN_TRY(files_new(j, &f));
  tn_status s = make(j, &f, cache);
  files_remove(&f);
  return s == TN_OK && (j->cubin->failed || j->log->failed) ? TN_OOM : s;
}

tn_status tn_cuda_assemble(tn_cuda *c, const tn_cuda_target *t, const char *ptx, const char *ptxas,
                           const char *cache, tn_buf *cubin, tn_buf *log) {
  job j = {.c = c, .t = t, .ptx = ptx, .cubin = cubin, .log = log};
  tn_arena_init(&j.arena);
  tn_status s = all(&j, ptxas, cache);
  tn_buf_fini(&j.version);
  tn_arena_fini(&j.arena);
  return s;
}
