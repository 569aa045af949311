/* check_images.c - group artefacts: images that are cut, changed or another target's are refused or do no
 * harm; each is tried behind a wall, so that reading past its end is a crash. */
#include "tools/conform/conform.h"

/* The image at the end of readable memory. */
typedef struct image {
  tn_wall wall;
  uint64_t len;
} image;
static image copy_of(tn_bytes b, uint64_t len) {
  image i = {tn_wall_new(len), len};
  memcpy(i.wall.data, b.ptr, len);
  return i;
}

/* Loads or opens it and looks for `symbol`: TN_OK when all that worked. */
static tn_status try_image(tn_subject *s, const tn_target *t, tn_bytes b, const char *symbol) {
  tn_status r;
  s->trial.quiet = true;
  if (s->backend.device) {
    tn_device *d = NULL;
    uint32_t kernel;
    char error[512];
    const tn_device_api *api = s->backend.device(s->self);
    r = tn_subject_open(s, b, &d, error);
    if (r != TN_OK && !*error)
      tn_trial_fail("an image of %llu bytes is refused without words", (unsigned long long)b.len);
    if (r != TN_OK) return r;
    r = api->kernel(d, symbol, &kernel);
    api->close(d);
  } else {
    tn_exec *x = NULL;
    tn_kernel_fn fn;
    void *ctx;
    r = s->backend.load(s->self, t, b, &x);
    if (r != TN_OK) return r;
    r = s->backend.kernel(x, symbol, &fn, &ctx);
    s->backend.unload(x);
  }
  return r;
}

typedef struct good {
  tn_trial trial;
  tn_target target;
  tn_bytes image;
  const char *symbol; /* of the last kernel */
} good;
static void good_init(tn_subject *s, good *g) {
  tn_subject_backend(s);
  if (s->backend.device) (void)tn_subject_device(s);
  g->target = tn_subject_target(s);
  tn_subject_compile(s, &g->target, &g->trial);
  const tn_trial_package *k = g->trial.package;
  if (!k->rows.count) tn_trial_skip("it takes none of add, sub and mul");
  g->image = (tn_bytes){k->image.text, k->image.len};
  g->symbol = k->rows.items[k->rows.count - 1].symbol;
}

static void whole(tn_subject *s, const char *arg) {
  good g;
  (void)arg;
  good_init(s, &g);
  for (int i = 0; i < 3; i++) {
    tn_status r = try_image(s, &g.target, g.image, g.symbol);
    if (r != TN_OK) tn_trial_fail("a good image: status %d", r);
    r = try_image(s, &g.target, g.image, "no_such_kernel");
    if (r != TN_NOT_FOUND) tn_trial_fail("a kernel that is not there: status %d, wants %d", r, TN_NOT_FOUND);
  }
}

static void cut(tn_subject *s, const char *arg) {
  good g;
  (void)arg;
  good_init(s, &g);
  uint64_t step = g.image.len / 61 + 1;
  for (uint64_t n = 0; n < g.image.len; n += step) {
    image i = copy_of(g.image, n);
    tn_status r = try_image(s, &g.target, (tn_bytes){i.wall.data, n}, g.symbol);
    if (r == TN_OK)
      tn_trial_fail("of %llu bytes the first %llu are taken as a whole image",
                    (unsigned long long)g.image.len, (unsigned long long)n);
    tn_wall_free(&i.wall);
  }
}

/* Changed bits are refused, or at least no crash. */
static void flipped(tn_subject *s, const char *arg) {
  good g;
  (void)arg;
  good_init(s, &g);
  uint64_t step = g.image.len / 199 + 1;
  image i = copy_of(g.image, g.image.len);
  for (uint64_t at = 0; at < g.image.len; at += step) {
    ((uint8_t *)i.wall.data)[at] ^= (uint8_t)(1 << at % 8);
    (void)try_image(s, &g.target, (tn_bytes){i.wall.data, i.len}, g.symbol);
    ((uint8_t *)i.wall.data)[at] ^= (uint8_t)(1 << at % 8);
  }
}

static void garbage(tn_subject *s, const char *arg) {
  good g;
  uint64_t random = 1;
  (void)arg;
  good_init(s, &g);
  for (uint64_t n = 0; n < 4096; n = n * 2 + 1) {
    image i = copy_of(g.image, 0);
    tn_wall_free(&i.wall);
    i.wall = tn_wall_new(n);
    for (uint64_t k = 0; k < n; k++) {
      random = random * 6364136223846793005u + 1442695040888963407u;
      ((uint8_t *)i.wall.data)[k] = (uint8_t)(random >> 56);
    }
    if (try_image(s, &g.target, (tn_bytes){i.wall.data, n}, g.symbol) == TN_OK)
      tn_trial_fail("%llu random bytes are taken for an image", (unsigned long long)n);
    tn_wall_free(&i.wall);
  }
}

/* Every target's image, given as this machine's. */
static void other_target(tn_subject *s, const char *arg) {
  good g;
  tn_target all[TN_SUBJECT_TARGETS];
  (void)arg;
  good_init(s, &g);
  uint32_t n = tn_subject_targets(s, all);
  for (uint32_t i = 0; i < n; i++) {
    tn_trial trial;
    tn_subject_compile(s, &all[i], &trial);
    const tn_trial_package *k = trial.package;
    (void)try_image(s, &g.target, (tn_bytes){k->image.text, k->image.len}, k->rows.items[0].symbol);
    tn_trial_fini(&trial);
  }
}

bool tn_conform_images(tn_conform_tests *out) {
  static const tn_conform_test all[] = {
      {"artefacts", "whole", whole, NULL},
      {"artefacts", "cut", cut, NULL},
      {"artefacts", "flipped", flipped, NULL},
      {"artefacts", "garbage", garbage, NULL},
      {"artefacts", "other_target", other_target, NULL},
  };
  bool ok = true;
  for (size_t i = 0; i < TN_COUNT(all); i++) ok &= tn_vec_push(out, all[i]);
  return ok;
}
