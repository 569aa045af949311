/* test_run.c - tn_device_api over the fake driver, whose streams run as late as they may: memory, queues, the
 * launches of a run, graphs, streams of the caller's, two devices, and what is said when something fails.
 * Check runs each test in a process of its own, so each has its own driver. */
#include "backends/cuda/run/device.h"
#include "backends/cuda/run/driver.h"
#include "tests/cuda/toy.h"
#include "tests/ptx/tensor_map.h"
#include <check.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static const tn_device_api *const api = &tn_cuda_device_api;
static char words[2048];

/* The run side finds this driver by its name once it is loaded. */
static void driver(const char *settings) {
  setenv("TENON_FAKE_CUDA", settings, 1);
  ck_assert_msg(dlopen(FAKE_CUDA, RTLD_NOW | RTLD_LOCAL) != NULL, "%s", dlerror());
}

/* ---- a device with the toy package --------------------------------------------------------------------- */

typedef struct bench {
  tn_bytes package;
  tn_device *device;
  tn_queue *queue;
  uint32_t *x, *y; /* on the device: N elements each */
} bench;
enum { N = 256 };

static void *take(tn_device *d, uint64_t bytes) {
  void *p = NULL;
  ck_assert_msg(api->alloc(d, bytes, "a test", &p, words, sizeof words) == TN_OK, "%s", words);
  return p;
}
static void bench_open(bench *b, const char *spec, uint32_t cc) {
  b->package = toy_package(cc);
  ck_assert_msg(api->open(&b->package, 1, spec, &b->device, words, sizeof words) == TN_OK, "%s", words);
  ck_assert_msg(api->queue_new(b->device, NULL, &b->queue, words, sizeof words) == TN_OK, "%s", words);
  b->x = take(b->device, N * 4);
  b->y = take(b->device, N * 4);
}
static void bench_close(bench *b) {
  api->queue_free(b->queue);
  api->free(b->device, b->x);
  api->free(b->device, b->y);
  api->close(b->device);
  free((void *)b->package.ptr);
}
#define OK(q, call) ck_assert_msg((call) == TN_OK, "%s: %s", #call, api->error(q))

static uint32_t kernel(bench *b, const char *symbol) {
  uint32_t k = 0;
  ck_assert_int_eq(api->kernel(b->device, symbol, &k), TN_OK);
  return k;
}
/* add, twice and few take two buffers and two numbers, map and inner two and one, the others one of each; x
 * is scratch as well. */
static tn_status put(bench *b, const char *symbol, const int64_t *dims) {
  void *both[] = {b->x, b->y};
  bool adds = !strcmp(symbol, "add") || !strcmp(symbol, "twice") || !strcmp(symbol, "few");
  bool one = !adds && strcmp(symbol, "map") && strcmp(symbol, "inner");
  return api->launch(b->queue, kernel(b, symbol), both + one, 2 - one, dims, 1 + adds, b->x, "toy:7");
}
/* One launch as a run. */
static tn_status run(bench *b, const char *symbol, int64_t n, int64_t a) {
  int64_t numbers[] = {n, a};
  tn_status s = api->begin(b->queue, numbers, 2);
  if (s == TN_OK) s = put(b, symbol, numbers);
  return s == TN_OK ? api->end(b->queue) : s;
}
static uint32_t at(bench *b, uint32_t i) {
  uint32_t v = 0;
  OK(b->queue, api->download(b->queue, &v, b->y + i, sizeof v));
  return v;
}
static void counts(bench *b, uint64_t runs, uint64_t eager, uint64_t recorded, uint64_t replayed) {
  uint64_t n[4];
  api->counts(b->queue, n, n + 1, n + 2, n + 3);
  ck_assert_uint_eq(n[0], runs);
  ck_assert_uint_eq(n[1], eager);
  ck_assert_uint_eq(n[2], recorded);
  ck_assert_uint_eq(n[3], replayed);
}
static void says(const char *text, const char *what) {
  ck_assert_msg(strstr(text, what) != NULL, "'%s' is not in: %s", what, text);
}

/* ---- devices and memory -------------------------------------------------------------------------------- */

static void each_device(void *user, const tn_device_info *d) {
  uint32_t *n = user;
  char spec[16];
  snprintf(spec, sizeof spec, "cuda:%u", (*n)++);
  ck_assert_str_eq(d->spec, spec);
  ck_assert_str_eq(d->arch, "sm_89");
  ck_assert_uint_eq(d->memory, 3ull << 30);
  ck_assert_uint_eq(strlen(d->uuid), 40);
}
START_TEST(devices) {
  uint32_t n = 0;
  driver("devices=2,sm=89,memory=3G");
  ck_assert_int_eq(api->list(each_device, &n, words, sizeof words), TN_OK);
  ck_assert_uint_eq(n, 2);
  bench b;
  tn_device_info i;
  bench_open(&b, "cuda:1", 80);
  api->info(b.device, &i);
  ck_assert_str_eq(i.spec, "cuda:1");
  ck_assert_str_eq(i.arch, "sm_89");
  ck_assert_str_eq(i.code, "PTX 7.0 sm_80");
  ck_assert(i.free > 0 && i.free < i.memory);
  uint32_t k;
  ck_assert_int_eq(api->kernel(b.device, "nothing", &k), TN_NOT_FOUND);
  bench_close(&b);
}
END_TEST

START_TEST(no_driver) {
  uint32_t n = 0;
  tn_bytes package = toy_package(80);
  tn_device *d = NULL;
  setenv("TENON_FAKE_CUDA", "devices=0", 1);
  ck_assert_int_eq(api->list(each_device, &n, words, sizeof words), TN_UNAVAILABLE);
  says(words, "libcuda.so.1");
  ck_assert_int_eq(api->open(&package, 1, "cuda", &d, words, sizeof words), TN_UNAVAILABLE);
  says(words, "libcuda.so.1");
  ck_assert_ptr_null(d);
  free((void *)package.ptr);
}
END_TEST

START_TEST(memories) {
  enum { LARGE = 20 << 20 };
  bench b;
  void *p = NULL;
  uint32_t wrong = 0;
  driver("memory=64M");
  bench_open(&b, "cuda", 80);
  uint8_t *from = malloc(LARGE), *to = malloc(LARGE);
  uint8_t *there = take(b.device, LARGE);
  ck_assert_uint_eq((uintptr_t)there % 256, 0);
  OK(b.queue, api->download(b.queue, to, there, LARGE));
  for (uint32_t i = 0; i < LARGE; i++) wrong += to[i] != 0;
  for (uint32_t i = 0; i < LARGE; i++) from[i] = (uint8_t)(i * 2654435761u >> 24);
  ck_assert_int_eq(api->load(b.device, there, from, LARGE - 3, words, sizeof words), TN_OK);
  memset(from + 5, 1, 1000); /* it was read */
  OK(b.queue, api->download(b.queue, to, there, LARGE));
  for (uint32_t i = 0; i < LARGE; i++)
    wrong += to[i] != (i < LARGE - 3 ? (uint8_t)(i * 2654435761u >> 24) : 0);
  ck_assert_uint_eq(wrong, 0);
  OK(b.queue, api->upload(b.queue, there, from, LARGE)); /* large: not through the ring */
  memset(from, 2, LARGE);
  OK(b.queue, api->zero(b.queue, there, 7));
  OK(b.queue, api->download(b.queue, to, there, LARGE));
  ck_assert(!to[0] && !to[6] && to[7] == 1 && to[1004] == 1);
  ck_assert_int_eq(api->alloc(b.device, 1ull << 30, "the KV cache", &p, words, sizeof words), TN_OOM);
  says(words, "the KV cache: 1.00 GiB wanted, 0.0");
  says(words, "of 0.06 GiB free on cuda:0");
  ck_assert_ptr_null(p);
  api->free(b.device, NULL);
  api->free(b.device, there);
  free(from), free(to);
  bench_close(&b);
}
END_TEST

/* ---- runs ---------------------------------------------------------------------------------------------- */

static const uint32_t ones[N] = {[0 ... N - 1] = 1};

START_TEST(launches) {
  bench b;
  driver("sm=90");
  bench_open(&b, "cuda", 90);
  OK(b.queue, api->upload(b.queue, b.x, ones, sizeof ones));
  OK(b.queue, run(&b, "add", 100, 5));
  ck_assert(at(&b, 0) == 6 && at(&b, 99) == 6 && at(&b, 100) == 0);
  OK(b.queue, run(&b, "twice", N, 1));
  ck_assert(at(&b, 0) == 10 && at(&b, 99) == 10 && at(&b, N - 1) == 4);
  OK(b.queue, run(&b, "few", 64, 100)); /* adds */
  ck_assert(at(&b, 63) == 111 && at(&b, 64) == 10);
  OK(b.queue, run(&b, "few", 65, 100)); /* sets */
  ck_assert(at(&b, 63) == 100 && at(&b, 64) == 100 && at(&b, 65) == 10);
  OK(b.queue, run(&b, "add", 0, 9)); /* no blocks */
  ck_assert(at(&b, 0) == 100);
  OK(b.queue, run(&b, "large", 32, 0));
  ck_assert(at(&b, 0) == 1 && at(&b, 31) == 32 && at(&b, 32) == 100);
  OK(b.queue, run(&b, "pair", 4, 0));
  ck_assert(at(&b, 0) == 0 && at(&b, 1) == 1 && at(&b, 2) == 0 && at(&b, 3) == 1 && at(&b, 4) == 5);
  ck_assert_int_eq(run(&b, "pair", 3, 0), TN_INTERNAL);
  says(api->error(b.queue), "3 blocks do not make clusters of 2");
  OK(b.queue, run(&b, "stay", 7, 0));
  ck_assert(at(&b, 0) == 7 && at(&b, 6) == 7);
  OK(b.queue, run(&b, "stay", 70, 0)); /* two for each of the four multiprocessors */
  ck_assert(at(&b, 0) == 8 && at(&b, 7) == 8 && at(&b, 8) == 9);
  bench_close(&b);
}
END_TEST

START_TEST(tensor_maps) {
  bench b;
  ptx_tensor_map m;
  driver("sm=90");
  bench_open(&b, "cuda", 90);
  for (int64_t n = 3; n < 6; n++) { /* a run of its own for each size, then graphs */
    for (int k = 0; k < 3; k++) {
      OK(b.queue, run(&b, "map", n, 0));
      OK(b.queue, api->download(b.queue, &m, b.y, sizeof m));
      ck_assert_uint_eq(m.base, (uintptr_t)b.x);
      ck_assert(m.rank == 2 && m.element == 1 && m.swizzle == 2 && m.box[0] == 64 && m.box[1] == 8);
      ck_assert(m.size[0] == 64 && m.size[1] == (uint64_t)n && m.stride[0] == 64);
    }
  }
  counts(&b, 9, 3, 3, 3);
  for (int64_t n = 0; n < 3; n++) { /* a map of no rows is none */
    tn_status s = run(&b, "inner", n, 0);
    ck_assert_int_eq(s == TN_OK, n > 0);
    if (!n) continue;
    OK(b.queue, api->download(b.queue, &m, b.y, sizeof m));
    ck_assert(m.base == (uintptr_t)b.x + 16 * (uint64_t)n && m.size[1] == (uint64_t)n);
  }
  ck_assert_int_eq(run(&b, "inner", -1, 0), TN_INVALID);
  says(api->error(b.queue), "kernel map (toy:7): tensor map 0 lies at -16 of");
  uint32_t *x = b.x;
  b.x = NULL;
  ck_assert_int_eq(run(&b, "inner", 1, 0), TN_INVALID);
  says(api->error(b.queue), "scratch that is not there");
  b.x = x;
  bench_close(&b);
}
END_TEST

START_TEST(misuse) {
  bench b;
  int64_t numbers[] = {8, 1, 70000};
  void *bufs[] = {NULL, NULL, NULL};
  driver("");
  bench_open(&b, "cuda", 80);
  uint32_t k = kernel(&b, "add");
  ck_assert_int_eq(api->launch(b.queue, k, bufs, 2, numbers, 2, NULL, NULL), TN_PRECONDITION);
  ck_assert_int_eq(api->end(b.queue), TN_PRECONDITION);
  const struct {
    uint32_t kernel, nbufs, ndims;
    const int64_t *dims;
    const char *what;
  } bad[] = {{99, 2, 2, numbers, "kernel 99 of"},
             {k, 3, 2, numbers, "kernel add takes 2 buffers and 2 sizes, not 3 and 2"},
             {k, 2, 1, numbers, "not 2 and 1"},
             {k, 2, 2, numbers + 2, "not among those of the run"},
             {k, 2, 2, NULL, "not among those of the run"},
             {kernel(&b, "wide"), 1, 1, numbers + 2, "70000 blocks along y, at most 65535"}};
  for (size_t i = 0; i < TN_COUNT(bad); i++) {
    OK(b.queue, api->begin(b.queue, numbers, 3));
    ck_assert_int_ne(
        api->launch(b.queue, bad[i].kernel, bufs, bad[i].nbufs, bad[i].dims, bad[i].ndims, NULL, "a:1"),
        TN_OK);
    says(api->error(b.queue), bad[i].what);
  }
  OK(b.queue, api->begin(b.queue, numbers, 3)); /* the failed launch ended its run */
  ck_assert_int_eq(api->begin(b.queue, numbers, 3), TN_PRECONDITION);
  ck_assert_int_eq(api->upload(b.queue, b.x, numbers, 8), TN_PRECONDITION);
  ck_assert_int_eq(api->wait(b.queue), TN_PRECONDITION);
  OK(b.queue, api->end(b.queue));
  numbers[0] = INT64_MAX;
  ck_assert_int_eq(run(&b, "add", INT64_MAX, 0), TN_INVALID);
  says(api->error(b.queue), "kernel add (toy:7): a size divides by 0 or is too large");
  ck_assert_int_eq(run(&b, "add", INT64_MAX - 31, 0), TN_UNSUPPORTED);
  says(api->error(b.queue), "blocks along x, at most 2147483647");
  OK(b.queue, run(&b, "add", 8, 1));
  bench_close(&b);
}
END_TEST

/* ---- graphs -------------------------------------------------------------------------------------------- */

START_TEST(replays) {
  bench b;
  driver("");
  bench_open(&b, "cuda", 80);
  uint32_t want = 0;
  for (uint32_t i = 0; i < 6; i++) { /* the numbers change, the launches do not */
    OK(b.queue, run(&b, "twice", 33 + i, i));
    want += 2 * i;
    ck_assert_uint_eq(at(&b, 32), want);
    ck_assert_uint_eq(at(&b, 38), 0);
  }
  counts(&b, 6, 1, 1, 4);
  OK(b.queue, run(&b, "twice", 65, 0)); /* another grid */
  counts(&b, 7, 2, 1, 4);
  void *y = b.y;
  b.y = take(b.device, N * 4); /* another address */
  OK(b.queue, run(&b, "twice", 33, 1));
  counts(&b, 8, 3, 1, 4);
  ck_assert_uint_eq(at(&b, 0), 2);
  api->free(b.device, b.y);
  b.y = y;
  OK(b.queue, run(&b, "twice", 33, 0));
  counts(&b, 9, 3, 1, 5);
  ck_assert_uint_eq(at(&b, 32), want);
  bench_close(&b);
}
END_TEST

/* A step between calls of other lengths keeps its graph; the ninth graph takes the place of the oldest. */
START_TEST(which_are_kept) {
  bench b;
  driver("");
  bench_open(&b, "cuda", 80);
  for (int i = 0; i < 3; i++) OK(b.queue, run(&b, "twice", 1, 0));
  counts(&b, 3, 1, 1, 1);
  for (int64_t n = 1; n <= 8; n++) OK(b.queue, run(&b, "add", 32 * n, 0)); /* each seen once */
  OK(b.queue, run(&b, "twice", 1, 0));
  counts(&b, 12, 9, 1, 2);
  for (int64_t n = 1; n <= 8; n++)
    for (int i = 0; i < 2; i++) OK(b.queue, run(&b, "few", 8 * n, 0)); /* 2 grids */
  counts(&b, 28, 11, 3, 14);
  for (int64_t n = 1; n <= 8; n++)
    for (int i = 0; i < 2; i++) OK(b.queue, run(&b, "add", 32 * n, 1)); /* 8 graphs, most seen no more */
  uint64_t runs, eager, recorded, replayed, again;
  api->counts(b.queue, &runs, &eager, &recorded, &replayed);
  OK(b.queue, run(&b, "twice", 1, 0)); /* its graph is gone */
  api->counts(b.queue, &runs, &again, &recorded, &replayed);
  ck_assert_uint_eq(again, eager + 1);
  bench_close(&b);
}
END_TEST

static uint32_t lines_of(const char *path, const char *word) {
  char line[256];
  uint32_t n = 0;
  FILE *f = fopen(path, "r");
  ck_assert_ptr_nonnull(f);
  while (fgets(line, sizeof line, f)) n += strstr(line, word) != NULL;
  fclose(f);
  return n;
}
/* A step that is replayed asks neither host nor driver for memory: one copy, one launch. */
START_TEST(steady) {
  static const char *const never[] = {"Alloc",          "Create",  "Free",    "Destroy",
                                      "cuLaunchKernel", "Capture", "cuMemset"};
  bench b;
  char settings[128], trace[64];
  snprintf(trace, sizeof trace, "/tmp/tn-run-%d.trace", (int)getpid());
  snprintf(settings, sizeof settings, "trace=%s", trace);
  driver(settings);
  bench_open(&b, "cuda", 80);
  for (int64_t i = 0; i < 20; i++) OK(b.queue, run(&b, "twice", 20, i));
  uint32_t before[TN_COUNT(never)];
  for (size_t i = 0; i < TN_COUNT(never); i++) before[i] = lines_of(trace, never[i]);
  uint32_t copies = lines_of(trace, "cuMemcpyHtoDAsync"), graphs = lines_of(trace, "cuGraphLaunch");
  tn_mem_fail_after(0);
  for (int64_t i = 0; i < 20; i++) OK(b.queue, run(&b, "twice", 20, 1000 + i));
  tn_mem_fail_after(-1);
  for (size_t i = 0; i < TN_COUNT(never); i++) ck_assert_uint_eq(lines_of(trace, never[i]), before[i]);
  ck_assert_uint_eq(lines_of(trace, "cuMemcpyHtoDAsync"), copies + 20);
  ck_assert_uint_eq(lines_of(trace, "cuGraphLaunch"), graphs + 20);
  for (int64_t i = 0; i < 20; i++) OK(b.queue, run(&b, "twice", 20, 7));
  ck_assert_uint_eq(lines_of(trace, "cuMemcpyHtoDAsync"), copies + 21); /* the same numbers are there */
  ck_assert_uint_eq(at(&b, 19), 2 * (190 + 20 * 1000 + 190 + 20 * 7));
  unlink(trace);
  bench_close(&b);
}
END_TEST

/* Room for numbers grows; the ring of pinned memory is gone round several times between waits. */
START_TEST(many_numbers) {
  enum { MANY = 20000 };
  bench b;
  driver("");
  bench_open(&b, "cuda", 80);
  int64_t *numbers = calloc(MANY, sizeof *numbers);
  for (int i = 0; i < 3; i++) OK(b.queue, run(&b, "add", 4, 1));
  for (uint32_t i = 0; i < 40; i++) {
    uint32_t n = i < 20 ? 600 : MANY;
    numbers[n - 2] = 4, numbers[n - 1] = i;
    OK(b.queue, api->begin(b.queue, numbers, n));
    OK(b.queue, put(&b, "add", numbers + n - 2));
    OK(b.queue, api->end(b.queue));
  }
  ck_assert_uint_eq(at(&b, 3), 3 + 780);
  free(numbers);
  bench_close(&b);
}
END_TEST

START_TEST(no_graphs) {
  bench b;
  driver("");
  setenv(_i ? "TENON_CUDA_SYNC" : "TENON_CUDA_GRAPHS", _i ? "1" : "0", 1);
  bench_open(&b, "cuda", 80);
  for (int i = 0; i < 4; i++) OK(b.queue, run(&b, "add", 4, 1));
  counts(&b, 4, 4, 0, 0);
  ck_assert_uint_eq(at(&b, 3), 4);
  bench_close(&b);
}
END_TEST

/* ---- streams of the caller's --------------------------------------------------------------------------- */

START_TEST(own_stream) {
  bench b;
  tn_cuda_driver d;
  tn_buf why = {0};
  CUcontext first, second;
  CUstream s;
  uint32_t want = 0;
  driver("devices=2");
  bench_open(&b, "cuda", 80);
  api->queue_free(b.queue);
  ck_assert_int_eq(tn_cuda_open(&d, FAKE_CUDA, &why), TN_OK);
  ck_assert(!d.api.cuDevicePrimaryCtxRetain(&first, 0) && !d.api.cuDevicePrimaryCtxRetain(&second, 1));
  ck_assert(!d.api.cuCtxPushCurrent_v2(first) && !d.api.cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
  ck_assert_msg(api->queue_new(b.device, s, &b.queue, words, sizeof words) == TN_OK, "%s", words);
  for (uint32_t i = 0; i < 4; i++) { /* what the caller puts before and behind is in order with it */
    ck_assert(!d.api.cuMemsetD32Async((CUdeviceptr)(uintptr_t)b.y, 40 + i, N, s));
    OK(b.queue, run(&b, "add", N, 2));
    ck_assert(!d.api.cuMemcpyDtoDAsync_v2((CUdeviceptr)(uintptr_t)b.x, (CUdeviceptr)(uintptr_t)b.y, 4, s));
    ck_assert(!d.api.cuMemsetD8Async((CUdeviceptr)(uintptr_t)b.y, 0, 4, s));
    uint32_t x = 0;
    want += 42 + i;
    OK(b.queue, api->download(b.queue, &x, b.x, 4));
    ck_assert_uint_eq(x, want);
  }
  counts(&b, 4, 1, 1, 2);
  CUcontext now;
  ck_assert(!d.api.cuCtxGetCurrent(&now));
  ck_assert_ptr_eq(now, first); /* the caller's context is as it was */
  api->queue_free(b.queue);
  ck_assert(!d.api.cuStreamSynchronize(s)); /* still there */
  ck_assert(!d.api.cuCtxPushCurrent_v2(second) && !d.api.cuStreamCreate(&s, 0));
  ck_assert_int_eq(api->queue_new(b.device, s, &b.queue, words, sizeof words), TN_INVALID);
  says(words, "another device or context than cuda:0");
  ck_assert_ptr_null(b.queue);
  bench_close(&b);
  tn_buf_fini(&why);
}
END_TEST

START_TEST(two_devices) {
  bench b[2];
  driver("devices=2");
  for (uint32_t i = 0; i < 2; i++) bench_open(&b[i], i ? "cuda:1" : "cuda:0", 80);
  for (uint32_t k = 0; k < 4; k++)
    for (uint32_t i = 0; i < 2; i++) OK(b[i].queue, run(&b[i], "add", 8, 1 + i));
  ck_assert(at(&b[0], 7) == 4 && at(&b[1], 7) == 8);
  api->queue_free(b[0].queue); /* two queues on one device */
  b[0].queue = NULL;
  tn_queue *other;
  ck_assert_int_eq(api->queue_new(b[1].device, NULL, &other, words, sizeof words), TN_OK);
  OK(other, api->zero(other, b[1].y, 16));
  OK(other, api->wait(other));
  ck_assert(at(&b[1], 3) == 0 && at(&b[1], 4) == 8);
  api->queue_free(other);
  for (uint32_t i = 0; i < 2; i++) bench_close(&b[i]);
}
END_TEST

/* ---- failures ------------------------------------------------------------------------------------------ */

START_TEST(dead_context) {
  bench b;
  driver("");
  if (_i) setenv("TENON_CUDA_SYNC", "1", 1);
  bench_open(&b, "cuda", 80);
  int64_t numbers[] = {8, 1};
  OK(b.queue, api->begin(b.queue, numbers, 2));
  OK(b.queue, put(&b, "add", numbers));
  OK(b.queue, put(&b, "wild", numbers));
  OK(b.queue, put(&b, "add", numbers));
  tn_status s = api->end(b.queue);
  if (_i) { /* the launch itself */
    ck_assert_int_eq(s, TN_INTERNAL);
    says(api->error(b.queue), "kernel wild (toy:7): CUDA_ERROR_ILLEGAL_ADDRESS (700)");
  } else {
    ck_assert_int_eq(s, TN_OK);
    ck_assert_int_eq(api->wait(b.queue), TN_INTERNAL);
    says(api->error(b.queue), "launched last: add (toy:7), wild (toy:7), add (toy:7)");
    says(api->error(b.queue), "TENON_CUDA_SYNC=1");
  }
  says(api->error(b.queue), "the context is dead");
  ck_assert_int_eq(api->upload(b.queue, b.x, numbers, 8), TN_INTERNAL);
  bench_close(&b);
}
END_TEST

START_TEST(behind_a_fork) {
  bench b;
  driver("");
  bench_open(&b, "cuda", 80);
  pid_t child = fork();
  if (!child) {
    int64_t numbers[] = {8, 1};
    void *p;
    bool fine = api->begin(b.queue, numbers, 2) == TN_PRECONDITION && strstr(api->error(b.queue), "fork") &&
                api->wait(b.queue) == TN_PRECONDITION &&
                api->alloc(b.device, 8, "x", &p, words, sizeof words) == TN_PRECONDITION &&
                strstr(words, "fork") &&
                api->load(b.device, b.x, numbers, 8, words, sizeof words) == TN_PRECONDITION;
    bench_close(&b);
    _exit(fine ? 0 : 1);
  }
  int status = 1;
  waitpid(child, &status, 0);
  ck_assert_int_eq(status, 0);
  OK(b.queue, run(&b, "add", 8, 1));
  bench_close(&b);
}
END_TEST

/* Everything once; what went wrong, in `words`. */
static tn_status everything(tn_bytes package) {
  static const uint32_t from[9000] = {[0 ... 8999] = 3};
  bench b = {.package = package};
  uint32_t got = 0;
  void *more = NULL;
  tn_status s = api->open(&b.package, 1, "cuda:0", &b.device, words, sizeof words);
  if (s == TN_OK) s = api->alloc(b.device, N * 4, "x", (void **)&b.x, words, sizeof words);
  if (s == TN_OK) s = api->alloc(b.device, N * 4, "y", (void **)&b.y, words, sizeof words);
  if (s == TN_OK) s = api->alloc(b.device, sizeof from, "more", &more, words, sizeof words);
  if (s == TN_OK) s = api->load(b.device, b.x, from, N * 4, words, sizeof words);
  if (s == TN_OK) s = api->queue_new(b.device, NULL, &b.queue, words, sizeof words);
  if (s == TN_OK) {
    s = api->upload(b.queue, more, from, sizeof from);
    if (s == TN_OK) s = api->upload(b.queue, b.x, from, N * 4);
    if (s == TN_OK) s = api->zero(b.queue, b.y, N * 4);
    for (int64_t k = 0; k < 4 && s == TN_OK; k++) s = run(&b, "twice", 40, k);
    if (s == TN_OK) s = api->wait(b.queue);
    if (s == TN_OK) s = api->download(b.queue, &got, b.y + 39, 4);
    if (s != TN_OK) snprintf(words, sizeof words, "%s", api->error(b.queue));
  }
  if (s == TN_OK) ck_assert_uint_eq(got, 2 * (4 * 3 + 6));
  api->queue_free(b.queue);
  if (b.device) api->free(b.device, b.x), api->free(b.device, b.y), api->free(b.device, more);
  api->close(b.device);
  return s;
}

static const char *const entries[] = {
#define TN_CUDA(name, parameters) #name,
    TN_CUDA_API(TN_CUDA)
#undef TN_CUDA
};
/* Without these all is well: a run that cannot be recorded is launched, and what cannot be given back is not
 * spoken of. */
static bool may_fail(const char *name) {
  return strstr(name, "Capture") || strstr(name, "GraphInstantiate") || strstr(name, "Destroy") ||
         strstr(name, "Free") || strstr(name, "Release") || strstr(name, "Unload") ||
         strstr(name, "PopCurrent");
}
enum { TIMES = 5 };
/* The n-th call of every entry point fails: that is said with its number, or did not matter. */
START_TEST(faults) {
  const char *name = entries[_i / TIMES];
  char settings[128];
  snprintf(settings, sizeof settings, "fail=%s:%d:999", name, _i % TIMES + 1);
  driver(settings);
  tn_bytes package = toy_package(80);
  words[0] = 0;
  if (everything(package) != TN_OK) {
    says(words, "(999)");
    ck_assert_msg(!may_fail(name), "%s: %s", name, words);
  }
  free((void *)package.ptr);
  if (may_fail(name)) _exit(0); /* what was not given back is the driver's, and no leak of ours */
}
END_TEST
/* These are called, so their failure must not go unseen. */
static const char *const needed[] = {"cuInit",
                                     "cuDeviceGetCount",
                                     "cuDevicePrimaryCtxRetain",
                                     "cuCtxPushCurrent_v2",
                                     "cuModuleLoadDataEx",
                                     "cuModuleGetFunction",
                                     "cuFuncSetAttribute",
                                     "cuMemAlloc_v2",
                                     "cuMemHostAlloc",
                                     "cuStreamCreate",
                                     "cuEventCreate",
                                     "cuEventRecord",
                                     "cuMemcpyHtoDAsync_v2",
                                     "cuMemcpyDtoHAsync_v2",
                                     "cuMemsetD8Async",
                                     "cuLaunchKernelEx",
                                     "cuGraphLaunch",
                                     "cuStreamSynchronize"};
START_TEST(faults_are_seen) {
  char settings[128];
  snprintf(settings, sizeof settings, "fail=%s:1:999", needed[_i]);
  driver(settings);
  tn_bytes package = toy_package(80);
  ck_assert_int_ne(everything(package), TN_OK);
  free((void *)package.ptr);
}
END_TEST

/* The host's memory runs out after n allocations. */
START_TEST(host_memory) {
  uint32_t seen = 0;
  driver("");
  tn_bytes package = toy_package(80);
  for (long n = 0; n < 200; n++) {
    words[0] = 0;
    tn_mem_fail_after(n);
    tn_status s = everything(package);
    tn_mem_fail_after(-1);
    if (s == TN_OK) continue;
    ck_assert_int_eq(s, TN_OOM);
    ck_assert_msg(strstr(words, "no memory") != NULL, "allocation %ld: %s", n, words);
    seen++;
  }
  ck_assert_uint_gt(seen, 15);
  free((void *)package.ptr);
}
END_TEST

int main(void) {
  Suite *s = suite_create("cuda run");
  TCase *t = tcase_create("run");
  tcase_set_timeout(t, 60);
  tcase_add_test(t, devices);
  tcase_add_test(t, no_driver);
  tcase_add_test(t, memories);
  tcase_add_test(t, launches);
  tcase_add_test(t, tensor_maps);
  tcase_add_test(t, misuse);
  tcase_add_test(t, replays);
  tcase_add_test(t, which_are_kept);
  tcase_add_test(t, steady);
  tcase_add_test(t, many_numbers);
  tcase_add_loop_test(t, no_graphs, 0, 2);
  tcase_add_test(t, own_stream);
  tcase_add_test(t, two_devices);
  tcase_add_loop_test(t, dead_context, 0, 2);
  tcase_add_test(t, behind_a_fork);
  tcase_add_loop_test(t, faults, 0, (int)TN_COUNT(entries) * TIMES);
  tcase_add_loop_test(t, faults_are_seen, 0, (int)TN_COUNT(needed));
  tcase_add_test(t, host_memory);
  suite_add_tcase(s, t);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_NORMAL);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
