/* file.c - read-only maps, outputs that appear whole or not at all, and the clock. */
#include "ir/base/base.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const struct {
  int code;
  tn_status status;
  const char *why;
} reasons[] = {
    {ENOENT, TN_NOT_FOUND, "no such file"},
    {ENOTDIR, TN_NOT_FOUND, "no such file: a part of the path is not a directory"},
    {EACCES, TN_UNAVAILABLE, "permission denied"},
    {EPERM, TN_UNAVAILABLE, "operation not permitted"},
    {EISDIR, TN_UNAVAILABLE, "is a directory"},
    {EMFILE, TN_UNAVAILABLE, "too many open files"},
    {ENFILE, TN_UNAVAILABLE, "too many open files in the system"},
    {ENOSPC, TN_UNAVAILABLE, "no space left on the device"},
    {EDQUOT, TN_UNAVAILABLE, "disk quota exceeded"},
    {EFBIG, TN_UNAVAILABLE, "file too large"},
    {EROFS, TN_UNAVAILABLE, "read-only file system"},
    {ENAMETOOLONG, TN_UNAVAILABLE, "the name is too long"},
    {ELOOP, TN_UNAVAILABLE, "too many symbolic links"},
    {EIO, TN_UNAVAILABLE, "input or output error"},
    {ENOMEM, TN_OOM, "out of memory"},
};

static tn_status reason(int code, const char **why) {
  for (size_t i = 0; i < TN_COUNT(reasons); i++) {
    if (reasons[i].code != code) continue;
    *why = reasons[i].why;
    return reasons[i].status;
  }
  *why = "the system refused it";
  return TN_UNAVAILABLE;
}

static tn_status no_memory(const char **why) { return reason(ENOMEM, why); }

tn_status tn_file_map(tn_file *f, const char *path, const char **why) {
  const char *ignored;
  if (!why) why = &ignored;
  *f = (tn_file){.data = (const uint8_t *)"", .fd = -1};
  /* O_NONBLOCK: opening a pipe must not wait for a writer. */
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return reason(errno, why);
  struct stat st;
  tn_status status = TN_OK;
  if (fstat(fd, &st))
    status = reason(errno, why);
  else if (!S_ISREG(st.st_mode)) {
    *why = S_ISDIR(st.st_mode) ? "is a directory" : "not a regular file";
    status = TN_UNAVAILABLE;
  } else if (st.st_size > 0) {
    void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED)
      status = reason(errno, why);
    else
      f->data = p, f->size = (uint64_t)st.st_size;
  }
  if (status)
    close(fd);
  else
    f->fd = fd;
  return status;
}

void tn_file_unmap(tn_file *f) {
  if (f->size) munmap((void *)(uintptr_t)f->data, (size_t)f->size);
  if (f->data && f->fd >= 0) close(f->fd);
  *f = (tn_file){.data = (const uint8_t *)"", .fd = -1};
}

bool tn_path_exists(const char *path) {
  struct stat st;
  return !stat(path, &st);
}

bool tn_path_is_dir(const char *path) {
  struct stat st;
  return !stat(path, &st) && S_ISDIR(st.st_mode);
}

char *tn_path_join(tn_arena *a, const char *dir, const char *name) {
  size_t n = strlen(dir);
  if (!n || name[0] == '/') return tn_arena_str(a, tn_str_of(name));
  return tn_arena_printf(a, "%s%s%s", dir, dir[n - 1] == '/' ? "" : "/", name);
}

static char *heap_str(const char *s, const char *suffix) {
  size_t n = strlen(s), k = strlen(suffix);
  char *p = tn_mem_alloc(n + k + 1);
  if (p) memcpy(p, s, n), memcpy(p + n, suffix, k);
  return p;
}

/* Where the bytes will really land: links are followed, so that the rename does not replace a link. */
static char *target_of(const char *path) {
  char *real = realpath(path, NULL);
  char *copy = heap_str(real ? real : path, "");
  free(real);
  return copy;
}

tn_status tn_outfile_open(tn_outfile *o, const char *path, const char **why) {
  const char *ignored;
  if (!why) why = &ignored;
  *o = (tn_outfile){.fd = -1};
  struct stat st;
  bool there = !stat(path, &st);
  if (there && S_ISDIR(st.st_mode)) return reason(EISDIR, why);
  o->path = target_of(path);
  if (!o->path) return no_memory(why);
  if (there && !S_ISREG(st.st_mode)) { /* a device or pipe is written, never replaced */
    o->fd = open(path, O_WRONLY | O_CLOEXEC);
  } else {
    o->tmp = heap_str(o->path, ".XXXXXX");
    if (!o->tmp) {
      tn_outfile_abort(o);
      return no_memory(why);
    }
    o->fd = mkostemp(o->tmp, O_CLOEXEC);
  }
  if (o->fd >= 0) return TN_OK;
  tn_status status = reason(errno, why);
  tn_mem_free(o->tmp); /* never created: nothing to remove */
  o->tmp = NULL;
  tn_outfile_abort(o);
  return status;
}

tn_status tn_outfile_write(tn_outfile *o, const void *p, uint64_t n) {
  const char *q = p;
  if (o->fd < 0) return TN_PRECONDITION;
  while (n) {
    ssize_t k = write(o->fd, q, n > (1u << 30) ? 1u << 30 : (size_t)n);
    if (k < 0 && errno == EINTR) continue;
    if (k <= 0) return TN_UNAVAILABLE;
    q += k, n -= (uint64_t)k, o->size += (uint64_t)k;
  }
  return TN_OK;
}

bool tn_outfile_seekable(const tn_outfile *o) { return o->tmp != NULL; }

/* Room that is asked for at once is found in one place, and writing to it costs a fraction. */
tn_status tn_outfile_reserve(tn_outfile *o, uint64_t n) {
  if (o->fd < 0) return TN_PRECONDITION;
  bool full = o->tmp && n && fallocate(o->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)n) &&
              (errno == ENOSPC || errno == EDQUOT || errno == EFBIG);
  return full ? TN_UNAVAILABLE : TN_OK;
}

tn_status tn_outfile_extend(tn_outfile *o, uint64_t n) {
  if (o->fd < 0 || !o->tmp) return TN_PRECONDITION;
  o->size += n;
  bool done = !ftruncate(o->fd, (off_t)o->size) && lseek(o->fd, (off_t)o->size, SEEK_SET) >= 0;
  return done ? TN_OK : TN_UNAVAILABLE;
}

tn_status tn_outfile_put(tn_outfile *o, uint64_t at, const void *p, uint64_t n) {
  for (const char *q = p; n;) {
    ssize_t k = pwrite(o->fd, q, n > (1u << 30) ? 1u << 30 : (size_t)n, (off_t)at);
    if (k < 0 && errno == EINTR) continue;
    if (k <= 0) return TN_UNAVAILABLE;
    q += k, at += (uint64_t)k, n -= (uint64_t)k;
  }
  return TN_OK;
}

tn_status tn_outfile_commit(tn_outfile *o, uint32_t mode) {
  if (o->fd < 0) return TN_PRECONDITION;
  bool ok = !o->tmp || !fchmod(o->fd, (mode_t)mode);
  ok &= !close(o->fd); /* a full disk may show only now */
  o->fd = -1;
  if (ok && o->tmp) {
    ok = !rename(o->tmp, o->path);
    if (ok) {
      tn_mem_free(o->tmp);
      o->tmp = NULL;
    }
  }
  tn_outfile_abort(o);
  return ok ? TN_OK : TN_UNAVAILABLE;
}

void tn_outfile_abort(tn_outfile *o) {
  if (o->fd >= 0) close(o->fd);
  if (o->tmp) unlink(o->tmp);
  tn_mem_free(o->tmp);
  tn_mem_free(o->path);
  o->fd = -1;
  o->tmp = o->path = NULL;
}

double tn_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}
