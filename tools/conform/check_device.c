/* check_device.c - group device: memory, copies and queues of a backend whose kernels run elsewhere. */
#include "tools/conform/conform.h"
#include <stdlib.h>

typedef struct place {
  const tn_device_api *api;
  tn_device *d;
  tn_queue *q;
  tn_trial trial;
  char error[512];
} place;

static void place_init(tn_subject *s, place *p) {
  *p = (place){.api = tn_subject_device(s)};
  tn_target t = tn_subject_target(s);
  tn_subject_compile(s, &t, &p->trial);
  const tn_trial_package *k = p->trial.package;
  if (tn_subject_open(s, (tn_bytes){k->image.text, k->image.len}, &p->d, p->error) != TN_OK)
    tn_trial_fail("open: %s", p->error);
  if (p->api->queue_new(p->d, NULL, &p->q, p->error, sizeof p->error) != TN_OK)
    tn_trial_fail("queue_new: %s", p->error);
}
static void place_fini(place *p) {
  p->api->queue_free(p->q);
  p->api->close(p->d);
  tn_trial_fini(&p->trial);
}
#define CALL(p, call)                                                                                        \
  do {                                                                                                       \
    tn_status r_ = (call);                                                                                   \
    if (r_ != TN_OK) tn_trial_fail("%s: status %d: %s", #call, r_, (p)->api->error((p)->q));                 \
  } while (0)

static void *block(place *p, uint64_t bytes) {
  void *at = NULL;
  p->error[0] = 0;
  tn_status r = p->api->alloc(p->d, bytes, "a test", &at, p->error, sizeof p->error);
  if (r != TN_OK) tn_trial_fail("alloc of %llu bytes: status %d: %s", (unsigned long long)bytes, r, p->error);
  return at;
}

/* ---- devices ---- */
typedef struct seen {
  uint32_t count;
  char spec[64], uuid[96];
} seen;
static void see(void *user, const tn_device_info *i) {
  seen *x = user;
  tn_device_info d;
  tn_take(&d, sizeof d, i);
  if (!d.spec || !*d.spec || !d.name || !d.arch)
    tn_trial_fail("list: device %u has no spec, name or arch", x->count);
  if (!d.memory) tn_trial_fail("list: %s has no memory", d.spec);
  tn_buf text = {0};
  tn_buf_puts(&text, d.spec);
  if (text.len < sizeof x->spec) memcpy(x->spec, tn_buf_cstr(&text), text.len + 1);
  tn_buf_fini(&text);
  x->count++;
}
static void devices(tn_subject *s, const char *arg) {
  seen x = {0};
  char error[512] = "";
  place p;
  (void)arg;
  place_init(s, &p);
  tn_status r = p.api->list(see, &x, error, sizeof error);
  if (r != TN_OK || !x.count)
    tn_trial_fail("a device opens, and list gives status %d and %u: %s", r, x.count, error);
  tn_device *d = NULL;
  const tn_trial_package *k = p.trial.package;
  tn_bytes image = {k->image.text, k->image.len};
  if (p.api->open(&image, 1, x.spec, &d, error, sizeof error) != TN_OK)
    tn_trial_fail("open of %s, which list gave: %s", x.spec, error);
  tn_device_info i = {0};
  p.api->info(d, &i);
  if (!i.spec || !i.name || !i.arch || !i.memory) tn_trial_fail("info has no spec, name, arch or memory");
  p.api->close(d);
  place_fini(&p);
}

static void wrong_specs(tn_subject *s, const char *arg) {
  place p;
  (void)arg;
  place_init(s, &p);
  const tn_trial_package *k = p.trial.package;
  tn_bytes image = {k->image.text, k->image.len};
  const char *const specs[] = {"no-such-backend", ":", ":99", ":-1", ":GPU-none", ":1:2"};
  for (size_t i = 0; i < TN_COUNT(specs); i++) {
    tn_buf spec = {0};
    tn_device *d = NULL;
    tn_buf_printf(&spec, "%s%s", *specs[i] == ':' ? p.api->name : "", specs[i]);
    p.error[0] = 0;
    tn_status r = p.api->open(&image, 1, tn_buf_cstr(&spec), &d, p.error, sizeof p.error);
    if (r == TN_OK) tn_trial_fail("open of '%s' works", tn_buf_cstr(&spec));
    if (!*p.error) tn_trial_fail("open of '%s' fails without words", tn_buf_cstr(&spec));
    tn_buf_fini(&spec);
  }
  tn_device *d = NULL;
  if (p.api->open(&image, 0, p.api->name, &d, p.error, sizeof p.error) == TN_OK)
    tn_trial_fail("open without any image works");
  place_fini(&p);
}

/* Words are cut to the room they get, and end in NUL. */
static void short_words(tn_subject *s, const char *arg) {
  place p;
  (void)arg;
  place_init(s, &p);
  for (uint64_t room = 0; room < 40; room++) {
    char *words = malloc(room + 8);
    tn_device *d = NULL;
    TN_NEED(words);
    memset(words, 0x7e, room + 8);
    if (p.api->open(NULL, 0, p.api->name, &d, words, room) == TN_OK)
      tn_trial_fail("open without any image works");
    for (int i = 0; i < 8; i++)
      if (words[room + (uint64_t)i] != 0x7e)
        tn_trial_fail("words go beyond their room of %llu bytes", (unsigned long long)room);
    if (room && !memchr(words, 0, room))
      tn_trial_fail("words do not end in their room of %llu bytes", (unsigned long long)room);
    free(words);
  }
  place_fini(&p);
}

/* ---- memory ---- */
static void zeroed(tn_subject *s, const char *arg) {
  static const uint64_t sizes[] = {1, 2, 255, 256, 257, 4096, 100001};
  place p;
  (void)arg;
  place_init(s, &p);
  for (int round = 0; round < 3; round++)
    for (size_t i = 0; i < TN_COUNT(sizes); i++) {
      uint8_t *host = malloc(sizes[i]);
      TN_NEED(host);
      void *at = block(&p, sizes[i]);
      if ((uintptr_t)at % 256) tn_trial_fail("memory at %p, no multiple of 256", at);
      memset(host, 0x5a, sizes[i]);
      CALL(&p, p.api->download(p.q, host, at, sizes[i]));
      for (uint64_t k = 0; k < sizes[i]; k++)
        if (host[k]) tn_trial_fail("byte %llu of fresh memory is not zero", (unsigned long long)k);
      memset(host, 0x5a, sizes[i]);
      CALL(&p, p.api->upload(p.q, at, host, sizes[i]));
      CALL(&p, p.api->wait(p.q));
      p.api->free(p.d, at);
      free(host);
    }
  place_fini(&p);
}

static void too_much(tn_subject *s, const char *arg) {
  place p;
  void *at = NULL;
  (void)arg;
  place_init(s, &p);
  tn_status r = p.api->alloc(p.d, 1ull << 60, "the conform block", &at, p.error, sizeof p.error);
  if (r != TN_OOM) tn_trial_fail("an exabyte: status %d, wants %d", r, TN_OOM);
  if (!strstr(p.error, "the conform block"))
    tn_trial_fail("the error does not name what it was for: '%s'", p.error);
  void *small = block(&p, 64); /* it goes on */
  p.api->free(p.d, small);
  p.api->free(p.d, NULL);
  place_fini(&p);
}

/* ---- copies ---- */
static void pattern(uint8_t *b, uint64_t n, uint32_t seed) {
  for (uint64_t i = 0; i < n; i++) b[i] = (uint8_t)((i * 2654435761u + seed) >> 7);
}
static void copies(tn_subject *s, const char *arg) {
  enum { MOST = 3 << 20 };
  static const uint64_t sizes[] = {1, 3, 4096, 65537, MOST};
  place p;
  uint8_t *a = malloc(MOST), *b = malloc(MOST);
  (void)arg;
  TN_NEED(a && b);
  place_init(s, &p);
  for (size_t i = 0; i < TN_COUNT(sizes); i++)
    for (int weights = 0; weights < 2; weights++) {
      char *at = block(&p, sizes[i]);
      pattern(a, sizes[i], (uint32_t)i);
      if (!weights) {
        CALL(&p, p.api->upload(p.q, at, a, sizes[i]));
      } else if (p.api->load(p.d, at, a, sizes[i], p.error, sizeof p.error) != TN_OK) {
        tn_trial_fail("load: %s", p.error);
      }
      memset(a, 0, sizes[i]); /* both have read it */
      CALL(&p, p.api->download(p.q, b, at, sizes[i]));
      pattern(a, sizes[i], (uint32_t)i);
      if (memcmp(a, b, sizes[i])) tn_trial_fail("%llu bytes come back changed", (unsigned long long)sizes[i]);
      uint64_t half = sizes[i] / 2;
      if (half) CALL(&p, p.api->zero(p.q, at + half, sizes[i] - half));
      CALL(&p, p.api->download(p.q, b, at, sizes[i]));
      for (uint64_t k = half; half && k < sizes[i]; k++)
        if (b[k]) tn_trial_fail("zero leaves byte %llu", (unsigned long long)k);
      if (memcmp(a, b, half)) tn_trial_fail("zero changes what lies before its range");
      p.api->free(p.d, at);
    }
  place_fini(&p);
  free(a), free(b);
}

/* Work of one queue is in order; two queues do not disturb each other. */
static void queues(tn_subject *s, const char *arg) {
  place p;
  tn_queue *other;
  uint8_t a[1000], b[1000];
  (void)arg;
  place_init(s, &p);
  if (p.api->queue_new(p.d, NULL, &other, p.error, sizeof p.error) != TN_OK)
    tn_trial_fail("a second queue: %s", p.error);
  void *x = block(&p, sizeof a), *y = block(&p, sizeof a);
  for (uint32_t i = 0; i < 20; i++) {
    pattern(a, sizeof a, i);
    CALL(&p, p.api->upload(p.q, x, a, sizeof a));
    CALL(&p, p.api->upload(other, y, a, sizeof a));
    CALL(&p, p.api->zero(p.q, x, sizeof a / 2));
    CALL(&p, p.api->download(p.q, b, x, sizeof b));
    if (b[0] || memcmp(a + sizeof a / 2, b + sizeof a / 2, sizeof a / 2))
      tn_trial_fail("work of a queue is out of order");
    CALL(&p, p.api->download(other, b, y, sizeof b));
    if (memcmp(a, b, sizeof b)) tn_trial_fail("work of one queue changes memory of another");
  }
  CALL(&p, p.api->begin(p.q, NULL, 0));
  CALL(&p, p.api->end(p.q));
  CALL(&p, p.api->wait(p.q));
  p.api->queue_free(other);
  p.api->free(p.d, x), p.api->free(p.d, y);
  place_fini(&p);
}

/* The same launches again and again, with other inputs: replayed or not, the results are those of the first.
 */
static void replays(tn_subject *s, const char *arg) {
  static const tn_case c = {
      .text = "module @m { dims N\n func @f(%x: f32[N, 8], %y: f32[N, 8]) -> (a: f32[N, 8], b: f32[N, 8]) {\n"
              " %a = add %x, %y\n %b = sub %a, %x\n return %a, %b } }",
      .dims = {{"N", 7}}};
  tn_world ref;
  (void)arg;
  (void)tn_subject_device(s);
  tn_target t = tn_subject_target(s);
  tn_world_init(&ref, &c);
  tn_op ret = tn_world_reference(&ref);
  tn_device_run r;
  tn_device_run_init(&r, &s->trial, &t, &c, "partition, fuse{max=1}");
  tn_device_run_all(&r);
  for (int i = 0; i < 6; i++) {
    tn_device_run_again(&r);
    tn_world_compare(&ref, ret, &r.trial.w, r.ret, "run again");
  }
  tn_device_run_fini(&r);
  tn_world_fini(&ref);
}

bool tn_conform_device(tn_conform_tests *out) {
  static const tn_conform_test all[] = {
      {"device", "devices", devices, NULL},         {"device", "wrong_specs", wrong_specs, NULL},
      {"device", "short_words", short_words, NULL}, {"device", "zeroed", zeroed, NULL},
      {"device", "too_much", too_much, NULL},       {"device", "copies", copies, NULL},
      {"device", "queues", queues, NULL},           {"device", "replays", replays, NULL},
  };
  bool ok = true;
  for (size_t i = 0; i < TN_COUNT(all); i++) ok &= tn_vec_push(out, all[i]);
  return ok;
}
