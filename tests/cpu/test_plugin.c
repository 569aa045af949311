/* test_plugin.c - the plugin as a host sees it: claims, layouts, what is in a package, and errors that are
 * only errors. */
#include "tests/cpu/harness.h"
#include <elf.h>

static const char layers[] =
    "module @m {\n"
    "  dims B, S\n"
    "  weight @a : f32[32, 24]\n"
    "  weight @b : f32[32, 24]\n"
    "  weight @c : f16[24, 40]\n"
    "  weight @d : f32[24]\n"
    "  weight @e : bf16[50, 24]\n"
    "  weight @f : f32[24, 24]\n"
    "  func @f(%x: f32[B, S, 24], %i: i32[S], %z: f64[3, 3]) -> (p: f32[B, S, 32], q: f32[B, S, 32]) {\n"
    "    %p = kernel %x, @a {backend = \"cpu\", root = \"matmul\"} : f32[B, S, 32] {\n"
    "      ^(%v: f32[B, S, 24], %w: f32[32, 24]):\n"
    "      %r = matmul %v, %w {trans_b} : f32[B, S, 32]\n"
    "      %g = gelu %r : f32[B, S, 32]\n"
    "      yield %g\n"
    "    }\n"
    "    %q = kernel %x, @b {backend = \"cpu\", root = \"matmul\"} : f32[B, S, 32] {\n"
    "      ^(%v: f32[B, S, 24], %w: f32[32, 24]):\n"
    "      %other = matmul %v, %w {trans_b} : f32[B, S, 32]\n"
    "      %name = gelu %other : f32[B, S, 32]\n"
    "      yield %name\n"
    "    }\n"
    "    return %p, %q\n"
    "  }\n"
    "  func @g(%x: f32[B, S, 24], %i: i32[S], %z: f64[3, 3]) -> f64[3, 3] {\n"
    "    %0 = matmul %x, @c : f32[B, S, 40]\n"
    "    %1 = mul %x, @d : f32[B, S, 24]\n"
    "    %2 = gather @e, %i : bf16[S, 24]\n"
    "    %3 = matmul %x, @e {trans_b} : f32[B, S, 50]\n"
    "    %4 = matmul %x, @f : f32[B, S, 24]\n"
    "    %5 = matmul %x, @f {trans_b} : f32[B, S, 24]\n"
    "    %6 = matmul %z, %z : f64[3, 3]\n"
    "    %7 = erf %z : f64[3, 3]\n"
    "    %8 = reshape %z {shape = [1, 3, 1, 3]} : f64[1, 3, 1, 3]\n"
    "    %9 = attention %8, %8, %8 {scale = 1} : f64[1, 3, 1, 3]\n"
    "    %10 = exp %z : f64[3, 3]\n"
    "    return %10\n"
    "  }\n"
    "}\n";

static tn_diags diags;
static tn_module *m;
static void *self;
static const tn_backend *cpu;
static tn_buf image;
static char symbols[8][96];
static uint32_t nsymbols;

static tn_status take_image(void *ctx, tn_bytes b) {
  (void)ctx;
  tn_buf_put(&image, b.ptr, b.len);
  return TN_OK;
}
static tn_status take_kernel(void *ctx, const tn_kernel_info *i) {
  (void)ctx;
  snprintf(symbols[nsymbols++ % 8], sizeof *symbols, "%s", i->symbol);
  return TN_OK;
}
static void setup(void) {
  tn_diags_init(&diags);
  m = tn_module_new(&diags);
  cpu = cpu_plugin(&self);
  image = (tn_buf){0};
  nsymbols = 0;
  ck_assert_int_eq(tn_module_parse(m, "layers.tir", tn_str_of(layers)), TN_OK);
}
static void teardown(void) {
  tn_buf_fini(&image);
  tn_module_free(m);
  tn_diags_fini(&diags);
}
static void find(void *user, const tn_target *t) {
  tn_target *wanted = user;
  if (!strcmp(t->name, wanted->name)) *wanted = *t;
}
static tn_target target(const char *name) {
  tn_target t = {.name = name};
  ck_assert_int_eq(cpu->targets(self, find, &t), TN_OK);
  ck_assert_ptr_nonnull(t.features);
  return t;
}
static tn_target avx2(void) { return target("avx2"); }
static tn_status compile_for(const char *name, const char *options) {
  tn_package_sink sink = {.size = sizeof sink, .image = take_image, .kernel = take_kernel};
  tn_target t = target(name);
  image.len = 0;
  nsymbols = 0;
  return cpu->compile(self, &t, m, (const tn_options *)options, &sink);
}
static tn_status compile(const char *options) { return compile_for("avx2", options); }

START_TEST(equal_kernels_share_code) {
  setup();
  ck_assert_int_eq(compile("emit=object"), TN_OK);
  ck_assert_uint_eq(nsymbols, 2);
  ck_assert_str_eq(symbols[0], symbols[1]);
  ck_assert_ptr_nonnull(strstr(symbols[0], "avx2"));
  teardown();
}
END_TEST

START_TEST(same_bytes) {
  setup();
  ck_assert_int_eq(compile("emit=object"), TN_OK);
  tn_buf first = {0};
  tn_buf_put(&first, image.text, image.len);
  ck_assert_int_eq(compile("emit=object"), TN_OK);
  ck_assert_uint_eq(first.len, image.len);
  ck_assert_mem_eq(first.text, image.text, image.len);
  tn_buf_fini(&first);
  teardown();
}
END_TEST

/* An artefact has no math library: nothing but memcpy and memset may be left open. */
START_TEST(nothing_undefined) {
  setup();
  ck_assert_int_eq(compile("emit=object"), TN_OK);
  const Elf64_Ehdr *h = (const void *)image.text;
  ck_assert_mem_eq(h->e_ident, ELFMAG, SELFMAG);
  ck_assert_uint_eq(h->e_type, ET_REL);
  const Elf64_Shdr *s = (const void *)(image.text + h->e_shoff);
  uint32_t seen = 0;
  for (uint32_t i = 0; i < h->e_shnum; i++) {
    if (s[i].sh_type != SHT_SYMTAB) continue;
    const Elf64_Sym *sym = (const void *)(image.text + s[i].sh_offset);
    const char *names = image.text + s[s[i].sh_link].sh_offset;
    for (uint64_t k = 1; k < s[i].sh_size / sizeof *sym; k++, seen++) {
      const char *name = names + sym[k].st_name;
      bool fine = sym[k].st_shndx != SHN_UNDEF || !strcmp(name, "memcpy") || !strcmp(name, "memset");
      ck_assert_msg(fine, "undefined: %s", name);
    }
  }
  ck_assert_uint_gt(seen, 0);
  teardown();
}
END_TEST

START_TEST(texts) {
  setup();
  ck_assert_int_eq(compile("emit=llvm"), TN_OK);
  ck_assert_ptr_nonnull(strstr(tn_buf_cstr(&image), "define hidden void @ukr"));
  ck_assert_int_eq(compile("emit=asm"), TN_OK);
  ck_assert_ptr_nonnull(strstr(tn_buf_cstr(&image), "vfmadd231ps"));
  ck_assert_int_eq(compile("emit=song"), TN_INVALID);
  ck_assert_str_eq(cpu_last_words(), "option emit is 'song', wants object, llvm or asm");
  teardown();
}
END_TEST

/* Products of bf16 where precision and target both allow them, and nowhere else. */
START_TEST(narrow_products) {
  static const struct {
    const char *target, *precision;
    bool narrow;
  } rows[] = {{"avx512bf16", "fast", true},
              {"avx512bf16", "high", false},
              {"avx512bf16", "strict", false},
              {"avx512vnni", "fast", false},
              {"avx512", "fast", false}};
  for (size_t i = 0; i < TN_COUNT(rows); i++) {
    setup();
    ck_assert_int_eq(tn_ir_meta_set(m, "precision", rows[i].precision), TN_OK);
    ck_assert_int_eq(compile_for(rows[i].target, "emit=asm"), TN_OK);
    ck_assert_int_eq(strstr(tn_buf_cstr(&image), "vdpbf16ps") != NULL, rows[i].narrow);
    teardown();
  }
}
END_TEST

START_TEST(bad_images) {
  setup();
  tn_target t = avx2();
  tn_exec *x = NULL;
  tn_kernel_fn fn;
  void *ctx;
  ck_assert_int_eq(compile("emit=object"), TN_OK);
  static const char garbage[200] = "not an object";
  ck_assert_int_eq(cpu->load(self, &t, (tn_bytes){garbage, sizeof garbage}, &x), TN_DATA_LOSS);
  for (uint64_t n = 0; n < image.len; n += image.len / 37)
    ck_assert_int_eq(cpu->load(self, &t, (tn_bytes){image.text, n}, &x), TN_DATA_LOSS);
  for (uint64_t at = 0; at < image.len; at += image.len / 91) {
    image.text[at] ^= 4;
    ck_assert_int_eq(cpu->load(self, &t, (tn_bytes){image.text, image.len}, &x), TN_DATA_LOSS);
    image.text[at] ^= 4;
  }
  ck_assert_ptr_null(x);
  ck_assert_int_eq(cpu->load(self, &t, (tn_bytes){image.text, image.len}, &x), TN_OK);
  ck_assert_int_eq(cpu->kernel(x, "no_such_kernel", &fn, &ctx), TN_NOT_FOUND);
  ck_assert_int_eq(cpu->kernel(x, symbols[0], &fn, &ctx), TN_OK);
  cpu->unload(x);
  tn_target other = t;
  other.name = "mmx";
  tn_package_sink sink = {.size = sizeof sink, .image = take_image, .kernel = take_kernel};
  ck_assert_int_eq(cpu->compile(self, &other, m, NULL, &sink), TN_INVALID);
  teardown();
}
END_TEST

START_TEST(layout_names) {
  setup();
  static const struct {
    const char *weight, *layout, *fast;
    uint64_t bytes, fast_bytes;
  } rows[] = {{"a", "panel16", "panel16p2", 32 * 24 * 4, 32 * 24 * 2},
              {"c", "panel16k", "panel16kp2", 48 * 24 * 2, 48 * 24 * 2},
              {"d", NULL, NULL, 0, 0},
              {"e", "panel16p2", "panel16p2", 64 * 24 * 2, 64 * 24 * 2},
              {"f", NULL, NULL, 0, 0}};
  for (size_t i = 0; i < 2 * TN_COUNT(rows); i++)
    for (tn_weight w = 1; w <= tn_ir_weight_count(m); w++) {
      bool fast = i % 2;
      const char *wants = fast ? rows[i / 2].fast : rows[i / 2].layout;
      tn_weight_info info;
      uint64_t bytes = 0;
      tn_ir_weight_get(m, w, &info);
      if (strcmp(info.name, rows[i / 2].weight)) continue;
      ck_assert_int_eq(tn_ir_meta_set(m, "precision", fast ? "fast" : "strict"), TN_OK);
      const char *layout = cpu->layout(self, m, w, &bytes);
      if (!wants) {
        ck_assert_ptr_null(layout);
        continue;
      }
      ck_assert_str_eq(layout, wants);
      ck_assert_uint_eq(bytes, fast ? rows[i / 2].fast_bytes : rows[i / 2].bytes);
    }
  teardown();
}
END_TEST

START_TEST(claims) {
  setup();
  static const struct {
    const char *op;
    bool taken;
  } rows[] = {{"matmul", true},  {"mul", true},        {"gather", true}, {"matmul", true},
              {"matmul", true},  {"matmul", true},     {"matmul", true}, {"erf", true},
              {"reshape", true}, {"attention", false}, {"exp", true}};
  tn_target t = avx2();
  tn_op op = tn_ir_first_op(m, 2, 0);
  for (size_t i = 0; i < TN_COUNT(rows); i++, op = tn_ir_next_op(m, op)) {
    const char *why = NULL;
    ck_assert_str_eq(tn_ir_opcode_name(tn_ir_opcode(m, op)), rows[i].op);
    ck_assert_int_eq(cpu->claim(self, &t, m, op, &why), rows[i].taken);
    if (!rows[i].taken) ck_assert_str_eq(why, "not available in f64");
  }
  teardown();
}
END_TEST

KERNEL_TESTS("cpu plugin", equal_kernels_share_code, same_bytes, nothing_undefined, texts, narrow_products,
             bad_images, layout_names, claims)
