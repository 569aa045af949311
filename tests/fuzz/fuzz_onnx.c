/* fuzz_onnx.c - any bytes as an ONNX file: it becomes a module that verifies, or an error says why not. The
 * mutator knows protobuf: it takes a message apart along a random path, changes one field there - drops,
 * doubles, moves or rewrites it - and writes all lengths around it anew, so that most inputs get past the
 * decoder. */
#include "tools/driver/driver.h"
#include "ir/ir.h"
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t room) __attribute__((weak));

/* ---- the wire format --------------------------------------------------------------------------------------
 */
enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5, MAX_FIELDS = 256, MAX_DEPTH = 12 };

typedef struct field {
  size_t at, body, end; /* the key, the value behind key and length, one past it */
  unsigned wire;
} field;

static bool read_varint(const uint8_t *p, size_t end, size_t *at, uint64_t *v) {
  *v = 0;
  for (unsigned shift = 0; shift < 64 && *at < end; shift += 7) {
    uint8_t byte = p[(*at)++];
    *v |= (uint64_t)(byte & 127) << shift;
    if (byte < 128) return true;
  }
  return false;
}

/* The fields of a message; 0 when the bytes are none. */
static size_t split(const uint8_t *p, size_t at, size_t end, field *out) {
  size_t n = 0;
  while (at < end && n < MAX_FIELDS) {
    field f = {.at = at};
    uint64_t key, length = 0;
    if (!read_varint(p, end, &at, &key) || !key) return 0;
    f.wire = key & 7;
    if (f.wire == VARINT) {
      f.body = at;
      if (!read_varint(p, end, &at, &length)) return 0;
    } else {
      if (f.wire == BYTES && !read_varint(p, end, &at, &length)) return 0;
      if (f.wire == FIXED32) length = 4;
      if (f.wire == FIXED64) length = 8;
      if ((f.wire != BYTES && f.wire != FIXED32 && f.wire != FIXED64) || length > end - at) return 0;
      f.body = at;
      at += length;
    }
    f.end = at;
    out[n++] = f;
  }
  return n;
}

static void put_varint(tn_buf *out, uint64_t v) {
  uint8_t byte;
  for (; v >= 128; v >>= 7) byte = (uint8_t)(v | 128), tn_buf_put(out, &byte, 1);
  byte = (uint8_t)v;
  tn_buf_put(out, &byte, 1);
}

static unsigned next_random(unsigned *seed) { return *seed = *seed * 1664525u + 1013904223u, *seed >> 8; }

static void put_key(tn_buf *out, const uint8_t *p, const field *f) {
  size_t at = f->at;
  uint64_t key;
  read_varint(p, f->end, &at, &key);
  put_varint(out, key);
}

/* The value of f, changed. */
static void put_changed(tn_buf *out, const uint8_t *p, const field *f, unsigned *seed) {
  static const uint64_t odd[] = {0,   1,   2,     3,         7,          8,         16,
                                 127, 255, 65535, INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX};
  put_key(out, p, f);
  if (f->wire == VARINT) {
    size_t at = f->body;
    uint64_t v;
    read_varint(p, f->end, &at, &v);
    put_varint(out, next_random(seed) % 3 ? v + next_random(seed) % 5 - 2
                                          : odd[next_random(seed) % TN_COUNT(odd)]);
    return;
  }
  size_t n = f->end - f->body;
  uint8_t value[4096];
  if (n > sizeof value / 2 || f->wire != BYTES || !LLVMFuzzerMutate) {
    if (f->wire == BYTES) put_varint(out, n);
    tn_buf_put(out, p + f->body, n);
    return;
  }
  memcpy(value, p + f->body, n);
  n = LLVMFuzzerMutate(value, n, sizeof value);
  put_varint(out, n);
  tn_buf_put(out, value, n);
}

/* Writes the message [at, end) with one field of it, or of a message in it, changed. */
static void mutate(const uint8_t *p, size_t at, size_t end, unsigned depth, unsigned *seed, tn_buf *out) {
  field fields[MAX_FIELDS], inner[MAX_FIELDS];
  size_t n = split(p, at, end, fields), chosen = n ? next_random(seed) % n : 0;
  unsigned what = next_random(seed) % 8;
  if (!n) {
    tn_buf_put(out, p + at, end - at);
    return;
  }
  const field *c = &fields[chosen];
  bool deeper =
      c->wire == BYTES && depth < MAX_DEPTH && split(p, c->body, c->end, inner) && next_random(seed) % 8;
  for (size_t i = 0; i < n; i++) {
    const field *f = &fields[i];
    if (i != chosen) {
      tn_buf_put(out, p + f->at, f->end - f->at);
    } else if (deeper) {
      tn_buf nested = {0};
      mutate(p, f->body, f->end, depth + 1, seed, &nested);
      put_key(out, p, f);
      put_varint(out, nested.len);
      tn_buf_put(out, nested.text, nested.len);
      tn_buf_fini(&nested);
    } else if (what == 0) { /* twice */
      tn_buf_put(out, p + f->at, f->end - f->at);
      tn_buf_put(out, p + f->at, f->end - f->at);
    } else if (what == 1) { /* another field of this message instead */
      const field *g = &fields[next_random(seed) % n];
      tn_buf_put(out, p + g->at, g->end - g->at);
    } else if (what != 2) { /* 2: dropped */
      put_changed(out, p, f, seed);
    }
  }
  if (fields[n - 1].end < end) tn_buf_put(out, p + fields[n - 1].end, end - fields[n - 1].end);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned seed) {
  tn_buf out = {0};
  field fields[MAX_FIELDS];
  if (seed % 16 == 0 || !split(data, 0, size, fields)) return LLVMFuzzerMutate(data, size, room);
  mutate(data, 0, size, 0, &seed, &out);
  size_t n = out.failed || out.len > room ? size : out.len;
  if (n == out.len && n) memcpy(data, out.text, n);
  tn_buf_fini(&out);
  return n;
}

/* ---- the target -------------------------------------------------------------------------------------------
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char path[40], link[40];
  tn_diags diags;
  tn_driver driver;
  tn_driver_options options = {.backend = "ref", .pipeline = "O0"};
  tn_module *m = NULL;
  int fd = memfd_create("fuzz", MFD_CLOEXEC);
  if (fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  snprintf(link, sizeof link, "/tmp/fuzz-%d.onnx", (int)getpid());
  unlink(link);
  if (symlink(path, link)) abort();
  tn_diags_init(&diags);
  if (tn_driver_init(&driver, &options, &diags) != TN_OK) abort();
  tn_status s = tn_driver_load(&driver, link, &m);
  if ((s == TN_OK) != (diags.errors == 0)) abort();
  if (s == TN_OK && tn_module_verify(m) != TN_OK) abort();
  tn_module_free(m);
  tn_driver_fini(&driver);
  tn_diags_fini(&diags);
  unlink(link);
  close(fd);
  return 0;
}
