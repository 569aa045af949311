/* cache.c - one file per object, named by its key; the time of its last use is the file's time. An entry is
 * written beside its place and renamed, so that others see all of it or nothing, and ends with a sum of its
 * bytes, so that damage is seen. */
#include "backends/llvm/cache.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAGIC "tn-obj\0\1"
#define KEY 64     /* characters */
#define STALE 3600 /* seconds after which the rest of a write that was cut off is removed */

typedef struct trailer {
  char magic[8];
  uint64_t hash; /* of the object, seeded with that of the key */
} trailer;

static uint64_t hash_of(const char *key, tn_bytes object) {
  return tn_hash_bytes(object.ptr, object.len, tn_hash_bytes(key, KEY, 0));
}

/* ---- the folder ---------------------------------------------------------------------------------------- */

/* Makes every folder of a path. */
static void make_folders(char *path) {
  for (char *p = path + 1; *p; p++) {
    if (*p != '/') continue;
    *p = 0;
    mkdir(path, 0700);
    *p = '/';
  }
  mkdir(path, 0700);
}

static bool ours(const char *path) {
  struct stat st;
  return !stat(path, &st) && S_ISDIR(st.st_mode) && st.st_uid == geteuid() && !(st.st_mode & 022);
}

void tn_ll_cache_open(tn_ll_cache *c, const char *folder, const char *room) {
  *c = (tn_ll_cache){0};
  uint64_t n = folder && *folder ? strlen(folder) + strlen(room) + 2 : 0;
  if (!n || !(c->folder = tn_mem_alloc(n))) return;
  snprintf(c->folder, n, "%s/%s", folder, room);
  make_folders(c->folder);
  if (ours(c->folder)) return;
  tn_mem_free(c->folder);
  c->folder = NULL;
}

/* ---- entries ------------------------------------------------------------------------------------------- */

static char *path_of(const tn_ll_cache *c, const char *key) {
  uint64_t n = strlen(c->folder);
  char *path = tn_mem_alloc(n + KEY + 2);
  if (path) snprintf(path, n + KEY + 2, "%s/%s", c->folder, key);
  return path;
}

static bool whole(const char *key, const tn_file *f, tn_bytes *object) {
  trailer end;
  if (f->size < sizeof end) return false;
  *object = (tn_bytes){f->data, f->size - sizeof end};
  memcpy(&end, f->data + object->len, sizeof end);
  return !memcmp(end.magic, MAGIC, sizeof end.magic) && end.hash == hash_of(key, *object);
}

bool tn_ll_cache_get(tn_ll_cache *c, const char *key, tn_buf *out) {
  tn_file f;
  tn_bytes object;
  char *path = c->folder ? path_of(c, key) : NULL;
  bool there = path && tn_file_map(&f, path, NULL) == TN_OK, fine = there && whole(key, &f, &object);
  if (fine) {
    futimens(f.fd, NULL);
    tn_buf_put(out, object.ptr, object.len);
    fine = !out->failed;
  }
  if (there) tn_file_unmap(&f);
  tn_mem_free(path);
  return fine;
}

void tn_ll_cache_put(tn_ll_cache *c, const char *key, tn_bytes object) {
  trailer end = {.hash = hash_of(key, object)};
  tn_outfile o;
  char *path = c->folder ? path_of(c, key) : NULL;
  if (path && tn_outfile_open(&o, path, NULL) == TN_OK) {
    memcpy(end.magic, MAGIC, sizeof end.magic);
    if (!tn_outfile_write(&o, object.ptr, object.len) && !tn_outfile_write(&o, &end, sizeof end) &&
        !tn_outfile_commit(&o, 0600))
      __atomic_fetch_add(&c->stored, 1, __ATOMIC_RELAXED);
    tn_outfile_abort(&o);
  }
  tn_mem_free(path);
}

/* ---- what is too much ---------------------------------------------------------------------------------- */

typedef struct entry {
  char name[KEY + 1];
  uint64_t bytes;
  struct timespec used;
} entry;

static int by_use(const void *a, const void *b) {
  const entry *x = a, *y = b;
  if (x->used.tv_sec != y->used.tv_sec) return x->used.tv_sec < y->used.tv_sec ? -1 : 1;
  if (x->used.tv_nsec != y->used.tv_nsec) return x->used.tv_nsec < y->used.tv_nsec ? -1 : 1;
  return strcmp(x->name, y->name);
}

typedef struct listing {
  TN_VEC(entry) entries;
  uint64_t bytes;
} listing;

static void list(listing *l, DIR *dir) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  for (struct dirent *d; (d = readdir(dir));) {
    struct stat st;
    if (d->d_name[0] == '.' || fstatat(dirfd(dir), d->d_name, &st, AT_SYMLINK_NOFOLLOW)) continue;
    if (strlen(d->d_name) != KEY) {
      if (now.tv_sec - st.st_mtim.tv_sec > STALE) unlinkat(dirfd(dir), d->d_name, 0);
      continue;
    }
    entry e = {.bytes = (uint64_t)st.st_size, .used = st.st_mtim};
    memcpy(e.name, d->d_name, KEY);
    if (tn_vec_push(&l->entries, e)) l->bytes += e.bytes;
  }
}

/* A quarter goes at once, so that the next compiles need not. */
static void trim(const char *folder, uint64_t limit) {
  listing l = {0};
  DIR *dir = opendir(folder);
  if (!dir) return;
  list(&l, dir);
  if (l.bytes > limit) {
    qsort(l.entries.items, l.entries.count, sizeof *l.entries.items, by_use);
    for (uint32_t i = 0; i < l.entries.count && l.bytes > limit - limit / 4; i++) {
      unlinkat(dirfd(dir), l.entries.items[i].name, 0);
      l.bytes -= l.entries.items[i].bytes;
    }
  }
  tn_vec_fini(&l.entries);
  closedir(dir);
}

void tn_ll_cache_close(tn_ll_cache *c, uint64_t limit) {
  if (c->folder && c->stored) trim(c->folder, limit);
  tn_mem_free(c->folder);
  *c = (tn_ll_cache){0};
}
