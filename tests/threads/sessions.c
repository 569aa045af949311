/* sessions.c - several threads use one model library at once: models opened and closed, sessions of different
 * numbers of threads made and freed, calls and refused calls by turns.   sessions toy|causal LIBRARY
 * Worth running under the thread sanitizer, for which the library's own runtime is instrumented too. */
#include "tenon/model.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { CALLERS = 6, ROUNDS = 12, CALLS = 8, TOKENS = 10 };

typedef struct caller {
  const tn_model_api *api;
  tn_model *shared;
  tn_session *session;
  uint32_t threads;
  int own, wrong; /* own: opens the library again for itself; wrong: how much was not as it should be */
  const char *what;
  int (*call)(struct caller *c, int i);
  const int32_t *expected; /* of a causal model */
  int32_t got[TOKENS];
  int ngot;
  pthread_t handle;
} caller;

static void expect(caller *c, int good, const char *what) {
  if (good) return;
  c->wrong++;
  c->what = what;
}

static const int32_t ids[CALLS] = {3, 1, 4, 1, 5, 9, 2, 6}, mask[CALLS] = {1, 1, 1, 0, 1, 1, 0, 1};

/* ---- the toy model of tests/unit/toy.h: what must come out can be worked out by hand ----------------------
 */

/* table[id][k] = id + k / 4, bias[k] = 1000 k. */
static void encode(caller *c) {
  float hidden[CALLS * 4];
  tn_tensor in[] = {{(void *)(uintptr_t)ids, TN_DT_i32, 2, {1, CALLS}},
                    {(void *)(uintptr_t)mask, TN_DT_i32, 2, {1, CALLS}}},
            out = {hidden, TN_DT_f32, 3, {1, CALLS, 4}};
  if (c->api->invoke(c->session, 0, in, &out)) return expect(c, 0, "encode");
  for (int i = 0; i < CALLS * 4; i++) {
    float x = (float)ids[i / 4] + (float)(i % 4) / 4;
    expect(c, hidden[i] == x * (float)mask[i / 4] + (float)(i % 4) * 1000, "hidden");
  }
}

/* The state holds ids[0] to ids[i] now. */
static void next(caller *c, int i) {
  float logits[10];
  int sum = 0;
  tn_tensor in = {(void *)(uintptr_t)(ids + i), TN_DT_i32, 2, {1, 1}}, out = {logits, TN_DT_f32, 2, {1, 10}};
  if (c->api->invoke(c->session, 1, &in, &out)) return expect(c, 0, "next");
  for (int k = 0; k <= i; k++) sum += ids[k];
  for (int v = 0; v < 10; v++)
    expect(c, logits[v] == -(float)((v - sum % 10) * (v - sum % 10)) / 8, "logits");
}

static int call_toy(caller *c, int i) {
  encode(c);
  next(c, i);
  return i + 1 < CALLS;
}

/* ---- a causal model: everyone hears the same tokens -------------------------------------------------------
 */

static tn_status hear(void *user, int32_t token, const char *text, uint64_t len) {
  caller *c = user;
  (void)text, (void)len;
  if (c->ngot < TOKENS) c->got[c->ngot++] = token;
  return TN_OK;
}

static int call_causal(caller *c, int i) {
  tn_sampling o = {.size = sizeof o, .max_tokens = TOKENS};
  c->ngot = 0;
  if (c->api->session_reset(c->session) || c->api->generate(c->session, ids, CALLS, &o, hear, c))
    expect(c, 0, c->api->error(c->session));
  if (c->expected) expect(c, !memcmp(c->got, c->expected, sizeof c->got), "tokens");
  return i < 1;
}

/* ---- callers ----------------------------------------------------------------------------------------------
 */

/* A call that must be refused, with words, and must leave the session as it was. */
static void be_refused(caller *c) {
  tn_tensor none[8] = {0};
  expect(c, c->api->invoke(c->session, 0, none, none) != TN_OK, "a call without inputs");
  expect(c, c->api->error(c->session)[0] != 0, "words of a refusal");
  expect(c, c->api->invoke(c->session, 1000, none, none) != TN_OK, "a call of no entry");
}

static void use(caller *c, tn_model *m) {
  char why[300] = "";
  tn_session_options o = {
      .size = sizeof o, .threads = c->threads, .capacity = 32, .error = why, .error_size = sizeof why};
  tn_session_options many = o;
  many.threads = 1u << 30;
  tn_session *none = NULL;
  expect(c, c->api->session_new(m, &many, &none) != TN_OK && why[0], "too many threads");
  if (c->api->session_new(m, &o, &c->session)) return expect(c, 0, "session_new");
  int more = 1;
  for (int i = 0; more; i++) {
    more = c->call(c, i);
    be_refused(c);
  }
  c->api->session_free(c->session);
}

static void *run(void *arg) {
  caller *c = arg;
  for (int round = 0; round < ROUNDS; round++) {
    char why[300];
    tn_model *m = c->shared;
    if (c->own && c->api->open(NULL, &m, why, sizeof why)) return expect(c, 0, "open"), NULL;
    use(c, m);
    if (c->own) c->api->close(m);
    c->threads = 1 + c->threads % 3;
  }
  return NULL;
}

static int report(const caller *c, const char *who, int i) {
  if (c->wrong) printf("%s %d: %d wrong, the last: %s\n", who, i, c->wrong, c->what);
  return c->wrong != 0;
}

/* First one alone, then all at once. */
static int use_by_all(const tn_model_api *api, tn_model *m, int causal) {
  caller first = {.api = api, .threads = 1, .call = causal ? call_causal : call_toy}, callers[CALLERS];
  use(&first, m);
  int bad = report(&first, "alone", 0), n = 0;
  if (causal && first.ngot < TOKENS / 2) return printf("%d tokens\n", first.ngot), 1;
  for (; !bad && n < CALLERS; n++) {
    callers[n] = (caller){.api = api, .shared = m, .threads = 1 + (uint32_t)n % 3, .own = n % 3 == 2};
    callers[n].call = first.call;
    callers[n].expected = causal ? first.got : NULL;
    if (pthread_create(&callers[n].handle, NULL, run, &callers[n])) break;
  }
  for (int i = 0; i < n; i++) {
    pthread_join(callers[i].handle, NULL);
    bad |= report(&callers[i], "caller", i);
  }
  return bad || n < CALLERS;
}

int main(int argc, char **argv) {
  if (argc != 3) return fputs("usage: sessions toy|causal LIBRARY\n", stderr), 2;
  char why[300] = "";
  void *library = dlopen(argv[2], RTLD_NOW | RTLD_LOCAL);
  if (!library) return printf("dlopen: %s\n", dlerror()), 1;
  tn_model_query_fn query;
  *(void **)&query = dlsym(library, "tn_model_query");
  const tn_model_api *api = query ? query(TN_ABI) : NULL;
  tn_model *m = NULL;
  if (!api || api->open(NULL, &m, why, sizeof why)) return printf("open: %s\n", why), 1;
  int bad = use_by_all(api, m, !strcmp(argv[1], "causal"));
  api->close(m);
  if (!bad) printf("ok\n");
  return bad;
}
