/* test_amx.c - the AMX instructions, from machine code: natively where the machine has them, else emulated.
 * Expected values are computed here element by element, in the order of the manual and with denormals taken
 * away by hand; faults are expected where the manual's lists of exceptions name them. */
#include "tests/amx/amx.h"
#include <check.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <pthread.h>

enum { NP, P66, PF3, PF2 };
enum { ROWS = 16, LINE = 64, TILE = ROWS * LINE };

/* ---- machine code ---- */
/* Memory operands are [rdi + rsi] or, without a stride, [rdi]. */
typedef struct code {
  uint8_t b[128];
  size_t n;
} code;
static void put(code *c, const void *bytes, size_t n) {
  memcpy(c->b + c->n, bytes, n);
  c->n += n;
}
static void vex(code *c, unsigned pp, unsigned vvvv, unsigned opcode, unsigned modrm) {
  put(c, (uint8_t[]){0xc4, 0xe2, (uint8_t)((~vvvv & 15) << 3 | pp), (uint8_t)opcode, (uint8_t)modrm}, 5);
}
static void ldtilecfg(code *c) { vex(c, NP, 0, 0x49, 0x07); }
static void sttilecfg(code *c) { vex(c, P66, 0, 0x49, 0x07); }
static void tilerelease(code *c) { vex(c, NP, 0, 0x49, 0xc0); }
static void tilezero(code *c, unsigned t) { vex(c, PF2, 0, 0x49, 0xc0 | t << 3); }
static void memory(code *c, unsigned pp, unsigned t) {
  vex(c, pp, 0, 0x4b, 0x04 | t << 3);
  put(c, (uint8_t[]){0x37}, 1);
}
static void tileloadd(code *c, unsigned t) { memory(c, PF2, t); }
static void tileloaddt1(code *c, unsigned t) { memory(c, P66, t); }
static void tilestored(code *c, unsigned t) { memory(c, PF3, t); }
static void product(code *c, unsigned opcode, unsigned pp, unsigned d, unsigned a, unsigned b) {
  vex(c, pp, b, opcode, 0xc0 | d << 3 | a);
}

static sigjmp_buf back;
static void on_signal(int number) { siglongjmp(back, number); }

/* The signal that the code ends in; 0: none. */
static int run(code *c, const void *at, int64_t stride) {
  uint8_t *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  put(c, (uint8_t[]){0xc3}, 1);
  enum { BEFORE = 64 }; /* sanitizers look at what stands before a function */
  memcpy(page + BEFORE, c->b, c->n);
  mprotect(page, 4096, PROT_READ | PROT_EXEC);
  int number = sigsetjmp(back, 1);
  if (!number) ((void (*)(const void *, int64_t))(uintptr_t)(page + BEFORE))(at, stride);
  munmap(page, 4096);
  c->n = 0;
  return number;
}
static void works(code *c, const void *at, int64_t stride) { ck_assert_int_eq(run(c, at, stride), 0); }

/* ---- configurations ---- */
typedef struct config {
  uint8_t palette, start_row, reserved[14];
  uint16_t colsb[16];
  uint8_t rows[16];
} config;
/* Tiles 0: m x n results, 1: m rows of k bytes, 2: k / 4 rows of n groups of four bytes; 3: as 0. */
static config shapes(unsigned m, unsigned n, unsigned k) {
  config c = {.palette = 1};
  const unsigned cols[] = {4 * n, k, 4 * n, 4 * n}, rows[] = {m, m, k / 4, m};
  for (int i = 0; i < 4; i++) c.colsb[i] = (uint16_t)cols[i], c.rows[i] = (uint8_t)rows[i];
  return c;
}
static void configure(const config *c) {
  code k = {{0}, 0};
  ldtilecfg(&k);
  works(&k, c, 0);
}
static void release(void) {
  code k = {{0}, 0};
  tilerelease(&k);
  works(&k, NULL, 0);
}

/* c[m][n] (rows of 64 bytes) += a times b by one instruction. */
static void multiply(unsigned opcode, unsigned pp, config shape, const void *a, const void *b, void *c) {
  code k = {{0}, 0};
  configure(&shape);
  tileloadd(&k, 0);
  works(&k, c, LINE);
  tileloadd(&k, 1);
  works(&k, a, LINE);
  tileloaddt1(&k, 2);
  works(&k, b, LINE);
  product(&k, opcode, pp, 0, 1, 2);
  tilestored(&k, 0);
  works(&k, c, LINE);
  release();
}

/* ---- values ---- */
static uint32_t random_state = 12345;
static uint32_t random_bits(void) {
  random_state = random_state * 1664525u + 1013904223u;
  return random_state >> 8;
}
static float no_denormal(float f) { return fpclassify(f) == FP_SUBNORMAL ? copysignf(0, f) : f; }
static float bf16(const uint8_t *p) {
  uint32_t bits = (uint32_t)(p[0] | p[1] << 8) << 16;
  float f;
  memcpy(&f, &bits, 4);
  return no_denormal(f);
}
static float f16(const uint8_t *p) {
  unsigned h = p[0] | (unsigned)p[1] << 8, e = h >> 10 & 31, m = h & 1023;
  float f = e == 31 ? (m ? NAN : INFINITY)
            : e     ? ldexpf((float)(m | 1024), (int)e - 25)
                    : ldexpf((float)m, -24);
  return h & 0x8000 ? -f : f;
}
/* x * y + z rounded once, results too small to be normal become zero. Exact in double up to the last step
 * whenever the sum fits 53 bits; fmaf is right always. */
static float fma_flush(float x, float y, float z) { return no_denormal(fmaf(x, y, no_denormal(z))); }

static void expect_floats(float (*value)(const uint8_t *), unsigned m, unsigned n, unsigned pairs,
                          uint8_t (*a)[LINE], uint8_t (*b)[LINE], uint8_t (*c)[LINE]) {
  for (unsigned i = 0; i < m; i++)
    for (unsigned j = 0; j < n; j++) {
      float even = 0, odd = 0, old;
      for (unsigned k = 0; k < pairs; k++) {
        even = fma_flush(value(&a[i][4 * k]), value(&b[k][4 * j]), even);
        odd = fma_flush(value(&a[i][4 * k + 2]), value(&b[k][4 * j + 2]), odd);
      }
      memcpy(&old, &c[i][4 * j], 4);
      old = no_denormal(no_denormal(old) + no_denormal(even + odd));
      memcpy(&c[i][4 * j], &old, 4);
    }
}

static void same_floats(uint8_t (*got)[LINE], uint8_t (*want)[LINE], unsigned m, unsigned n) {
  for (unsigned i = 0; i < m; i++)
    for (unsigned j = 0; j < n; j++) {
      float g, w;
      memcpy(&g, &got[i][4 * j], 4);
      memcpy(&w, &want[i][4 * j], 4);
      if (isnan(w))
        ck_assert(isnan(g));
      else
        ck_assert_msg(!memcmp(&g, &w, 4), "[%u][%u]: %a, wants %a", i, j, (double)g, (double)w);
    }
}

typedef struct tiles {
  uint8_t a[ROWS][LINE], b[ROWS][LINE], c[ROWS][LINE], want[ROWS][LINE];
} tiles;
static const unsigned sizes[][3] = {{16, 16, 64}, {1, 1, 4}, {5, 16, 64}, {16, 3, 12}, {7, 9, 44}};

/* Exponents of 16-bit floats: about 1, or anything at all. */
static void fill(tiles *t, unsigned mask, unsigned one) {
  uint8_t *all[] = {(uint8_t *)t->a, (uint8_t *)t->b}, *c = (uint8_t *)t->c;
  for (int p = 0; p < 2; p++)
    for (unsigned i = 0; i < TILE; i += 2) {
      unsigned h = (random_bits() & mask) ^ one;
      all[p][i] = (uint8_t)h;
      all[p][i + 1] = (uint8_t)(h >> 8);
    }
  for (unsigned i = 0; i < TILE; i++) c[i] = (uint8_t)(i % 4 == 3 ? 0x3f : random_bits());
}

static void float_products(unsigned pp, float (*value)(const uint8_t *), unsigned near, unsigned one) {
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
    for (int wild = 0; wild < 2; wild++)
      for (int turn = 0; turn < 8; turn++) {
        tiles t;
        const unsigned *z = sizes[s];
        fill(&t, wild ? 0xffff : near, wild ? 0 : one);
        memcpy(t.want, t.c, sizeof t.c);
        expect_floats(value, z[0], z[1], z[2] / 4, t.a, t.b, t.want);
        multiply(0x5c, pp, shapes(z[0], z[1], z[2]), t.a, t.b, t.c);
        same_floats(t.c, t.want, z[0], z[1]);
      }
}

START_TEST(products_of_bf16) { float_products(PF3, bf16, 0x81ff, 0x3f00); }
END_TEST
START_TEST(products_of_f16) {
  if (!amx_native()) float_products(PF2, f16, 0x87ff, 0x3800);
}
END_TEST

/* What the order of sums, denormals and infinities do, each by itself: k = 2 pairs. */
START_TEST(bf16_corners) {
  static const struct {
    uint16_t a[4], b[4];
    float c, want;
  } rows[] = {
      {{0x3f80, 0, 0, 0}, {0x3f80, 0, 0, 0}, 2, 3},
      {{0x0001, 0, 0, 0}, {0x7f00, 0, 0, 0}, 0, 0}, /* a denormal operand */
      {{0x0080, 0, 0, 0}, {0x3f00, 0, 0, 0}, 0, 0}, /* a denormal product */
      {{0, 0, 0, 0}, {0, 0, 0, 0}, 0x1p-140f, 0},   /* a denormal in C */
      {{0x7f80, 0, 0, 0}, {0, 0, 0, 0}, 0, NAN},    /* inf * 0 */
      {{0x7f80, 0, 0, 0}, {0x3f80, 0, 0, 0}, 0, INFINITY},
      {{0x4b80, 0x3f80, 0xcb80, 0}, {0x3f80, 0x3f80, 0x3f80, 0}, 0, 1}, /* 2^24 + 1 - 2^24, by halves */
      {{0x4b80, 0, 0x3f80, 0}, {0x3f80, 0, 0x3f80, 0}, 0, 0x1p24f},     /* in one half: to even */
      {{0x3f80, 0x3f80, 0, 0}, {0x3f80, 0x3f80, 0, 0}, 0x1p24f, 0x1p24f + 2}}; /* C comes last */
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    tiles t = {.a = {{0}}};
    for (int p = 0; p < 4; p++) {
      memcpy(&t.a[0][2 * p], &rows[i].a[p], 2);
      memcpy(&t.b[p / 2][2 * (p % 2)], &rows[i].b[p], 2);
    }
    memcpy(t.c[0], &rows[i].c, 4);
    memcpy(t.want[0], &rows[i].want, 4);
    multiply(0x5c, PF3, shapes(1, 1, 8), t.a, t.b, t.c);
    same_floats(t.c, t.want, 1, 1);
  }
}
END_TEST

START_TEST(products_of_bytes) {
  static const struct {
    unsigned pp;
    int a_sign, b_sign;
  } kinds[] = {{PF2, 1, 1}, {PF3, 1, 0}, {P66, 0, 1}, {NP, 0, 0}};
  for (size_t i = 0; i < 4 * sizeof sizes / sizeof *sizes; i++) {
    tiles t;
    const unsigned *z = sizes[i / 4];
    for (size_t p = 0; p < sizeof t; p++) ((uint8_t *)&t)[p] = (uint8_t)random_bits();
    memcpy(t.want, t.c, sizeof t.c);
    for (unsigned r = 0; r < z[0]; r++)
      for (unsigned j = 0; j < z[1]; j++) {
        int64_t sum = 0;
        uint32_t old;
        for (unsigned k = 0; k < z[2]; k++) {
          int x = t.a[r][k], y = t.b[k / 4][4 * j + k % 4];
          if (kinds[i % 4].a_sign && x > 127) x -= 256;
          if (kinds[i % 4].b_sign && y > 127) y -= 256;
          sum += x * y;
        }
        memcpy(&old, &t.want[r][4 * j], 4);
        old += (uint32_t)sum;
        memcpy(&t.want[r][4 * j], &old, 4);
      }
    multiply(0x5e, kinds[i % 4].pp, shapes(z[0], z[1], z[2]), t.a, t.b, t.c);
    ck_assert_int_eq(memcmp(t.c, t.want, sizeof t.c), 0); /* what is no result stays as it was */
  }
}
END_TEST

/* ---- memory and configurations ---- */
START_TEST(rows_in_memory) {
  uint8_t from[4096] = {0}, to[4096] = {0};
  code k = {{0}, 0};
  config c = {.palette = 1, .colsb = {20, 64}, .rows = {7, 16}};
  for (size_t i = 0; i < sizeof from; i++) from[i] = (uint8_t)random_bits();
  memset(to, 0xee, sizeof to);
  configure(&c);
  tileloadd(&k, 0);
  works(&k, from + 3000, -400);
  tilestored(&k, 0);
  works(&k, to, 100);
  for (size_t i = 0; i < sizeof to; i++) {
    size_t row = i / 100, col = i % 100;
    ck_assert_uint_eq(to[i], row < 7 && col < 20 ? from[3000 - 400 * row + col] : 0xee);
  }
  tilezero(&k, 0);
  tilestored(&k, 0);
  works(&k, to, 100);
  ck_assert_uint_eq(to[0] | to[619], 0);
  ck_assert_uint_eq(to[620], 0xee);
  release();
}
END_TEST

START_TEST(configurations_come_back) {
  code k = {{0}, 0};
  config c = shapes(5, 6, 28), got = {0}, none = {0};
  configure(&c);
  sttilecfg(&k);
  works(&k, &got, 0);
  ck_assert_int_eq(memcmp(&got, &c, sizeof c), 0);
  release();
  memset(&got, 1, sizeof got);
  sttilecfg(&k);
  works(&k, &got, 0);
  ck_assert_int_eq(memcmp(&got, &none, sizeof got), 0);
  configure(&none); /* palette 0: as released */
  tilezero(&k, 0);
  ck_assert_int_eq(run(&k, NULL, 0), SIGILL);
}
END_TEST

/* A configuration zeroes the tiles, and each thread has its own. */
static void *of_another_thread(void *page) {
  code k = {{0}, 0};
  tilestored(&k, 0);
  int first = run(&k, page, LINE);
  config c = shapes(16, 16, 64);
  configure(&c);
  tilestored(&k, 0);
  works(&k, page, LINE);
  release();
  return (void *)(intptr_t)first;
}
START_TEST(threads) {
  uint8_t ones[TILE], got[TILE] = {0};
  code k = {{0}, 0};
  config c = shapes(16, 16, 64);
  void *signal_there;
  pthread_t other;
  memset(ones, 1, sizeof ones);
  configure(&c);
  tileloadd(&k, 0);
  works(&k, ones, LINE);
  pthread_create(&other, NULL, of_another_thread, got);
  pthread_join(other, &signal_there);
  ck_assert_int_eq((int)(intptr_t)signal_there, SIGILL);
  for (int i = 0; i < TILE; i++) ck_assert_uint_eq(got[i], 0);
  tilestored(&k, 0);
  works(&k, got, LINE);
  ck_assert_int_eq(memcmp(got, ones, TILE), 0);
  release();
}
END_TEST

/* ---- faults ---- */
START_TEST(bad_configurations) {
  static const struct {
    unsigned at, value;
  } rows[] = {{0, 2},   {0, 255}, {2, 1},  {15, 1}, {16, 65}, {17, 1}, {32, 1}, {47, 1},
              {48, 17}, {48, 0},  {16, 0}, {56, 1}, {63, 1},  {30, 4}, {55, 1}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    code k = {{0}, 0};
    config c = {.palette = 1, .colsb = {64}, .rows = {16}};
    uint8_t bytes[64];
    memcpy(bytes, &c, 64);
    bytes[rows[i].at] = (uint8_t)rows[i].value;
    ldtilecfg(&k);
    ck_assert_msg(run(&k, bytes, 0) == SIGSEGV, "byte %u = %u", rows[i].at, rows[i].value);
  }
}
END_TEST

/* Changes one number of a shape that fits, or names tiles otherwise. */
START_TEST(bad_products) {
  static const struct {
    int tile, colsb, rows; /* tile < 0: shapes stay */
    unsigned d, a, b;
    int number;
  } rows[] = {{-1, 0, 0, 0, 1, 2, 0},       {-1, 0, 0, 0, 0, 2, SIGILL},
              {-1, 0, 0, 0, 1, 0, SIGILL},  {-1, 0, 0, 0, 1, 1, SIGILL},
              {-1, 0, 0, 0, 1, 4, SIGILL}, /* not configured */
              {-1, 0, 0, 4, 1, 2, SIGILL},  {-1, 0, 0, 0, 4, 2, SIGILL},
              {-1, 0, 0, 0, 1, 10, SIGILL}, /* there are 8 */
              {0, 20, 5, 0, 1, 2, SIGILL},  /* columns of C and B */
              {0, 24, 6, 0, 1, 2, SIGILL},  /* rows of C and A */
              {1, 24, 5, 0, 1, 2, SIGILL},  /* columns of A, rows of B */
              {1, 26, 5, 0, 1, 2, SIGILL},  /* no whole groups of four */
              {2, 24, 8, 0, 1, 2, SIGILL},  {3, 24, 5, 3, 1, 2, 0}};
  static const unsigned instructions[][2] = {{0x5c, PF3}, {0x5e, PF2}, {0x5e, PF3}, {0x5e, P66}, {0x5e, NP}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    for (size_t n = 0; n < sizeof instructions / sizeof *instructions; n++) {
      code k = {{0}, 0};
      config c = shapes(5, 6, 28);
      if (rows[i].tile >= 0) {
        c.colsb[rows[i].tile] = (uint16_t)rows[i].colsb;
        c.rows[rows[i].tile] = (uint8_t)rows[i].rows;
      }
      configure(&c);
      product(&k, instructions[n][0], instructions[n][1], rows[i].d, rows[i].a, rows[i].b);
      int number = run(&k, NULL, 0);
      release();
      ck_assert_msg(number == rows[i].number, "case %zu: signal %d", i, number);
    }
}
END_TEST

/* Bytes as they stand; tiles 0 to 3 are configured. */
START_TEST(bad_encodings) {
  static const struct {
    const char *what;
    uint8_t bytes[6];
  } rows[] = {{"tilezero of a tile not configured", {0xc4, 0xe2, 0x7b, 0x49, 0xe0}},
              {"tilezero of tile 8", {0xc4, 0x62, 0x7b, 0x49, 0xc0}},
              {"tilezero, vvvv", {0xc4, 0xe2, 0x73, 0x49, 0xc0}},
              {"tilezero, W", {0xc4, 0xe2, 0xfb, 0x49, 0xc0}},
              {"tilezero, L", {0xc4, 0xe2, 0x7f, 0x49, 0xc0}},
              {"tileloadd without sib", {0xc4, 0xe2, 0x7b, 0x4b, 0x07}},
              {"tileloadd of registers", {0xc4, 0xe2, 0x7b, 0x4b, 0xc7}},
              {"tileloadd of a tile not configured", {0xc4, 0xe2, 0x7b, 0x4b, 0x3c, 0x37}},
              {"tileloadd, vvvv", {0xc4, 0xe2, 0x73, 0x4b, 0x04, 0x37}},
              {"tdpbf16ps of memory", {0xc4, 0xe2, 0x6a, 0x5c, 0x07}},
              {"ud2", {0x0f, 0x0b}}};
  uint8_t room[TILE] = {0};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    code k = {{0}, 0};
    config c = shapes(16, 16, 64);
    configure(&c);
    put(&k, rows[i].bytes, sizeof rows[i].bytes);
    int number = run(&k, room, LINE);
    release();
    ck_assert_msg(number == SIGILL, "%s: signal %d", rows[i].what, number);
  }
}
END_TEST

START_TEST(unconfigured) {
  uint8_t room[TILE] = {0};
  for (int i = 0; i < 4; i++) {
    code k = {{0}, 0};
    if (i == 0) tilezero(&k, 0);
    if (i == 1) tileloadd(&k, 0);
    if (i == 2) tilestored(&k, 0);
    if (i == 3) product(&k, 0x5c, PF3, 0, 1, 2);
    ck_assert_int_eq(run(&k, room, LINE), SIGILL);
  }
}
END_TEST

START_TEST(memory_that_is_not_there) {
  code k = {{0}, 0};
  config c = shapes(16, 16, 64);
  configure(&c);
  tileloadd(&k, 0);
  ck_assert_int_eq(run(&k, (void *)64, LINE), SIGSEGV);
  ldtilecfg(&k);
  ck_assert_int_eq(run(&k, (void *)64, 0), SIGSEGV);
  release();
}
END_TEST

int main(void) {
  struct sigaction caught = {.sa_handler = on_signal, .sa_flags = SA_NODEFER};
  bool native = amx_native();
  printf("tiles: %s\n", native ? "native" : "emulated");
  if (!native && !__builtin_cpu_supports("fma")) return 0; /* the emulator multiplies with it */
  sigaction(SIGILL, &caught, NULL);
  sigaction(SIGSEGV, &caught, NULL);
  if (!native) amx_emulate();
  TCase *t = tcase_create("amx");
  tcase_add_test(t, products_of_bf16);
  tcase_add_test(t, products_of_f16);
  tcase_add_test(t, bf16_corners);
  tcase_add_test(t, products_of_bytes);
  tcase_add_test(t, rows_in_memory);
  tcase_add_test(t, configurations_come_back);
  tcase_add_test(t, threads);
  tcase_add_test(t, bad_configurations);
  tcase_add_test(t, bad_products);
  tcase_add_test(t, bad_encodings);
  tcase_add_test(t, unconfigured);
  tcase_add_test(t, memory_that_is_not_there);
  Suite *s = suite_create("amx");
  suite_add_tcase(s, t);
  SRunner *r = srunner_create(s);
  srunner_set_fork_status(r, CK_NOFORK);
  srunner_run_all(r, CK_NORMAL);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed ? 1 : 0;
}
