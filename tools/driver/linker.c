/* linker.c - the system's linker as a child process, started without a shell. The C library is given by the
 * path of the one that is loaded, libc.so.6, so that no development package is needed. */
#include "tools/driver/linker.h"
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* ---- temporary files ----------------------------------------------------------------------------------- */

tn_status tn_tempdir_open(tn_tempdir *t, tn_diags *diags) {
  const char *base = getenv("TMPDIR");
  memset(t, 0, sizeof *t);
  int n = snprintf(t->path, sizeof t->path, "%s/tenon-XXXXXX", base && *base ? base : "/tmp");
  if (n > 0 && (size_t)n < sizeof t->path && mkdtemp(t->path)) return TN_OK;
  tn_status status = tn_fail(diags, TN_UNAVAILABLE, t->path, NULL,
                             "cannot make a folder for temporary files: %s", strerror(errno));
  t->path[0] = 0;
  return status;
}

static bool write_all(const char *path, tn_bytes bytes) {
  FILE *f = fopen(path, "wbe");
  if (!f) return false;
  bool ok = !bytes.len || fwrite(bytes.ptr, bytes.len, 1, f) == 1;
  return !fclose(f) && ok;
}

const char *tn_tempdir_file(tn_tempdir *t, const char *name, tn_bytes bytes, tn_diags *diags) {
  size_t n = strlen(t->path) + strlen(name) + 2;
  char *path = tn_mem_alloc(n);
  if (!path || !tn_vec_push(&t->files, path)) {
    tn_mem_free(path);
    tn_fail(diags, TN_OOM, NULL, NULL, "no memory");
    return NULL;
  }
  snprintf(path, n, "%s/%s", t->path, name);
  if (!bytes.ptr || write_all(path, bytes)) return path;
  tn_fail(diags, TN_UNAVAILABLE, path, NULL, "cannot write: %s", strerror(errno));
  return NULL;
}

void tn_tempdir_close(tn_tempdir *t) {
  for (uint32_t i = 0; i < t->files.count; i++) {
    unlink(t->files.items[i]);
    tn_mem_free(t->files.items[i]);
  }
  tn_vec_fini(&t->files);
  if (t->path[0]) rmdir(t->path);
}

/* ---- finding ------------------------------------------------------------------------------------------- */

static const char *const linkers[] = {"ld.lld-22", "ld.lld", "ld", "cc"};
static const char *const folders[] = {"/usr/lib/llvm-22/bin", "/usr/bin"};

static char *executable(tn_arena *a, tn_str folder, const char *name) {
  char *path = tn_arena_printf(a, "%.*s/%s", (int)folder.len, folder.ptr, name);
  return path && !access(path, X_OK) && !tn_path_is_dir(path) ? path : NULL;
}

static char *find_program(tn_arena *a, const char *name) {
  if (strchr(name, '/')) return access(name, X_OK) ? NULL : tn_arena_str(a, tn_str_of(name));
  for (const char *p = getenv("PATH"); p && *p;) {
    tn_str folder = {p, strcspn(p, ":")};
    char *path = folder.len ? executable(a, folder, name) : NULL;
    if (path) return path;
    p += folder.len + (p[folder.len] == ':');
  }
  for (size_t i = 0; i < TN_COUNT(folders); i++) {
    char *path = executable(a, tn_str_of(folders[i]), name);
    if (path) return path;
  }
  return NULL;
}

static char *find_linker(tn_arena *a, const char *wanted, tn_diags *diags) {
  char *path = wanted ? find_program(a, wanted) : NULL;
  for (size_t i = 0; !wanted && !path && i < TN_COUNT(linkers); i++) path = find_program(a, linkers[i]);
  if (path) return path;
  if (wanted)
    tn_fail(diags, TN_NOT_FOUND, wanted, NULL, "no such linker");
  else
    tn_fail(diags, TN_NOT_FOUND, NULL, NULL,
            "no linker found: looked for ld.lld-22, ld.lld, ld and cc on PATH; install lld or binutils, or "
            "name one by --linker");
  return NULL;
}

static int note_libc(struct dl_phdr_info *info, size_t size, void *user) {
  (void)size;
  const char **out = user;
  if (info->dlpi_name && tn_str_ends(tn_str_of(info->dlpi_name), "/libc.so.6")) *out = info->dlpi_name;
  return *out != NULL;
}

/* libc.so.6, libm.so.6 and, for thread-local variables, the loader. */
static uint32_t find_libraries(tn_arena *a, const char **out, uint32_t room) {
  static const char *const names[] = {"libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2"};
  const char *loaded = NULL, *slash;
  dl_iterate_phdr(note_libc, &loaded);
  slash = loaded ? strrchr(loaded, '/') : NULL;
  const char *places[] = {slash ? tn_arena_str(a, (tn_str){loaded, (uint64_t)(slash - loaded)}) : NULL,
                          "/lib/x86_64-linux-gnu",
                          "/lib64",
                          "/usr/lib64",
                          "/usr/lib",
                          "/lib"};
  uint32_t count = 0;
  for (size_t n = 0; n < TN_COUNT(names); n++)
    for (size_t i = 0; i < TN_COUNT(places) && count < room; i++) {
      char *path = places[i] ? tn_path_join(a, places[i], names[n]) : NULL;
      if (!path || !tn_path_exists(path)) continue;
      out[count++] = path;
      break;
    }
  return count;
}

/* ---- running ------------------------------------------------------------------------------------------- */

static tn_status spawn(char *const *argv, const char *log, int *code) {
  posix_spawn_file_actions_t actions;
  pid_t child;
  if (posix_spawn_file_actions_init(&actions)) return TN_OOM;
  int failed = posix_spawn_file_actions_addopen(&actions, 2, log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (!failed) failed = posix_spawn_file_actions_adddup2(&actions, 2, 1);
  if (!failed) failed = posix_spawn(&child, argv[0], &actions, NULL, argv, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed) return TN_UNAVAILABLE;
  pid_t got;
  do got = waitpid(child, code, 0);
  while (got < 0 && errno == EINTR);
  return got == child ? TN_OK : TN_UNAVAILABLE;
}

static tn_status refused(const char *linker, const char *log, int code, tn_diags *diags) {
  tn_file f;
  int shown = 0;
  const char *text = "";
  bool mapped = !tn_file_map(&f, log, NULL);
  if (mapped) text = (const char *)f.data, shown = f.size > 3000 ? 3000 : (int)f.size;
  while (shown && text[shown - 1] == '\n') shown--;
  tn_status status = WIFEXITED(code)
                         ? tn_fail(diags, TN_INTERNAL, linker, NULL, "the linker failed with status %d: %.*s",
                                   WEXITSTATUS(code), shown, text)
                         : tn_fail(diags, TN_INTERNAL, linker, NULL,
                                   "the linker was ended by signal %d: %.*s", WTERMSIG(code), shown, text);
  if (mapped) tn_file_unmap(&f);
  return status;
}

/* A compiler driver takes linker options behind -Xlinker and must not add start files of its own. */
static bool is_driver(const char *linker) {
  const char *slash = strrchr(linker, '/');
  tn_str base = tn_str_of(slash ? slash + 1 : linker);
  return !tn_str_starts(base, "ld") && !tn_str_ends(base, "-ld") && !tn_str_starts(base, "mold");
}

static tn_status run(const char *linker, const tn_link_args *args, const char *output, tn_arena *a,
                     tn_tempdir *temp, tn_diags *diags) {
  const char *libraries[3], *log = tn_tempdir_file(temp, "linker.log", (tn_bytes){0}, diags);
  uint32_t nlibraries = find_libraries(a, libraries, TN_COUNT(libraries)), n = 0;
  bool driver = is_driver(linker);
  const char **argv = tn_arena_alloc(a, (16 + 2 * ((size_t)args->count + nlibraries)) * sizeof *argv);
  if (!log || !argv) return TN_OOM;
  if (nlibraries < 2)
    return tn_fail(diags, TN_NOT_FOUND, NULL, NULL,
                   "libc.so.6 and libm.so.6 were not found beside the C library that is loaded");
  argv[n++] = linker;
  argv[n++] = "-shared";
  if (driver) argv[n++] = "-nostdlib";
  argv[n++] = "-o";
  argv[n++] = output;
  for (uint32_t i = 0; i < args->count; i++) {
    if (driver && args->items[i][0] == '-') argv[n++] = "-Xlinker";
    argv[n++] = args->items[i];
  }
  if (driver) argv[n++] = "-Xlinker";
  argv[n++] = "--as-needed";
  for (uint32_t i = 0; i < nlibraries; i++) argv[n++] = libraries[i];
  argv[n] = NULL;
  int code = 0;
  tn_status status = spawn((char *const *)(uintptr_t)argv, log, &code);
  if (status) return tn_fail(diags, status, linker, NULL, "the linker could not be started");
  return code ? refused(linker, log, code, diags) : TN_OK;
}

tn_status tn_linker_run(const char *linker, const tn_link_args *args, const char *output, tn_tempdir *temp,
                        tn_diags *diags) {
  tn_arena a;
  tn_arena_init(&a);
  const char *path = find_linker(&a, linker, diags);
  tn_status status = path ? run(path, args, output, &a, temp, diags) : TN_NOT_FOUND;
  tn_arena_fini(&a);
  return status;
}
