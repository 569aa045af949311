/* test_runtime_order.c - steps that go on without waiting for all threads. Random programs over a few slots,
 * a state and two outputs, with kernels that read what other threads wrote and take work from each other: any
 * number of threads must give what one loop in plain C gives. Worth running under the thread sanitizer. */
#include "backends/runtime/rt.h"
#include "tests/unit/toy.h"
#include "tools/driver/hazards.h"
#include <check.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

enum { STEPS = 120, SLOTS = 5, OUTPUTS = 2, N = 64, MOST = 3, THREADS = 5, PLACES = 1 + SLOTS + OUTPUTS + 1 };

/* Places: 0 the input, then the slots, the outputs, the state. */
typedef struct step {
  uint32_t nread, read[MOST], write, factor;
  bool single, state;
} step;

static const tn_prog_operand places[PLACES] = {{TN_PROG_INPUT, 0},  {TN_PROG_SLOT, 0},   {TN_PROG_SLOT, 1},
                                               {TN_PROG_SLOT, 2},   {TN_PROG_SLOT, 3},   {TN_PROG_SLOT, 4},
                                               {TN_PROG_OUTPUT, 0}, {TN_PROG_OUTPUT, 1}, {TN_PROG_STATE, 0}};
enum { STATE = PLACES - 1, FIRST_OUTPUT = 1 + SLOTS };

static atomic_bool stop_thread_1, delays;

static int32_t mixed(const int32_t *a, int32_t i, int64_t n, int64_t factor) {
  return (int32_t)((uint32_t)a[n - 1 - i] * (uint32_t)factor + (uint32_t)a[(i * 7 + 3) % n] + (uint32_t)i);
}

static void linger(const tn_kcall *c) {
  if (atomic_load(&stop_thread_1) && c->thread == 1) usleep(4000);
  uint32_t mix = ((uint32_t)c->dims[2] * 2654435761u) ^ (c->thread * 40503u);
  if (atomic_load(&delays) && mix % 3 == 0)
    for (volatile uint32_t i = 0; i < mix % 4000; i++) {}
  if (atomic_load(&delays) && mix % 29 == 0) sched_yield();
}

/* The next of n elements for this thread, of its own part or of another's; -1: none is left. Words from
 * earlier launches must not count, and one that is taken twice or not at all changes the result. */
static int64_t take(const tn_kcall *c, int64_t n, atomic_ullong *own) {
  for (uint32_t v = 0; v < (c->tickets ? c->nthreads : 1); v++) {
    uint32_t owner = (c->thread + v) % c->nthreads;
    int64_t from = n * owner / c->nthreads, to = n * (owner + 1) / c->nthreads;
    atomic_ullong *word = c->tickets ? (atomic_ullong *)&c->tickets[8 * owner] : own;
    unsigned long long now = atomic_load_explicit(word, memory_order_relaxed), next;
    do {
      uint32_t taken = now >> 32 == c->launch ? (uint32_t)now : 0;
      next = (unsigned long long)c->launch << 32 | (taken + 1);
    } while (
        from + (uint32_t)next <= to &&
        !atomic_compare_exchange_weak_explicit(word, &now, next, memory_order_relaxed, memory_order_relaxed));
    if (from + (uint32_t)next <= to) return from + (uint32_t)next - 1;
  }
  return -1;
}

/* out[i] = the sum over the inputs of what others wrote; dims n, factor, step. */
static void mix_kernel(const tn_kcall *c) {
  int64_t n = c->dims[0];
  uint32_t nread = (uint32_t)c->dims[3];
  int32_t *out = c->bufs[nread];
  atomic_ullong own = (unsigned long long)c->launch << 32;
  linger(c);
  for (int64_t i; (i = take(c, n, &own)) >= 0;) {
    uint32_t sum = 0;
    for (uint32_t k = 0; k < nread; k++) sum += (uint32_t)mixed(c->bufs[k], (int32_t)i, n, c->dims[1]);
    out[i] = (int32_t)sum;
  }
}

/* state[i] += ...; the state is an operand and the result. */
static void bump_kernel(const tn_kcall *c) {
  int64_t n = c->dims[0];
  int32_t *state = c->bufs[1];
  atomic_ullong own = (unsigned long long)c->launch << 32;
  linger(c);
  for (int64_t i; (i = take(c, n, &own)) >= 0;)
    state[i] = (int32_t)((uint32_t)state[i] * 3u + (uint32_t)mixed(c->bufs[0], (int32_t)i, n, c->dims[1]));
}

static uint32_t random_below(uint64_t *seed, uint32_t n) {
  *seed = *seed * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(*seed >> 33) % n;
}

static void make_steps(step *s, uint64_t seed) {
  for (uint32_t i = 0; i < STEPS; i++) {
    s[i] = (step){.factor = 1 + random_below(&seed, 9), .single = random_below(&seed, 4) == 0};
    s[i].state = random_below(&seed, 8) == 0;
    s[i].write = s[i].state ? STATE : 1 + random_below(&seed, SLOTS + OUTPUTS);
    if (i < SLOTS + OUTPUTS)
      s[i].state = false, s[i].write = 1 + i; /* all are written once before they are read */
    s[i].nread = s[i].state ? 1 : 1 + random_below(&seed, MOST);
    for (uint32_t k = 0; k < s[i].nread; k++) do
        s[i].read[k] = i < SLOTS + OUTPUTS ? random_below(&seed, i + 1) : random_below(&seed, PLACES);
      while (s[i].read[k] == s[i].write);
  }
}

static bool touches(const step *s, uint32_t place, bool writes_only) {
  if (s->write == place) return true;
  for (uint32_t k = 0; k < s->nread && !writes_only; k++)
    if (s->read[k] == place && place) return true;
  return false;
}

/* Steps right before i that it has nothing to do with, found by looking at all of them. */
static uint32_t free_of(const step *s, uint32_t i) {
  for (uint32_t j = i; j-- > 0;) {
    if (touches(&s[j], s[i].write, false)) return i - 1 - j;
    for (uint32_t k = 0; k < s[i].nread; k++)
      if (touches(&s[j], s[i].read[k], true)) return i - 1 - j;
  }
  return i;
}

static tn_buf make_program(const step *s) {
  toy_blob t = {0};
  tn_hazards h = {0};
  t.name = toy_str(&t, "order");
  uint32_t dim = toy_str(&t, "S"), cap = toy_str(&t, "C");
  TOY_ROW(&t, dims, tn_prog_dim, {dim, TN_PROG_DIM_INPUT, INT64_MAX});
  TOY_ROW(&t, dims, tn_prog_dim, {cap, TN_PROG_DIM_CAPACITY, N});
  uint32_t n = toy_sym(&t, 0), c = toy_sym(&t, 1), bytes = toy_op(&t, TN_DIM_MUL, n, toy_const(&t, 4));
  const char *kernels[] = {"mix", "bump"};
  for (int i = 0; i < 2; i++) {
    uint32_t symbol = toy_str(&t, kernels[i]);
    TOY_ROW(&t, kernels, tn_prog_kernel, {symbol, symbol});
  }
  uint32_t shape = TOY_SCALARS(&t, n), room = TOY_SCALARS(&t, c);
  toy_arg(&t, "x", TN_DT_i32, 1, shape);
  for (uint32_t i = 0; i < OUTPUTS; i++) toy_arg(&t, i ? "b" : "a", TN_DT_i32, 1, shape);
  uint32_t kept = toy_str(&t, "kept"), name = toy_str(&t, "run");
  TOY_ROW(&t, states, tn_prog_state, {{kept, TN_DT_i32, 1, room}});
  for (uint32_t i = 0; i < SLOTS; i++) TOY_ROW(&t, slots, tn_prog_slot, {bytes});
  tn_hazards_begin(&h, (const tn_prog_slot *)(const void *)t.slots.text, SLOTS);
  for (uint32_t i = 0; i < STEPS; i++) {
    tn_prog_operand o[MOST + 1];
    for (uint32_t k = 0; k < s[i].nread; k++) o[k] = places[s[i].read[k]];
    o[s[i].nread] = places[s[i].write];
    uint32_t first = toy_operands(&t, o, s[i].nread + 1), factor = toy_const(&t, s[i].factor);
    uint32_t scalars = TOY_SCALARS(&t, n, factor, toy_const(&t, i), toy_const(&t, s[i].nread));
    uint32_t ahead = tn_hazards_kernel(&h, o, s[i].nread, s[i].nread + 1, s[i].state);
    ck_assert_uint_eq(ahead, free_of(s, i));
    TOY_ROW(&t, steps, tn_prog_step,
            {.kernel = s[i].state,
             .first_operand = first,
             .noperands = s[i].nread + 1,
             .first_scalar = scalars,
             .nscalars = 4,
             .scratch = TN_PROG_NONE,
             .flags = s[i].single ? TN_KERNEL_SINGLE : 0,
             .loc = TN_PROG_NONE,
             .ahead = ahead});
  }
  tn_hazards_fini(&h);
  TOY_ROW(&t, variants, tn_prog_variant, {.dim = TN_PROG_NONE, .nsteps = STEPS, .nslots = SLOTS});
  TOY_ROW(&t, entries, tn_prog_entry, {name, 0, 1, 1, OUTPUTS, 0, 1});
  return toy_finish(&t);
}

static void expect(const step *s, int32_t memory[PLACES][N]) {
  for (uint32_t i = 0; i < STEPS; i++)
    for (int32_t e = 0; e < N; e++) {
      uint32_t sum = s[i].state ? (uint32_t)memory[STATE][e] * 3u : 0;
      for (uint32_t k = 0; k < s[i].nread; k++)
        sum += (uint32_t)mixed(memory[s[i].read[k]], e, N, s[i].factor);
      memory[s[i].write][e] = (int32_t)sum;
    }
}

typedef struct order {
  step steps[STEPS];
  tn_buf program;
  tn_model *m;
  tn_session *s;
  int32_t memory[PLACES][N], out[OUTPUTS][N];
} order;

static void open_order(order *o, uint64_t seed, uint32_t threads) {
  static const tn_rt_kernel kernels[] = {{mix_kernel, NULL}, {bump_kernel, NULL}};
  char why[300] = "";
  memset(o, 0, sizeof *o);
  make_steps(o->steps, seed);
  o->program = make_program(o->steps);
  tn_rt_source src = {.program = {o->program.text, o->program.len}, .kernels = kernels};
  ck_assert_msg(tn_rt_open(&src, &o->m, why, sizeof why) == TN_OK, "%s", why);
  tn_session_options so = {.size = sizeof so, .threads = threads, .error = why, .error_size = sizeof why};
  ck_assert_msg(tn_rt_session_new(o->m, &so, &o->s) == TN_OK, "%s", why);
  for (int i = 0; i < N; i++) o->memory[0][i] = i * i;
}

static void close_order(order *o) {
  tn_rt_session_free(o->s);
  tn_rt_model_close(o->m);
  tn_buf_fini(&o->program);
}

static void call_order(order *o) {
  tn_tensor in = {o->memory[0], TN_DT_i32, 1, {N}}, out[OUTPUTS];
  for (int i = 0; i < OUTPUTS; i++) out[i] = (tn_tensor){o->out[i], TN_DT_i32, 1, {N}};
  ck_assert_msg(tn_rt_invoke(o->s, 0, &in, out) == TN_OK, "%s", tn_rt_error(o->s));
  expect(o->steps, o->memory);
  for (int i = 0; i < OUTPUTS; i++)
    ck_assert_mem_eq(o->out[i], o->memory[FIRST_OUTPUT + i], sizeof o->out[i]);
}

START_TEST(test_random) {
  atomic_store(&delays, true);
  for (uint64_t seed = 1; seed <= 12; seed++)
    for (uint32_t threads = 1; threads <= THREADS; threads++) {
      order o;
      open_order(&o, seed, threads);
      for (int call = 0; call < 4; call++) call_order(&o);
      close_order(&o);
    }
  atomic_store(&delays, false);
}
END_TEST

/* Not every step waits, and what is counted is what the program says. */
START_TEST(test_counts) {
  order o;
  tn_rt_counts n;
  open_order(&o, 5, 2);
  for (int call = 0; call < 3; call++) call_order(&o);
  tn_rt_count(o.s, &n);
  uint32_t single = 0;
  for (int i = 0; i < STEPS; i++) single += o.steps[i].single;
  ck_assert_uint_eq(n.walks, 3);
  ck_assert_uint_eq(n.steps, 3 * STEPS);
  ck_assert_uint_ge(n.single, 3 * single);
  ck_assert_uint_lt(n.waits, 3 * (STEPS - single));
  close_order(&o);
}
END_TEST

/* A thread that sleeps in its kernels looks like one that the system does not run: the walk goes on without
 * it, and with it again when it is quick. */
START_TEST(test_fewer_and_more) {
  order o;
  open_order(&o, 7, 3);
  call_order(&o);
  atomic_store(&stop_thread_1, true);
  for (int call = 0; call < 3 && o.s->width.threads > 1; call++) call_order(&o);
  ck_assert_uint_eq(o.s->width.threads, 1);
  call_order(&o);
  atomic_store(&stop_thread_1, false);
  for (int call = 0; call < 4000 && o.s->width.threads == 1; call++) usleep(1000), call_order(&o);
  ck_assert_uint_gt(o.s->width.threads, 1);
  close_order(&o);
}
END_TEST

/* A slot that is written may lie where one lay that nobody reads any more: the step waits for its last
 * reader, and only for that. */
START_TEST(test_taken_over) {
  enum { IN, S0, S1, S2, S3, NPLACES };
  static const tn_prog_operand at[NPLACES] = {
      {TN_PROG_INPUT, 0}, {TN_PROG_SLOT, 0}, {TN_PROG_SLOT, 1}, {TN_PROG_SLOT, 2}, {TN_PROG_SLOT, 3}};
  static const tn_prog_slot slots[] = {{.until = 2}, {.from = 1}, {.from = 2}, {.from = 3}};
  static const struct {
    uint32_t read, write, ahead;
  } steps[] = {{IN, S0, 0}, {S0, S1, 0}, {IN, S2, 0}, {IN, S3, 1}};
  const tn_prog_slot all[4] = {0}; /* all live to the end: no memory is taken over */
  tn_hazards h = {0};
  for (int lives = 0; lives < 2; lives++) {
    tn_hazards_begin(&h, lives ? all : slots, 4);
    for (uint32_t i = 0; i < 4; i++) {
      tn_prog_operand o[] = {at[steps[i].read], at[steps[i].write]};
      uint32_t ahead = tn_hazards_kernel(&h, o, 1, 2, false);
      ck_assert_uint_eq(ahead, !lives ? steps[i].ahead : i == 1 ? 0 : i);
    }
  }
  tn_hazards_host(&h);
  tn_prog_operand o[] = {at[IN], at[S3]};
  ck_assert_uint_eq(tn_hazards_kernel(&h, o, 1, 2, false), 0);
  tn_hazards_fini(&h);
}
END_TEST

static bool lives(const tn_rt_room *r, uint32_t at) { return at >= r->from && (!r->until || at < r->until); }

static bool at_once(const tn_rt_room *a, const tn_rt_room *b) {
  for (uint32_t at = 0; at < 80; at++)
    if (lives(a, at) && lives(b, at)) return true;
  return false;
}

/* Boxes of random sizes and times: no two that live at once overlap, and the total is no less than what lives
 * at the fullest step, nor more than all of them. */
START_TEST(test_packed) {
  uint64_t seed = 99;
  for (int round = 0; round < 300; round++) {
    tn_rt_room rooms[40];
    uint32_t n = random_below(&seed, 41);
    uint64_t total, least, all = 0, most = 0;
    for (uint32_t i = 0; i < n; i++) {
      uint32_t from = random_below(&seed, 60), length = random_below(&seed, 9);
      rooms[i] = (tn_rt_room){.bytes = 64 * (uint64_t)random_below(&seed, 30),
                              .slot = i,
                              .from = from,
                              .until = length ? from + length : 0};
      all += rooms[i].bytes;
    }
    for (uint32_t at = 0; at < 64; at++) {
      uint64_t sum = 0;
      for (uint32_t i = 0; i < n; i++)
        if (lives(&rooms[i], at)) sum += rooms[i].bytes;
      most = sum > most ? sum : most;
    }
    ck_assert(tn_rt_pack(rooms, n, &total, &least));
    ck_assert_uint_eq(least, most);
    ck_assert(total >= least && total <= all);
    for (uint32_t i = 0; i < n; i++) {
      ck_assert(rooms[i].at % 64 == 0 && rooms[i].at + rooms[i].bytes <= total);
      for (uint32_t k = 0; k < i; k++)
        ck_assert(!at_once(&rooms[i], &rooms[k]) || rooms[i].at + rooms[i].bytes <= rooms[k].at ||
                  rooms[k].at + rooms[k].bytes <= rooms[i].at);
    }
  }
  tn_rt_room huge[] = {{.bytes = UINT64_MAX / 2}, {.bytes = UINT64_MAX / 2}, {.bytes = UINT64_MAX / 2}};
  uint64_t total, least;
  ck_assert(!tn_rt_pack(huge, 3, &total, &least));
}
END_TEST

/* A step cannot go ahead of more steps than there are before it. */
START_TEST(test_refused) {
  char why[300] = "";
  step s[STEPS];
  make_steps(s, 3);
  tn_buf b = make_program(s);
  tn_prog_header *h = (tn_prog_header *)(void *)b.text;
  tn_prog_step *rows = (tn_prog_step *)(void *)(b.text + h->steps.offset);
  rows[9].ahead = 10;
  toy_seal(b.text, b.len);
  ck_assert_int_eq(tn_prog_check((tn_bytes){b.text, b.len}, why, sizeof why), TN_DATA_LOSS);
  ck_assert_str_eq(why, "program: step 9 goes ahead of 10 steps, its variant has 9 before it");
  tn_buf_fini(&b);
}
END_TEST

/* The same shapes again: nothing is allocated. */
START_TEST(test_steady) {
  order o;
  tn_rt_use before, after;
  open_order(&o, 2, 2);
  call_order(&o);
  tn_rt_memory_use(o.s, &before);
  tn_mem_fail_after(0);
  for (int call = 0; call < 5; call++) call_order(&o);
  tn_mem_fail_after(-1);
  tn_rt_memory_use(o.s, &after);
  ck_assert_mem_eq(&before, &after, sizeof before);
  ck_assert_uint_eq(after.states, N * 4);
  ck_assert_uint_eq(after.arena, SLOTS * N * 4);
  ck_assert_uint_eq(after.weights, 0);
  close_order(&o);
}
END_TEST

int main(void) {
  Suite *s = suite_create("order");
  TCase *c = tcase_create("order");
  tcase_set_timeout(c, 240);
  tcase_add_test(c, test_random);
  tcase_add_test(c, test_counts);
  tcase_add_test(c, test_fewer_and_more);
  tcase_add_test(c, test_taken_over);
  tcase_add_test(c, test_packed);
  tcase_add_test(c, test_refused);
  tcase_add_test(c, test_steady);
  suite_add_tcase(s, c);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_ENV);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
