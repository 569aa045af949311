/* folder.c - opening files of a model folder without being led out of it. */
#include "frontend/config/folder.h"
#include <errno.h>
#include <stdlib.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* Without memory of its own: that there is none must not look as if there were no file. */
bool tn_folder_has(const char *folder, const char *name) {
  struct stat st;
  int fd = *folder ? open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC) : AT_FDCWD;
  bool there = (fd >= 0 || fd == AT_FDCWD) && !fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW);
  if (fd >= 0) close(fd);
  return there;
}

/* At most one '/', no empty, "." or ".." part, no backslash or control character. */
static bool is_plain(const char *name) {
  int slashes = 0;
  for (const char *p = name; *p; p++) {
    if (*p == '\\' || (unsigned char)*p < 32 || *p == 127) return false;
    slashes += *p == '/';
  }
  while (*name) {
    size_t n = strcspn(name, "/");
    if (!n || (n == 1 && *name == '.') || (n == 2 && !memcmp(name, "..", 2))) return false;
    if (name[n] == '/' && !name[n + 1]) return false;
    name += n + (name[n] == '/');
  }
  return slashes <= 1;
}

static bool is_inside(const char *path, const char *folder) {
  size_t n = strlen(folder);
  return !strncmp(path, folder, n) && path[n] == '/';
}

/* REPOSITORY/snapshots/REVISION -> REPOSITORY/blobs; NULL when the folder is not one of the cache. */
static const char *blobs_of(tn_arena *a, const char *folder) {
  const char *revision = strrchr(folder, '/');
  static const char middle[] = "/snapshots";
  size_t n = revision ? (size_t)(revision - folder) : 0;
  if (n < sizeof middle || memcmp(revision - (sizeof middle - 1), middle, sizeof middle - 1)) return NULL;
  return tn_arena_printf(a, "%.*s/blobs", (int)(n - (sizeof middle - 1)), folder);
}

static tn_status check_real(tn_arena *a, const char *folder, const char *path, const char *name,
                            tn_diags *diags) {
  char *base = realpath(folder, NULL), *real = base ? realpath(path, NULL) : NULL;
  tn_status status = TN_OK;
  if (!real && errno == ENOENT) {
    status = tn_fail(diags, TN_NOT_FOUND, name, NULL, "no such file in the model folder");
  } else if (!real) {
    status = tn_fail(diags, TN_UNAVAILABLE, name, NULL, "cannot be opened: %s", strerror(errno));
  } else {
    const char *blobs = blobs_of(a, base);
    if (!is_inside(real, base) && !(blobs && is_inside(real, blobs)))
      status = tn_fail(diags, TN_INVALID, name, NULL, "is a link that leads out of the model folder");
  }
  free(real);
  free(base);
  return status;
}

static tn_status map_file(tn_arena *a, const char *folder, const char *name, tn_diags *diags, tn_file *out) {
  const char *why = NULL, *path = tn_path_join(a, folder, name);
  if (!path) return tn_fail(diags, TN_OOM, name, NULL, "out of memory");
  if (!is_plain(name))
    return tn_fail(diags, TN_INVALID, name, NULL, "is not the plain name of a file in the model folder");
  TN_TRY(check_real(a, folder, path, name, diags));
  tn_status s = tn_file_map(out, path, &why);
  return s == TN_OK ? s : tn_fail(diags, s, name, NULL, "cannot be read: %s", why);
}

tn_status tn_folder_map(const char *folder, const char *name, tn_diags *diags, tn_file *out) {
  tn_arena a;
  tn_arena_init(&a);
  *out = (tn_file){.fd = -1};
  tn_status s = map_file(&a, folder, name, diags, out);
  tn_arena_fini(&a);
  return s;
}

tn_status tn_folder_json(tn_arena *arena, const char *folder, const char *name, tn_json_kind kind,
                         tn_diags *diags, tn_json **out) {
  tn_file f;
  TN_TRY(tn_folder_map(folder, name, diags, &f));
  tn_status s = tn_json_parse(arena, (tn_str){(const char *)f.data, f.size}, name, diags, out);
  tn_file_unmap(&f);
  if (s == TN_OK && (*out)->kind != kind)
    s = tn_fail(diags, TN_INVALID, name, NULL, "holds %s where %s is expected",
                tn_json_kind_name((*out)->kind), tn_json_kind_name(kind));
  return s;
}
