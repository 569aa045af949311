/* backend_dev.c - a device for tests: kernels of the reference in a memory that the host cannot follow.
 * Addresses that it gives out lie in pages without access, one range per device, so that an address that is
 * followed on the wrong side is a fault or an error. Work is done late, when the host waits for it. The
 * environment variable TENON_DEV_CLAIM says which ops it takes: all (the default), odd or even ids, or
 * "not:add,matmul". */
#include "backends/ref/body.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { DEVICES = 2, PAGE = 4096 };
static const uint64_t range_bytes = 1ull << 36; /* of addresses, per device */
static const uint64_t memory_bytes = 1ull << 30;

typedef struct plugin {
  tn_host host;
  tn_ir ir;
} plugin;

/* ---- compile side: an image is the plugin's address, the module's, and the kernels' ids -----------------
 */

typedef struct image {
  char magic[8];
  plugin *self;
  tn_module *m;
  uint64_t target, count;
  uint32_t ops[];
} image;

static const tn_target all_targets[] = {{sizeof(tn_target), 1, "one", "dev", "", 0, 0},
                                        {sizeof(tn_target), 2, "two", "dev", "", 0, 0}};

static tn_status targets(void *self, void (*each)(void *user, const tn_target *t), void *user) {
  (void)self;
  for (size_t i = 0; i < TN_COUNT(all_targets); i++) each(user, &all_targets[i]);
  return TN_OK;
}

static bool listed(const char *list, const char *name) {
  size_t n = strlen(name);
  for (const char *p = list; *p; p += strcspn(p, ","), p += *p == ',')
    if (!strncmp(p, name, n) && (p[n] == ',' || !p[n])) return true;
  return false;
}

static uint32_t claim(void *self, const tn_target *t, tn_module *m, tn_op op, const char **why) {
  const plugin *p = self;
  const char *name = p->ir.opcode_name(p->ir.opcode(m, op)), *mode = getenv("TENON_DEV_CLAIM");
  (void)t;
  if (why) *why = "the test says so";
  if (!name || (!tn_ref_of(name) && strcmp(name, "kernel"))) return 0;
  if (!mode || !strcmp(mode, "all") || !strcmp(name, "kernel")) return 1;
  if (!strcmp(mode, "odd") || !strcmp(mode, "even")) return (op & 1) == (mode[0] == 'o');
  return strncmp(mode, "not:", 4) || !listed(mode + 4, name);
}

static uint32_t fuse(void *self, const tn_target *t, tn_module *m, tn_op root, tn_op op, uint32_t role) {
  (void)root, (void)role;
  return claim(self, t, m, op, NULL);
}

static bool is_ours(const plugin *p, tn_module *m, tn_op op) {
  tn_attr a;
  return !strcmp(p->ir.opcode_name(p->ir.opcode(m, op)), "kernel") && p->ir.op_attr(m, op, "backend", &a) &&
         !strcmp(a.u.s, "dev");
}

static tn_status emit_kernel(plugin *p, tn_module *m, tn_op op, const tn_package_sink *out, tn_buf *bytes) {
  tn_ref_kernel k;
  char symbol[32];
  snprintf(symbol, sizeof symbol, "dev_%u", op);
  tn_status s = tn_ref_kernel_init(&k, &p->ir, m, op);
  tn_kernel_info info = {
      .size = sizeof info, .op = op, .symbol = symbol, .dims = k.symbols.items, .ndims = k.symbols.count};
  if (s == TN_OK) s = out->kernel(out->ctx, &info);
  tn_ref_kernel_fini(&k);
  tn_buf_put(bytes, &op, sizeof op);
  return s;
}

static tn_status compile(void *self, const tn_target *t, tn_module *m, const tn_options *o,
                         const tn_package_sink *out) {
  plugin *p = self;
  tn_buf bytes = {0};
  image head = {.magic = "devimg", .self = p, .m = m, .target = t == NULL || strcmp(t->name, "two") ? 1 : 2};
  tn_status s = TN_OK;
  (void)o;
  tn_buf_put(&bytes, &head, sizeof head);
  for (tn_func f = 1; f <= p->ir.func_count(m); f++)
    for (tn_op op = p->ir.first_op(m, f, 0); op && s == TN_OK; op = p->ir.next_op(m, op))
      if (is_ours(p, m, op)) s = emit_kernel(p, m, op, out, &bytes);
  head.count = (bytes.len - sizeof head) / sizeof(uint32_t);
  if (bytes.failed) s = TN_OOM;
  if (s == TN_OK) memcpy(bytes.text, &head, sizeof head);
  if (s == TN_OK) s = out->image(out->ctx, (tn_bytes){bytes.text, bytes.len});
  tn_buf_fini(&bytes);
  return s;
}

/* ---- devices --------------------------------------------------------------------------------------------
 */

typedef struct block {
  uint64_t at, bytes; /* address, as given out */
  uint8_t *real;
} block;

struct tn_device {
  uint32_t number;
  uint64_t base, next, used;
  pthread_mutex_t lock;
  TN_VEC(block) blocks;
  tn_ref_kernel *kernels;
  uint32_t *ops;
  uint32_t nkernels;
};

enum { WORK_COPY, WORK_ZERO, WORK_KERNEL };
typedef struct work {
  uint32_t kind, kernel, nbufs;
  void *to;
  uint64_t bytes;
  void *data; /* owned: what is copied; addresses; */
  int64_t *dims;
  const char *loc;
} work;

struct tn_queue {
  tn_device *d;
  TN_VEC(work) work;
  TN_VEC(uint64_t) seen; /* hashes of runs */
  const int64_t *numbers;
  uint32_t nnumbers;
  uint64_t run_hash, runs, eager, replayed;
  bool running, failed;
  char error[TN_REF_ERROR + 256];
};

static tn_status say(char *error, uint64_t size, tn_status s, const char *words) {
  if (error && size) snprintf(error, size, "%s", words);
  return s;
}

static void describe(uint32_t i, tn_device_info *out) {
  static const char *const specs[DEVICES] = {"dev:0", "dev:1"}, *const uuids[DEVICES] = {"U-0", "U-1"};
  *out = (tn_device_info){.size = sizeof *out,
                          .spec = specs[i],
                          .name = "a test",
                          .uuid = uuids[i],
                          .arch = "two",
                          .memory = memory_bytes,
                          .free = memory_bytes};
}

static tn_status list(void (*each)(void *user, const tn_device_info *d), void *user, char *error,
                      uint64_t error_size) {
  (void)error, (void)error_size;
  for (uint32_t i = 0; i < DEVICES; i++) {
    tn_device_info info;
    describe(i, &info);
    each(user, &info);
  }
  return TN_OK;
}

static void info(const tn_device *d, tn_device_info *out) { describe(d->number, out); }

static void device_close(tn_device *d) {
  for (uint32_t i = 0; i < d->nkernels; i++) tn_ref_kernel_fini(&d->kernels[i]);
  for (uint32_t i = 0; i < d->blocks.count; i++) munmap(d->blocks.items[i].real, d->blocks.items[i].bytes);
  tn_vec_fini(&d->blocks);
  if (d->base) munmap((void *)(uintptr_t)d->base, range_bytes);
  tn_mem_free(d->kernels);
  tn_mem_free(d->ops);
  tn_mem_free(d);
}

static int number_of(const char *spec) {
  if (!strcmp(spec, "dev")) return 0;
  for (uint32_t i = 0; i < DEVICES; i++) {
    tn_device_info x;
    describe(i, &x);
    if (!strcmp(spec, x.spec) || (!strncmp(spec, "dev:", 4) && !strcmp(spec + 4, x.uuid))) return (int)i;
  }
  return -1;
}

/* Of the images the one for the best target. */
static tn_status open_image(tn_device *d, const tn_bytes *images, uint32_t n) {
  const image *best = NULL;
  for (uint32_t i = 0; i < n; i++) {
    const image *x = images[i].ptr;
    if (images[i].len < sizeof *x || memcmp(x->magic, "devimg", 7)) return TN_DATA_LOSS;
    if (!best || x->target > best->target) best = x;
  }
  if (!best) return TN_NOT_FOUND;
  d->kernels = tn_mem_alloc((best->count + 1) * sizeof *d->kernels);
  d->ops = tn_mem_alloc((best->count + 1) * sizeof *d->ops);
  if (!d->kernels || !d->ops) return TN_OOM;
  for (; d->nkernels < best->count; d->nkernels++) {
    d->ops[d->nkernels] = best->ops[d->nkernels];
    TN_TRY(tn_ref_kernel_init(&d->kernels[d->nkernels], &best->self->ir, best->m, best->ops[d->nkernels]));
  }
  return TN_OK;
}

static tn_status device_open(const tn_bytes *images, uint32_t nimages, const char *spec, tn_device **out,
                             char *error, uint64_t error_size) {
  int number = number_of(spec);
  if (number < 0)
    return say(error, error_size, TN_NOT_FOUND, "there is no such device; there are dev:0, dev:1");
  tn_device *d = tn_mem_alloc(sizeof *d);
  if (!d) return say(error, error_size, TN_OOM, "no memory");
  d->number = (uint32_t)number;
  pthread_mutex_init(&d->lock, NULL);
  void *base = mmap(NULL, range_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  d->base = base == MAP_FAILED ? 0 : (uint64_t)(uintptr_t)base;
  d->next = d->base;
  tn_status s = d->base ? open_image(d, images, nimages) : TN_OOM;
  if (s != TN_OK) return device_close(d), say(error, error_size, s, "the image does not open");
  *out = d;
  return TN_OK;
}

static tn_status find_kernel(tn_device *d, const char *symbol, uint32_t *out) {
  for (*out = 0; *out < d->nkernels; ++*out) {
    char name[32];
    snprintf(name, sizeof name, "dev_%u", d->ops[*out]);
    if (!strcmp(name, symbol)) return TN_OK;
  }
  return TN_NOT_FOUND;
}

/* ---- memory ---------------------------------------------------------------------------------------------
 */

static tn_status device_alloc(tn_device *d, uint64_t bytes, const char *what, void **out, char *error,
                              uint64_t error_size) {
  bytes = tn_align_up(bytes ? bytes : 1, PAGE);
  pthread_mutex_lock(&d->lock);
  bool fits = bytes <= memory_bytes - d->used && d->next + bytes + PAGE <= d->base + range_bytes;
  void *real =
      fits ? mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : MAP_FAILED;
  if (real != MAP_FAILED) {
    block b = {d->next, bytes, real};
    *out = (void *)(uintptr_t)d->next;
    d->next += bytes + PAGE; /* never given out again: old addresses stay wrong */
    d->used += bytes;
    fits = tn_vec_push(&d->blocks, b);
  }
  pthread_mutex_unlock(&d->lock);
  if (real != MAP_FAILED && fits) return TN_OK;
  if (error && error_size)
    snprintf(error, error_size, "no room for %llu bytes of %s", (unsigned long long)bytes, what);
  return TN_OOM;
}

static void device_free(tn_device *d, void *p) {
  pthread_mutex_lock(&d->lock);
  for (uint32_t i = 0; i < d->blocks.count; i++) {
    block *b = &d->blocks.items[i];
    if (b->at != (uint64_t)(uintptr_t)p) continue;
    munmap(b->real, b->bytes);
    d->used -= b->bytes;
    *b = d->blocks.items[--d->blocks.count];
    break;
  }
  pthread_mutex_unlock(&d->lock);
}

/* NULL: no memory of this device. */
static void *real_of(tn_device *d, const void *p, uint64_t bytes) {
  uint64_t at = (uint64_t)(uintptr_t)p;
  for (uint32_t i = 0; i < d->blocks.count; i++) {
    const block *b = &d->blocks.items[i];
    if (at >= b->at && at - b->at < b->bytes && bytes <= b->bytes - (at - b->at))
      return b->real + (at - b->at);
  }
  return NULL;
}

static tn_status device_load(tn_device *d, void *to, const void *from, uint64_t bytes, char *error,
                             uint64_t error_size) {
  void *at = real_of(d, to, bytes);
  if (!at) return say(error, error_size, TN_INVALID, "load: not memory of this device");
  memcpy(at, from, bytes);
  return TN_OK;
}

/* ---- queues ---------------------------------------------------------------------------------------------
 */

static tn_status queue_new(tn_device *d, void *stream, tn_queue **out, char *error, uint64_t error_size) {
  if (stream) return say(error, error_size, TN_INVALID, "the test device has no streams");
  *out = tn_mem_alloc(sizeof **out);
  if (!*out) return say(error, error_size, TN_OOM, "no memory");
  (*out)->d = d;
  return TN_OK;
}

static tn_status fail(tn_queue *q, tn_status s, const char *what, const char *loc) {
  snprintf(q->error, sizeof q->error, "%.*s%s%.100s", TN_REF_ERROR, what, *loc ? " at " : "", loc);
  q->failed = true;
  return s;
}

static tn_status run_kernel(tn_queue *q, const work *w) {
  void *bufs[256];
  char error[TN_REF_ERROR];
  tn_op at;
  void *const *given = w->data;
  if (w->nbufs > TN_COUNT(bufs)) return fail(q, TN_INVALID, "too many buffers", w->loc);
  for (uint32_t i = 0; i < w->nbufs; i++)
    if (!(bufs[i] = real_of(q->d, given[i], 1)))
      return fail(q, TN_INVALID, "not memory of this device", w->loc);
  tn_status s = tn_ref_kernel_run(&q->d->kernels[w->kernel], bufs, w->dims, &at, error);
  return s == TN_OK ? s : fail(q, s, error, w->loc);
}

static tn_status do_work(tn_queue *q, const work *w) {
  if (w->kind == WORK_KERNEL) return run_kernel(q, w);
  void *at = real_of(q->d, w->to, w->bytes);
  if (!at) return fail(q, TN_INVALID, "a copy goes past the device's memory", "");
  if (w->kind == WORK_COPY)
    memcpy(at, w->data, w->bytes);
  else
    memset(at, 0, w->bytes);
  return TN_OK;
}

static tn_status queue_wait(tn_queue *q) {
  tn_status s = q->failed ? TN_INTERNAL : TN_OK;
  for (uint32_t i = 0; i < q->work.count; i++) {
    work *w = &q->work.items[i];
    if (s == TN_OK) s = do_work(q, w);
    tn_mem_free(w->data);
    tn_mem_free(w->dims);
  }
  q->work.count = 0;
  return s;
}

static void queue_free(tn_queue *q) {
  queue_wait(q);
  tn_vec_fini(&q->work);
  tn_vec_fini(&q->seen);
  tn_mem_free(q);
}

static tn_status put(tn_queue *q, work w) {
  if (tn_vec_push(&q->work, w)) return TN_OK;
  tn_mem_free(w.data);
  tn_mem_free(w.dims);
  return fail(q, TN_OOM, "no memory", "");
}

static void *copy_of(const void *p, uint64_t bytes) {
  void *copy = tn_mem_alloc(bytes + 1);
  if (copy && bytes) memcpy(copy, p, bytes);
  return copy;
}

static tn_status upload(tn_queue *q, void *to, const void *from, uint64_t bytes) {
  if (q->running) return fail(q, TN_PRECONDITION, "a copy inside a run", "");
  work w = {.kind = WORK_COPY, .to = to, .bytes = bytes, .data = copy_of(from, bytes)};
  return w.data ? put(q, w) : fail(q, TN_OOM, "no memory", "");
}

static tn_status download(tn_queue *q, void *to, const void *from, uint64_t bytes) {
  if (q->running) return fail(q, TN_PRECONDITION, "a copy inside a run", "");
  TN_TRY(queue_wait(q));
  const void *at = real_of(q->d, from, bytes);
  if (!at) return fail(q, TN_INVALID, "a copy comes from past the device's memory", "");
  memcpy(to, at, bytes);
  return TN_OK;
}

static tn_status zero(tn_queue *q, void *to, uint64_t bytes) {
  return put(q, (work){.kind = WORK_ZERO, .to = to, .bytes = bytes});
}

static tn_status begin(tn_queue *q, const int64_t *numbers, uint32_t nnumbers) {
  if (q->running) return fail(q, TN_PRECONDITION, "a run inside a run", "");
  q->running = true;
  q->run_hash = 1;
  q->numbers = numbers;
  q->nnumbers = nnumbers;
  return TN_OK;
}

static tn_status launch(tn_queue *q, uint32_t kernel, void *const *bufs, uint32_t nbufs, const int64_t *dims,
                        uint32_t ndims, void *scratch, const char *loc) {
  if (!q->running || kernel >= q->d->nkernels) return fail(q, TN_PRECONDITION, "a launch outside a run", loc);
  if (ndims && (dims < q->numbers || dims + ndims > q->numbers + q->nnumbers))
    return fail(q, TN_INVALID, "numbers that are not the run's", loc);
  q->run_hash = tn_hash_bytes(bufs, nbufs * sizeof *bufs, q->run_hash + kernel + (uintptr_t)scratch);
  work w = {.kind = WORK_KERNEL,
            .kernel = kernel,
            .nbufs = nbufs,
            .data = copy_of(bufs, nbufs * sizeof *bufs),
            .dims = copy_of(dims, ndims * sizeof *dims),
            .loc = loc};
  return put(q, w);
}

static tn_status end(tn_queue *q) {
  if (!q->running) return fail(q, TN_PRECONDITION, "an end without a begin", "");
  q->running = false;
  q->runs++;
  for (uint32_t i = 0; i < q->seen.count; i++)
    if (q->seen.items[i] == q->run_hash) return q->replayed++, TN_OK;
  q->eager++;
  return tn_vec_push(&q->seen, q->run_hash) ? TN_OK : TN_OOM;
}

static const char *queue_error(const tn_queue *q) { return q->error; }

static void counts(const tn_queue *q, uint64_t *runs, uint64_t *eager, uint64_t *recorded,
                   uint64_t *replayed) {
  *runs = q->runs, *eager = q->eager, *recorded = q->eager, *replayed = q->replayed;
}

/* ---- the plugin -----------------------------------------------------------------------------------------
 */

static const tn_device_api api = {.size = sizeof api,
                                  .name = "dev",
                                  .list = list,
                                  .open = device_open,
                                  .close = device_close,
                                  .info = info,
                                  .kernel = find_kernel,
                                  .alloc = device_alloc,
                                  .free = device_free,
                                  .load = device_load,
                                  .queue_new = queue_new,
                                  .queue_free = queue_free,
                                  .upload = upload,
                                  .download = download,
                                  .zero = zero,
                                  .begin = begin,
                                  .launch = launch,
                                  .end = end,
                                  .wait = queue_wait,
                                  .error = queue_error,
                                  .counts = counts};

static const tn_device_api *device(void *self) { return (void)self, &api; }

static const tn_backend backend = {.size = sizeof backend,
                                   .name = "dev",
                                   .targets = targets,
                                   .claim = claim,
                                   .fuse = fuse,
                                   .compile = compile,
                                   .device = device};

static tn_status init(const tn_host *host, void **self) {
  plugin *p = tn_mem_alloc(sizeof *p);
  if (!p) return TN_OOM;
  tn_take(&p->host, sizeof p->host, host);
  tn_take(&p->ir, sizeof p->ir, host->ir);
  *self = p;
  return TN_OK;
}
static void fini(void *self) { tn_mem_free(self); }

static const void *table(void *self, const char *kind, uint32_t index) {
  (void)self;
  return !strcmp(kind, "tn.backend/1") && !index ? &backend : NULL;
}

static const tn_plugin plugin_table = {.size = sizeof plugin_table,
                                       .abi = TN_ABI,
                                       .id = "org.tenon.test.dev",
                                       .version = "0.1.0",
                                       .summary = "a device for tests",
                                       .init = init,
                                       .fini = fini,
                                       .table = table};

TN_PLUGIN_ENTRY(dev) {
  if (host_abi >> 16 == TN_ABI_MAJOR) return &plugin_table;
  *why = "the plugin interface has another major version";
  return NULL;
}
