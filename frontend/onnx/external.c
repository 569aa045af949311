/* external.c - data files beside a model. A model comes from anywhere, so the name it gives may only lead to
 * a plain file inside its folder: relative, without "..", no link on the way, and no second name for the file
 * elsewhere. */
#include "frontend/onnx/model.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct tn_ox_external {
  tn_bytes data;
  const char *why; /* NULL: open */
};

static bool plain(const char *location, const char **why) {
  *why = NULL;
  if (!*location) *why = "the name is empty";
  if (*location == '/' || strchr(location, '\\'))
    *why = "the name must be relative, with '/' between folders";
  for (const char *s = location; *s && !*why;) {
    size_t n = strcspn(s, "/");
    if (!n) *why = "a part of the name is empty";
    if (n == 2 && s[0] == '.' && s[1] == '.') *why = "the name leads out of the model's folder";
    s += n + (s[n] == '/');
    if (s[-1] == '/' && !*s) *why = "the name is that of a folder";
  }
  return !*why;
}

/* Opens folder by folder, so that nothing on the way is a link. -1: *why. */
static int open_inside(tn_ox_model *x, const char *location, const char **why) {
  int at = open(x->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  *why = "no such file, or a link";
  for (const char *s = location; at >= 0 && *s;) {
    size_t n = strcspn(s, "/");
    char part[256];
    bool last = !s[n];
    int next = -1;
    if (n < sizeof part) {
      memcpy(part, s, n);
      part[n] = 0;
      next = openat(at, part, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | (last ? O_NONBLOCK : O_DIRECTORY));
    }
    close(at);
    at = next;
    s += n + !last;
  }
  return at;
}

static const char *map_fd(int fd, tn_bytes *out) {
  struct stat st;
  if (fstat(fd, &st)) return "the system refused it";
  if (!S_ISREG(st.st_mode)) return "it is not a regular file";
  if (st.st_nlink > 1) return "the file has other names (hard links)";
  *out = (tn_bytes){"", (uint64_t)st.st_size};
  if (!st.st_size) return NULL;
  void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (p == MAP_FAILED) return "it cannot be mapped";
  out->ptr = p;
  return NULL;
}

static struct tn_ox_external *open_external(tn_ox_model *x, const char *location) {
  struct tn_ox_external *e = tn_arena_alloc(&x->arena, sizeof *e);
  if (!e || !plain(location, &e->why)) return e;
  int fd = open_inside(x, location, &e->why);
  if (fd < 0) return e;
  e->why = map_fd(fd, &e->data);
  close(fd);
  return e;
}

tn_status tn_ox_external_map(tn_ox_model *x, const char *location, tn_bytes *out, const char **why) {
  uint64_t i;
  if (!tn_map_get(&x->external, tn_str_of(location), &i)) {
    struct tn_ox_external *e = open_external(x, location);
    i = x->externals.count;
    if (!e || !tn_vec_push(&x->externals, e) || tn_map_put(&x->external, tn_str_of(location), i, NULL)) {
      *why = "out of memory";
      return TN_OOM;
    }
  }
  const struct tn_ox_external *e = x->externals.items[i];
  *out = e->data;
  if (!e->why) return TN_OK;
  *why = tn_ox_words(x, "external data '%.200s': %s", location, e->why);
  return TN_INVALID;
}

void tn_ox_external_close(tn_ox_model *x) {
  for (uint32_t i = 0; i < x->externals.count; i++) {
    struct tn_ox_external *e = x->externals.items[i];
    if (!e->why && e->data.len) munmap((void *)(uintptr_t)e->data.ptr, e->data.len);
  }
  tn_vec_fini(&x->externals);
}
