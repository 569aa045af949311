/* toy.c - see toy.h. */
#include "tests/cuda/toy.h"
#include "tenon/ir.h"
#include <stdlib.h>

/* ---- tables -------------------------------------------------------------------------------------------- */

#define PUSH(list, row)                                                                                      \
  do {                                                                                                       \
    if (!tn_vec_push(list, row)) abort();                                                                    \
  } while (0)

static uint32_t put_string(toy *t, const char *s) {
  uint32_t at = (uint32_t)t->strings.len;
  tn_buf_put(&t->strings, s, strlen(s) + 1);
  return at;
}
static uint32_t put_expr(toy *t, tn_cuda_expr e) {
  PUSH(&t->exprs, e);
  return t->exprs.count - 1;
}
uint32_t toy_const(toy *t, int64_t value) {
  return put_expr(t, (tn_cuda_expr){TN_DIM_CONST, 0, 0, 0, value});
}
uint32_t toy_sym(toy *t, uint32_t number) { return put_expr(t, (tn_cuda_expr){TN_DIM_SYM, number, 0, 0, 0}); }
uint32_t toy_expr(toy *t, uint32_t kind, uint32_t a, uint32_t b) {
  return put_expr(t, (tn_cuda_expr){kind, a, b, 0, 0});
}

void toy_kernel(toy *t, const char *symbol, uint32_t nbufs, uint32_t ndims) {
  tn_cuda_kernel_row k = {
      .symbol = put_string(t, symbol), .first_launch = t->launches.count, .nbufs = nbufs, .ndims = ndims};
  PUSH(&t->kernels, k);
}

tn_cuda_launch_row *toy_launch(toy *t, const char *function, uint32_t threads, uint32_t grid) {
  tn_cuda_launch_row l = {.function = put_string(t, function),
                          .threads = threads,
                          .grid = {grid, TN_CUDA_NONE, TN_CUDA_NONE},
                          .cluster = 1,
                          .first_map = t->maps.count};
  PUSH(&t->launches, l);
  t->kernels.items[t->kernels.count - 1].nlaunches++;
  return &t->launches.items[t->launches.count - 1];
}

static void put_image(toy *t, tn_cuda_image m, const void *bytes) {
  m.offset = t->code.len; /* moved behind the tables later */
  PUSH(&t->images, m);
  tn_buf_put(&t->code, bytes, m.bytes);
  while (t->code.len % 16) tn_buf_put(&t->code, "", 1);
}
void toy_ptx(toy *t, uint32_t version, const char *text) {
  put_image(t, (tn_cuda_image){.kind = TN_CUDA_PTX, .ptx = version, .bytes = strlen(text) + 1}, text);
}
void toy_cubin(toy *t) {
  static const char elf[128] = "\177ELF";
  put_image(t, (tn_cuda_image){.kind = TN_CUDA_CUBIN, .bytes = sizeof elf}, elf);
}

static tn_cuda_span put_table(tn_buf *out, const void *rows, uint64_t n, size_t size) {
  while (out->len % 16) tn_buf_put(out, "", 1);
  tn_cuda_span s = {(uint32_t)out->len, (uint32_t)n};
  if (n) tn_buf_put(out, rows, n * size);
  return s;
}
#define TABLE(name) h.name = put_table(&out, t->name.items, t->name.count, sizeof *t->name.items)

void toy_seal(tn_bytes package) {
  tn_cuda_package *h = (tn_cuda_package *)package.ptr;
  h->hash = tn_cuda_package_hash(package.ptr, package.len);
}

tn_bytes toy_finish(toy *t, uint32_t cc, bool exact) {
  tn_cuda_package h = {.cc = cc, .exact = exact};
  tn_buf out = {0};
  memcpy(h.magic, TN_CUDA_PACKAGE_MAGIC, sizeof h.magic);
  tn_buf_put(&out, &h, sizeof h);
  h.strings = put_table(&out, t->strings.text, t->strings.len, 1);
  TABLE(kernels), TABLE(launches), TABLE(exprs), TABLE(maps);
  while (out.len % 16) tn_buf_put(&out, "", 1);
  uint64_t base = tn_align_up(out.len + t->images.count * sizeof *t->images.items, 16);
  for (uint32_t i = 0; i < t->images.count; i++) t->images.items[i].offset += base;
  TABLE(images);
  while (out.len < base) tn_buf_put(&out, "", 1);
  tn_buf_put(&out, t->code.text, t->code.len);
  h.bytes = out.len;
  char *memory = aligned_alloc(16, tn_align_up(out.len, 16));
  if (out.failed || !memory) abort();
  memcpy(memory, out.text, out.len);
  memcpy(memory, &h, sizeof h);
  tn_bytes package = {memory, out.len};
  toy_seal(package);
  tn_buf_fini(&out);
  tn_buf_fini(&t->strings);
  tn_buf_fini(&t->code);
  tn_vec_fini(&t->images);
  tn_vec_fini(&t->kernels);
  tn_vec_fini(&t->launches);
  tn_vec_fini(&t->exprs);
  tn_vec_fini(&t->maps);
  return package;
}

/* ---- code ---------------------------------------------------------------------------------------------- */

/* %r0 = i, %d0 = the numbers, %d1 = n; ends where i >= n. */
#define HEAD(numbers)                                                                                        \
  ".reg .pred %p<4>; .reg .b32 %r<8>; .reg .b64 %d<12>;\n"                                                   \
  "ld.param.u64 %d0, [" numbers "]; ld.global.u64 %d1, [%d0];\n"                                             \
  "mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ntid.x; mov.u32 %r3, %tid.x; mad.lo.u32 %r0, %r1, %r2, %r3;\n"       \
  "cvt.u64.u32 %d2, %r0; setp.ge.u64 %p0, %d2, %d1; @%p0 bra DONE;\n"
#define TAIL "DONE: ret;\n}\n"
#define PARAMS(n) ".visible .entry " n "(.param .u64 " n "_0, .param .u64 " n "_1, .param .u64 " n "_2"

/* y[i] += x[i] + a */
static const char add_text[] = PARAMS("add") ", .param .u64 add_3)\n{\n" HEAD(
    "add_3") "ld.param.u64 %d3, [add_0]; mad.wide.u32 %d3, %r0, 4, %d3; ld.global.u32 %r4, [%d3];\n"
             "ld.param.u64 %d4, [add_1]; mad.wide.u32 %d4, %r0, 4, %d4; ld.global.u32 %r5, [%d4];\n"
             "ld.global.u64 %d5, [%d0+8]; cvt.u32.u64 %r6, %d5;\n"
             "add.u32 %r4, %r4, %r5; add.u32 %r4, %r4, %r6; st.global.u32 [%d4], %r4;\n" TAIL;
/* y[i] = a */
static const char set_text[] = PARAMS("set") ", .param .u64 set_3)\n{\n" HEAD(
    "set_3") "ld.param.u64 %d4, [set_1]; mad.wide.u32 %d4, %r0, 4, %d4;\n"
             "ld.global.u64 %d5, [%d0+8]; cvt.u32.u64 %r6, %d5; st.global.u32 [%d4], %r6;\n" TAIL;
/* y[i] = i + 1, through the last bytes of shared memory */
static const char large_text[] = ".extern .shared .align 16 .b8 pool[];\n" PARAMS("large") ")\n{\n" HEAD(
    "large_2") "mov.u32 %r4, pool; mad.lo.u32 %r4, %r0, 4, %r4; add.u32 %r5, %r0, 1; st.shared.u32 "
               "[%r4+65408], %r5;\n"
               "ld.shared.u32 %r6, [%r4+65408]; ld.param.u64 %d4, [large_0]; mad.wide.u32 %d4, %r0, 4, %d4;\n"
               "st.global.u32 [%d4], %r6;\n" TAIL;
static const char pair_text[] =
    PARAMS("pair") ")\n{\n.reg .b32 %r<4>; .reg .b64 %d<4>;\n"
                   "mov.u32 %r0, %ctaid.x; mov.u32 %r1, %cluster_ctarank; ld.param.u64 %d0, [pair_0];\n"
                   "mad.wide.u32 %d0, %r0, 4, %d0; st.global.u32 [%d0], %r1; ret;\n}\n";
/* thread i of 16 copies 8 bytes */
static const char map_text[] = PARAMS("map") ", .param .u64 map_3, .param .align 64 .b8 map_4[128])\n{\n"
                                             ".reg .b32 %r<4>; .reg .b64 %d<6>;\n"
                                             "mov.u32 %r0, %tid.x; mov.b64 %d0, map_4; cvta.param.u64 %d0, "
                                             "%d0; mad.wide.u32 %d0, %r0, 8, %d0;\n"
                                             "ld.u64 %d1, [%d0]; ld.param.u64 %d2, [map_1]; mad.wide.u32 "
                                             "%d2, %r0, 8, %d2; st.global.u64 [%d2], %d1;\n"
                                             "ret;\n}\n";
static const char wild_text[] =
    PARAMS("wild") ")\n{\n.reg .b32 %r<2>; .reg .b64 %d<2>;\n"
                   "mov.u64 %d0, 64; mov.u32 %r0, 1; st.global.u32 [%d0], %r0; ret;\n}\n";
static const char wide_text[] = PARAMS("wide") ")\n{\nret;\n}\n";
static const char stay_text[] =
    PARAMS("stay") ")\n{\n.reg .b32 %r<4>; .reg .b64 %d<4>;\n"
                   "mov.u32 %r0, %ctaid.x; mov.u32 %r1, %nctaid.x; ld.param.u64 %d0, [stay_0];\n"
                   "mad.wide.u32 %d0, %r0, 4, %d0; st.global.u32 [%d0], %r1; ret;\n}\n";

static void put_code(toy *t, uint32_t cc) {
  tn_buf text = {0};
  tn_buf_printf(&text, ".version %s\n.target sm_%u\n.address_size 64\n", cc >= 90 ? "8.0" : "7.0", cc);
  const char *const all[] = {add_text, set_text, large_text, wild_text, wide_text, stay_text};
  for (size_t i = 0; i < TN_COUNT(all); i++) tn_buf_puts(&text, all[i]);
  if (cc >= 90) tn_buf_puts(&text, map_text), tn_buf_puts(&text, pair_text);
  toy_ptx(t, cc >= 90 ? 80 : 70, tn_buf_cstr(&text));
  tn_buf_fini(&text);
}

/* Blocks of 32 for n elements. */
static uint32_t blocks(toy *t) {
  uint32_t sum = toy_expr(t, TN_DIM_ADD, toy_sym(t, 0), toy_const(t, 31));
  return toy_expr(t, TN_DIM_FLOORDIV, sum, toy_const(t, 32));
}
/* blocks(n) if n > 64 (or, with `upto`, if n <= 64), else 0. */
static uint32_t blocks_if(toy *t, bool upto) {
  uint32_t more = toy_expr(t, TN_DIM_FLOORDIV, toy_sym(t, 0), toy_const(t, 65));
  more = toy_expr(t, TN_DIM_MIN, more, toy_const(t, 1));
  if (upto) {
    more = toy_expr(t, TN_DIM_MUL, more, toy_const(t, -1));
    more = toy_expr(t, TN_DIM_ADD, more, toy_const(t, 1));
  }
  return toy_expr(t, TN_DIM_MUL, more, blocks(t));
}

/* Over buffer x; or over scratch, from byte `offset` (an expression) on. */
static void put_map(toy *t, uint32_t buffer, uint32_t offset) {
  tn_cuda_map_row m = {.buffer = buffer, .offset = offset, .rank = 2, .swizzle = 2, .box = {64, 8}};
  m.promotion = 2;
  m.sizes[0] = toy_const(t, 64);
  m.sizes[1] = toy_sym(t, 0);
  m.strides[0] = TN_CUDA_NONE;
  m.strides[1] = toy_const(t, 64);
  toy_launch(t, "map", 16, TN_CUDA_NONE)->nmaps = 1;
  PUSH(&t->maps, m);
}

tn_bytes toy_package(uint32_t cc) {
  toy t = {0};
  toy_kernel(&t, "add", 2, 2), toy_launch(&t, "add", 32, blocks(&t));
  toy_kernel(&t, "twice", 2, 2), toy_launch(&t, "add", 32, blocks(&t)), toy_launch(&t, "add", 32, blocks(&t));
  toy_kernel(&t, "few", 2, 2);
  toy_launch(&t, "add", 32, blocks_if(&t, true)), toy_launch(&t, "set", 32, blocks_if(&t, false));
  toy_kernel(&t, "large", 1, 1), toy_launch(&t, "large", 32, TN_CUDA_NONE)->shared = 64 * 1024;
  toy_kernel(&t, "wild", 1, 1), toy_launch(&t, "wild", 1, TN_CUDA_NONE);
  toy_kernel(&t, "wide", 1, 1), toy_launch(&t, "wide", 1, TN_CUDA_NONE)->grid[1] = toy_sym(&t, 0);
  toy_kernel(&t, "stay", 1, 1), toy_launch(&t, "stay", 1, toy_sym(&t, 0))->resident = 2;
  if (cc >= 90) toy_kernel(&t, "map", 2, 1), put_map(&t, 0, TN_CUDA_NONE);
  if (cc >= 90) toy_kernel(&t, "inner", 2, 1);
  if (cc >= 90) put_map(&t, 2, toy_expr(&t, TN_DIM_MUL, toy_sym(&t, 0), toy_const(&t, 16)));
  if (cc >= 90) toy_kernel(&t, "pair", 1, 1), toy_launch(&t, "pair", 1, toy_sym(&t, 0))->cluster = 2;
  put_code(&t, cc);
  return toy_finish(&t, cc, false);
}
