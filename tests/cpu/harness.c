/* harness.c - see harness.h. */
#include "tests/cpu/harness.h"
#include "backends/ref/ref.h"
#include "ir/quant/quant.h"
#include "passes/pass.h"
#include "passes/rw.h"
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

/* Ends the test (Check reports the signal) or the benchmark. */
static _Noreturn void give_up(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static _Noreturn void give_up(const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  vfprintf(stderr, fmt, ap);
  va_end(ap);
  fputc('\n', stderr);
  abort();
}
#define NEED(cond) ((cond) ? (void)0 : give_up("%s:%d: not so: %s", __FILE__, __LINE__, #cond))

/* ---- memory that ends at a wall ---- */
typedef struct wall {
  void *map, *data;
  size_t size;
} wall;

static wall wall_new(uint64_t bytes) {
  size_t page = 4096, n = (size_t)tn_align_up(bytes ? bytes : 1, page) + 2 * page;
  wall w = {.size = n, .map = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)};
  NEED(w.map != MAP_FAILED);
  NEED(mprotect((char *)w.map + n - page, page, PROT_NONE) == 0);
  memset(w.map, 0xcd, n - page);
  w.data = (char *)w.map + n - page - bytes;
  return w;
}
static void wall_free(wall *w) {
  if (w->map) munmap(w->map, w->size);
  *w = (wall){0};
}

/* ---- the plugin ---- */
static char last_words[512];
const char *cpu_last_words(void) { return last_words; }
static void say(void *ctx, tn_module *m, const tn_diag *d) {
  (void)ctx, (void)m;
  snprintf(last_words, sizeof last_words, "%.*s", (int)d->text.len, d->text.ptr);
  fprintf(stderr, "plugin: %.*s\n", (int)d->text.len, d->text.ptr);
}
/* The options of these tests are one string "key=value". */
static const char *option(const tn_options *o, const char *key) {
  const char *text = (const char *)o;
  size_t n = strlen(key);
  return !strncmp(text, key, n) && text[n] == '=' ? text + n + 1 : NULL;
}
const tn_backend *cpu_plugin(void **self) {
  static const tn_backend *backend;
  static void *state;
  if (!backend) {
    void *lib = dlopen(TN_BINARY_DIR "/plugins/tenon-cpu.so", RTLD_NOW | RTLD_LOCAL);
    if (!lib) give_up("%s", dlerror());
    tn_plugin_query_fn query = (tn_plugin_query_fn)(uintptr_t)dlsym(lib, "tn_plugin_query");
    const char *why = NULL;
    const tn_plugin *p = query(TN_ABI, &why);
    static tn_host host = {.size = sizeof host, .abi = TN_ABI, .diag = say, .option = option};
    host.ir = &tn_ir_table;
    NEED(p->init(&host, &state) == TN_OK);
    backend = p->table(state, "tn.backend/1", 0);
  }
  *self = state;
  return backend;
}

/* ---- a module with values of its dims ---- */
typedef struct tensor {
  wall mem;
  tn_ref_tensor t;
  bool set;
} tensor;
typedef struct world {
  const cpu_case *c;
  tn_diags diags;
  tn_module *m;
  tn_func f;
  TN_VEC(tensor) values; /* by value id */
} world;

static int64_t dim_value(tn_module *m, const cpu_case *c, tn_dim d) {
  tn_dim_info i;
  tn_ir_dim_get(m, d, &i);
  if (i.kind == TN_DIM_CONST) return i.value;
  if (i.kind == TN_DIM_SYM) {
    for (int k = 0; k < 8 && c->dims[k].name; k++)
      if (!strcmp(c->dims[k].name, i.symbol)) return c->dims[k].value;
    give_up("dim %s has no value", i.symbol);
  }
  int64_t a = dim_value(m, c, i.a), b = dim_value(m, c, i.b);
  switch (i.kind) {
  case TN_DIM_ADD: return a + b;
  case TN_DIM_MUL: return a * b;
  case TN_DIM_FLOORDIV: return a / b - (a % b < 0);
  case TN_DIM_MOD: return (a % b + b) % b;
  case TN_DIM_MIN: return a < b ? a : b;
  default: return a > b ? a : b;
  }
}

static int64_t dim_of(void *ctx, tn_dim d) {
  const world *w = ctx;
  return dim_value(w->m, w->c, d);
}

static tensor *slot(world *w, tn_value v) {
  tensor none = {0};
  while (w->values.count <= v) NEED(tn_vec_push(&w->values, none));
  return &w->values.items[v];
}
static tensor *make(world *w, tn_value v) {
  tensor *x = slot(w, v);
  tn_value_info i;
  tn_type_info t;
  tn_ir_value_get(w->m, v, &i);
  tn_ir_type_get(w->m, i.type, &t);
  x->t = (tn_ref_tensor){.dtype = t.dtype, .rank = t.rank};
  for (uint32_t k = 0; k < t.rank; k++) x->t.dims[k] = dim_of(w, t.dims[k]);
  x->mem = wall_new(tn_ref_bytes(&tn_ir_table, &x->t));
  x->t.data = x->mem.data;
  x->set = true;
  return x;
}

static uint64_t next_random(uint64_t *s) {
  uint64_t z = (*s += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}
/* A number in (-1, 1) of a kind TN_QN_*, as it is stored at p. */
static void put_number(uint8_t kind, uint8_t *p, uint64_t *s) {
  float f = (float)(next_random(s) % 1000) / 500 - 1;
  uint16_t half = kind == TN_QN_BF16 ? tn_f32_to_bf16(f) : tn_f32_to_f16(f);
  if (kind == TN_QN_F16 || kind == TN_QN_BF16) memcpy(p, &half, 2);
  if (kind == TN_QN_F32) memcpy(p, &f, 4);
  if (kind == TN_QN_E8M0_HALF) *p = (uint8_t)(next_random(s) % 8 + 120);
  for (int i = 0; kind == TN_QN_F16_SPLIT && i < 4; i++)
    p[2 * i + 1] = (uint8_t)((p[2 * i + 1] & 15) | (half >> 4 * i & 15) << 4);
}
/* Any bits are codes and whole inner scales; stored floats must be tame. */
static void fill_blocks(tn_ref_tensor *t, uint64_t *s) {
  const tn_quant *q = tn_quant_of(t->dtype);
  uint64_t n = tn_ref_bytes(&tn_ir_table, t);
  bool halves = q->inner == TN_QI_F16 || q->inner == TN_QI_BF16;
  for (uint64_t i = 0; i < n; i++) {
    uint8_t *p = (uint8_t *)t->data + i;
    *p = (uint8_t)next_random(s);
    if (q->level == TN_QL_F8E4M3 && (*p & 0x7f) == 0x7f) *p = 0; /* no NaN */
  }
  for (uint64_t i = 0; i < n; i += q->bytes) {
    uint8_t *p = (uint8_t *)t->data + i;
    put_number(q->d, p + q->d_at, s);
    put_number(q->m, p + q->m_at, s);
    for (uint32_t j = 0; halves && j < q->values / q->sub; j++)
      put_number(q->inner == TN_QI_F16 ? TN_QN_F16 : TN_QN_BF16, p + q->inner_at + 2 * j, s);
  }
}
static void fill(world *w, tensor *x, const char *name, uint64_t salt) {
  const cpu_case *c = w->c;
  uint64_t s = c->seed + salt * 1000003u;
  double lo = c->lo, hi = c->hi;
  int64_t a = c->int_lo, b = c->int_hi;
  if (lo == 0 && hi == 0) lo = -2, hi = 2;
  if (a == 0 && b == 0) b = 5;
  const tn_dtype_info *info = tn_ir_dtype_info(x->t.dtype);
  if (info->cls == TN_CLASS_BLOCK) {
    fill_blocks(&x->t, &s);
    return;
  }
  for (int64_t i = 0; i < tn_ref_count(&x->t); i++) {
    double u = (double)(next_random(&s) >> 11) * 0x1p-53;
    if (info->cls == TN_CLASS_FLOAT)
      tn_ref_set(&x->t, i, lo + u * (hi - lo));
    else if (info->cls == TN_CLASS_BOOL)
      tn_ref_set_int(&x->t, i, u < 0.7);
    else
      tn_ref_set_int(&x->t, i, a + (int64_t)(u * (double)(b - a)));
  }
  if (c->fill) c->fill(name, x->t.dtype, x->t.data, tn_ref_count(&x->t));
}

static void world_init(world *w, const cpu_case *c) {
  *w = (world){.c = c};
  tn_diags_init(&w->diags);
  w->m = tn_module_new(&w->diags);
  tn_status s = tn_module_parse(w->m, "case.tir", tn_str_of(c->text));
  if (s == TN_OK) s = tn_module_verify(w->m);
  if (s != TN_OK) {
    tn_buf text = {0};
    tn_diags_text(&w->diags, &text, false);
    give_up("%s\n%s", tn_buf_cstr(&text), c->text);
  }
  w->f = tn_ir_func_count(w->m);
  tn_func_info f;
  tn_ir_func_get(w->m, w->f, &f);
  for (uint32_t i = 0; i < f.nargs; i++) {
    (void)slot(w, f.args[i]);
    fill(w, make(w, f.args[i]), f.arg_names[i], i + 1);
  }
  for (uint32_t i = 1; i <= tn_ir_weight_count(w->m); i++) {
    tn_weight_info info;
    tn_ir_weight_get(w->m, i, &info);
    fill(w, make(w, info.value), info.name, 100 + i);
  }
  for (uint32_t i = 1; i <= tn_ir_state_count(w->m); i++) {
    tn_state_info info;
    tn_ir_state_get(w->m, i, &info);
    fill(w, make(w, info.value), info.name, 200 + i);
  }
}
static void world_fini(world *w) {
  for (uint32_t i = 0; i < w->values.count; i++) wall_free(&w->values.items[i].mem);
  tn_vec_fini(&w->values);
  tn_module_free(w->m);
  tn_diags_fini(&w->diags);
}

/* ---- reference: op by op ---- */
static void ref_op(world *w, tn_op op, tn_arena *a) {
  const char *name = tn_ir_opcode_name(tn_ir_opcode(w->m, op));
  tn_ref_tensor in[16] = {{0}}, out[16];
  tn_ref_call c = {
      .ir = &tn_ir_table, .m = w->m, .op = op, .in = in, .out = out, .dim = dim_of, .ctx = w, .scratch = a};
  c.nin = tn_ir_op_noperands(w->m, op);
  c.nout = tn_ir_op_nresults(w->m, op);
  for (uint32_t i = 0; i < c.nout; i++) (void)make(w, tn_ir_op_result(w->m, op, i));
  for (uint32_t i = 0; i < c.nin; i++) {
    tn_value v = tn_ir_op_operand(w->m, op, i);
    if (v) in[i] = slot(w, v)->t;
  }
  for (uint32_t i = 0; i < c.nout; i++) out[i] = slot(w, tn_ir_op_result(w->m, op, i))->t;
  if (!strcmp(name, "kv_update")) memcpy(out[0].data, in[0].data, tn_ref_bytes(&tn_ir_table, &in[0]));
  tn_ref_fn fn = tn_ref_of(name);
  if (!fn) give_up("no reference for %s", name);
  tn_status s = fn(&c);
  if (s != TN_OK) give_up("reference %s: %s", name, c.error);
  if (!strcmp(name, "kv_update")) memcpy(in[0].data, out[0].data, tn_ref_bytes(&tn_ir_table, &in[0]));
}
static tn_op ref_run(world *w) {
  tn_arena a;
  tn_arena_init(&a);
  tn_op last = 0;
  for (tn_op op = tn_ir_first_op(w->m, w->f, 0); op; op = tn_ir_next_op(w->m, op)) {
    last = op;
    if (strcmp(tn_ir_opcode_name(tn_ir_opcode(w->m, op)), "return")) ref_op(w, op, &a);
  }
  tn_arena_fini(&a);
  return last;
}

/* ---- the plugin's kernels ---- */
typedef struct call {
  tn_kernel_fn fn;
  void *ctx;
  void *bufs[64];
  int64_t dims[16];
  uint64_t scratch;
} call;
typedef struct kernel_row {
  tn_op op;
  char symbol[96];
  tn_dim dims[16], scratch;
  uint32_t ndims;
} kernel_row;
/* One compile; the same text under the same passes gives the same ops, so it serves all values of the dims.
 * The dims of its rows are those of the module that was compiled. */
typedef struct package {
  char *text;
  world w;
  const char *pipeline, *target, *precision;
  bool plain;
  tn_buf image;
  TN_VEC(kernel_row) rows;
} package;
struct cpu_built {
  world w;
  tn_exec *exec;
  package *package;
  TN_VEC(call) calls;
  TN_VEC(wall) packed;
  wall scratch[8];
  tn_op ret;
};

static tn_target target_;
static const char *by_name(void *ctx, uint32_t b) { return (void)ctx, (void)b, "cpu"; }
static bool claim(void *ctx, uint32_t b, tn_module *m, tn_op op, const char **why) {
  void *self;
  (void)ctx, (void)b;
  return cpu_plugin(&self)->claim(self, &target_, m, op, why);
}
static bool fuse(void *ctx, uint32_t b, tn_module *m, tn_op root, tn_op op, uint32_t role) {
  void *self;
  (void)ctx, (void)b;
  return cpu_plugin(&self)->fuse(self, &target_, m, root, op, role);
}

static tn_status take_image(void *ctx, tn_bytes b) {
  tn_buf_put(&((package *)ctx)->image, b.ptr, b.len);
  return TN_OK;
}
static tn_status take_kernel(void *ctx, const tn_kernel_info *info) {
  package *b = ctx;
  kernel_row r = {.op = info->op, .ndims = info->ndims, .scratch = info->scratch};
  snprintf(r.symbol, sizeof r.symbol, "%s", info->symbol);
  memcpy(r.dims, info->dims, info->ndims * sizeof(tn_dim));
  return tn_vec_push(&b->rows, r) ? TN_OK : TN_OOM;
}

static tn_status read_plain(void *ctx, uint64_t off, void *dst, uint64_t len) {
  memcpy(dst, (char *)ctx + off, len);
  return TN_OK;
}
typedef struct into {
  char *at;
  uint64_t left;
} into;
static tn_status write_packed(void *ctx, const void *data, uint64_t len) {
  into *i = ctx;
  NEED(len <= i->left);
  memcpy(i->at, data, len);
  i->at += len;
  i->left -= len;
  return TN_OK;
}
/* Packs what the plugin wants packed; the weights' plain bytes stay for the reference. */
static void pack_weights(cpu_built *b) {
  void *self;
  const tn_backend *p = cpu_plugin(&self);
  for (tn_weight i = 1; i <= tn_ir_weight_count(b->w.m) && !b->w.c->plain_weights; i++) {
    tn_weight_info info;
    tn_type_info t;
    uint64_t bytes = 0;
    tn_ir_weight_get(b->w.m, i, &info);
    const char *layout = p->layout(self, b->w.m, i, &bytes);
    if (!layout) continue;
    wall mem = wall_new(bytes);
    into to = {mem.data, bytes};
    tn_reader in = {slot(&b->w, info.value)->t.data, read_plain};
    tn_writer out = {&to, write_packed};
    NEED(p->pack(self, b->w.m, i, layout, &in, &out) == TN_OK);
    NEED(to.left == 0);
    NEED(tn_vec_push(&b->packed, mem));
    slot(&b->w, info.value)->t.data = mem.data;
    tn_ir_type_get(b->w.m, info.type, &t);
    NEED(tn_ir_weight_set_type(b->w.m, i, tn_ir_type_make(b->w.m, t.dtype, t.rank, t.dims, layout)) == TN_OK);
  }
}

static void add_call(cpu_built *b, tn_op op, const kernel_row *r) {
  void *self;
  world *w = &b->w;
  call c = {0};
  uint32_t nin = tn_ir_op_noperands(w->m, op), nout = tn_ir_op_nresults(w->m, op);
  if (cpu_plugin(&self)->kernel(b->exec, r->symbol, &c.fn, &c.ctx) != TN_OK)
    give_up("no symbol %s", r->symbol);
  for (uint32_t i = 0; i < nout; i++) {
    tn_value v = tn_ir_op_result(w->m, op, i);
    tensor *x = make(w, v);
    int64_t state = tn_rw_updated_operand(w->m, op, i);
    if (state >= 0) x->t.data = slot(w, tn_ir_op_operand(w->m, op, (uint32_t)state))->t.data;
  }
  for (uint32_t i = 0; i < nin; i++) c.bufs[i] = slot(w, tn_ir_op_operand(w->m, op, i))->t.data;
  for (uint32_t i = 0; i < nout; i++) c.bufs[nin + i] = slot(w, tn_ir_op_result(w->m, op, i))->t.data;
  for (uint32_t i = 0; i < r->ndims; i++) c.dims[i] = dim_value(b->package->w.m, w->c, r->dims[i]);
  if (r->scratch) c.scratch = (uint64_t)dim_value(b->package->w.m, w->c, r->scratch);
  NEED(tn_vec_push(&b->calls, c));
}

static void list_calls(cpu_built *b) {
  world *w = &b->w;
  for (tn_op op = tn_ir_first_op(w->m, w->f, 0); op; op = tn_ir_next_op(w->m, op)) {
    const char *name = tn_ir_opcode_name(tn_ir_opcode(w->m, op));
    if (!strcmp(name, "return")) {
      b->ret = op;
    } else if (!strcmp(name, "reshape")) {
      tensor *x = make(w, tn_ir_op_result(w->m, op, 0));
      x->t.data = slot(w, tn_ir_op_operand(w->m, op, 0))->t.data;
    } else {
      NEED(!strcmp(name, "kernel"));
      const kernel_row *r = NULL;
      for (uint32_t i = 0; i < b->package->rows.count; i++)
        if (b->package->rows.items[i].op == op) r = &b->package->rows.items[i];
      if (!r) give_up("a kernel op was not compiled");
      add_call(b, op, r);
    }
  }
}

/* The module of a case as the compiler gets it. */
static void prepare(cpu_built *b, const cpu_case *c, const char *pipeline) {
  tn_pass_backends backends = {.count = 1, .name = by_name, .claim = claim, .fuse = fuse};
  tn_pipeline_run run = {.pipeline = pipeline, .backends = &backends, .verify_each = true};
  world_init(&b->w, c);
  if (c->precision) NEED(tn_ir_meta_set(b->w.m, "precision", c->precision) == TN_OK);
  tn_status s = tn_pipeline_exec(b->w.m, &run);
  tn_pipeline_fini(&run);
  if (s != TN_OK) {
    tn_buf text = {0};
    tn_diags_text(&b->w.diags, &text, false);
    give_up("%s: status %d\n%s\n%s", target_.name, s, tn_buf_cstr(&text), c->text);
  }
  pack_weights(b);
}

static const char *precision_of(const cpu_case *c) { return c->precision ? c->precision : "strict"; }

/* The package of a case, compiled now unless one of the last 16 fits. */
static package *package_of(const cpu_case *c, const char *pipeline) {
  static package kept[16];
  static unsigned next;
  void *self;
  for (size_t i = 0; i < TN_COUNT(kept); i++) {
    package *k = &kept[i];
    if (k->text && !strcmp(k->text, c->text) && !strcmp(k->pipeline, pipeline) &&
        !strcmp(k->target, target_.name) && !strcmp(k->precision, precision_of(c)) &&
        k->plain == c->plain_weights)
      return k;
  }
  package *k = &kept[next++ % TN_COUNT(kept)];
  if (k->text) world_fini(&k->w);
  free(k->text);
  tn_buf_fini(&k->image);
  tn_vec_fini(&k->rows);
  *k = (package){.text = strdup(c->text),
                 .pipeline = pipeline,
                 .target = target_.name,
                 .precision = precision_of(c),
                 .plain = c->plain_weights};
  cpu_built whole = {0};
  prepare(&whole, c, pipeline);
  for (uint32_t i = 0; i < whole.packed.count; i++) wall_free(&whole.packed.items[i]);
  tn_vec_fini(&whole.packed);
  k->w = whole.w;
  tn_package_sink sink = {.size = sizeof sink, .ctx = k, .image = take_image, .kernel = take_kernel};
  if (cpu_plugin(&self)->compile(self, &target_, k->w.m, NULL, &sink) == TN_OK) return k;
  give_up("%s: compile failed\n%s", target_.name, c->text);
}

static void build(cpu_built *b, const cpu_case *c, const char *pipeline) {
  void *self;
  const tn_backend *p = cpu_plugin(&self);
  prepare(b, c, pipeline);
  b->package = package_of(c, pipeline);
  NEED(p->load(self, &target_, (tn_bytes){b->package->image.text, b->package->image.len}, &b->exec) == TN_OK);
  list_calls(b);
  if (c->kernels && !strcmp(pipeline, "partition, fuse") && b->calls.count != c->kernels)
    give_up("%s: %u kernels, wants %u\n%s", target_.name, b->calls.count, c->kernels, c->text);
  uint64_t most = 0;
  for (uint32_t i = 0; i < b->calls.count; i++)
    if (b->calls.items[i].scratch > most) most = b->calls.items[i].scratch;
  for (int i = 0; i < 8; i++) b->scratch[i] = wall_new(tn_align_up(most, 64));
}

void cpu_run(cpu_built *b, uint32_t thread, uint32_t nthreads) {
  for (uint32_t i = 0; i < b->calls.count; i++) {
    call *c = &b->calls.items[i];
    tn_kcall k = {c->bufs, c->dims, b->scratch[thread].data, c->ctx, thread, nthreads};
    c->fn(&k);
  }
}
/* One thread after the other, kernel by kernel: what they do to each other does not depend on time. */
static void run_threads(cpu_built *b, uint32_t nthreads) {
  for (uint32_t i = 0; i < b->calls.count; i++)
    for (uint32_t t = 0; t < nthreads; t++) {
      call *c = &b->calls.items[i];
      tn_kcall k = {c->bufs, c->dims, b->scratch[t].data, c->ctx, t, nthreads};
      c->fn(&k);
    }
}

static void unbuild(cpu_built *b) {
  void *self;
  cpu_plugin(&self)->unload(b->exec);
  for (uint32_t i = 0; i < b->packed.count; i++) wall_free(&b->packed.items[i]);
  for (int i = 0; i < 8; i++) wall_free(&b->scratch[i]);
  tn_vec_fini(&b->packed);
  tn_vec_fini(&b->calls);
  world_fini(&b->w);
}

/* ---- comparing ---- */
/* The error's energy as a part of the result's. */
static void compare_whole(const cpu_case *c, const tn_ref_tensor *want, const tn_ref_tensor *got,
                          const char *where) {
  double error = 0, all = 0;
  for (int64_t i = 0; i < tn_ref_count(want); i++) {
    double a = tn_ref_get(want, i), d = tn_ref_get(got, i) - a;
    error += d * d;
    all += a * a;
  }
  if (!(error <= c->nmse * all))
    give_up("%s: NMSE is %g, at most %g is allowed\n%s", where, error / all, c->nmse, c->text);
}
static void compare(const cpu_case *c, const tn_ref_tensor *want, const tn_ref_tensor *got,
                    const char *where) {
  double atol = c->atol, rtol = c->rtol;
  bool f = tn_ir_dtype_info(want->dtype)->cls == TN_CLASS_FLOAT;
  if (atol == 0 && rtol == 0) {
    bool half = want->dtype == TN_DT_f16, brain = want->dtype == TN_DT_bf16;
    atol = half ? 2.5e-3 : brain ? 2e-2 : f ? 1e-5 : 0;
    rtol = half ? 1e-3 : brain ? 1e-2 : f ? 1e-4 : 0;
    if (want->dtype == TN_DT_f64) atol = rtol = 1e-12;
    if (want->dtype == TN_DT_f8e4m3 || want->dtype == TN_DT_f8e5m2) atol = rtol = 0;
  }
  NEED(tn_ref_count(want) == tn_ref_count(got));
  if (f && c->nmse > 0) {
    compare_whole(c, want, got, where);
    return;
  }
  for (int64_t i = 0; i < tn_ref_count(want); i++) {
    if (!f) {
      int64_t a = tn_ref_get_int(want, i), b = tn_ref_get_int(got, i);
      if (a != b)
        give_up("%s: element %lld is %lld, wants %lld\n%s", where, (long long)i, (long long)b, (long long)a,
                c->text);
      continue;
    }
    double a = tn_ref_get(want, i), b = tn_ref_get(got, i);
    bool same = (isnan(a) && isnan(b)) || a == b || fabs(a - b) <= atol + rtol * fabs(a);
    if (!same) give_up("%s: element %lld is %.9g, wants %.9g\n%s", where, (long long)i, b, a, c->text);
  }
}

/* States after the run; packed ones bit by bit. */
static void compare_states(const cpu_case *c, world *ref, world *got, const char *where) {
  for (uint32_t i = 1; i <= tn_ir_state_count(ref->m); i++) {
    tn_state_info info;
    char name[160];
    tn_ir_state_get(ref->m, i, &info);
    tn_ref_tensor want = slot(ref, info.value)->t, have = slot(got, info.value)->t;
    snprintf(name, sizeof name, "%s, state %s", where, info.name);
    if (want.dtype >= TN_DT_BLOCK) {
      int64_t bytes = (int64_t)tn_ref_bytes(&tn_ir_table, &want);
      want = (tn_ref_tensor){TN_DT_u8, 1, {bytes}, want.data};
      have = (tn_ref_tensor){TN_DT_u8, 1, {bytes}, have.data};
    }
    compare(c, &want, &have, name);
  }
}

static void check_one(const cpu_case *c, world *ref, tn_op ref_ret, const char *pipeline) {
  for (uint32_t n = 1; n <= 3; n++) {
    cpu_built *b = calloc(1, sizeof *b);
    build(b, c, pipeline);
    run_threads(b, n);
    char where[96];
    snprintf(where, sizeof where, "%s, %s, %u threads", target_.name, pipeline, n);
    compare_states(c, ref, &b->w, where);
    for (uint32_t i = 0; i < tn_ir_op_noperands(ref->m, ref_ret); i++) {
      snprintf(where, sizeof where, "%s, %s, %u threads, result %u", target_.name, pipeline, n, i);
      compare(c, &slot(ref, tn_ir_op_operand(ref->m, ref_ret, i))->t,
              &slot(&b->w, tn_ir_op_operand(b->w.m, b->ret, i))->t, where);
    }
    unbuild(b);
    free(b);
  }
}

static void take_target(void *user, const tn_target *t) {
  tn_target *list = user;
  while (list->name) list++;
  *list = *t;
}
/* Targets that this machine runs and whose code for the case is not another one's: at strict those without
 * narrow products, at fast the best of those with them as well. */
static bool is_wanted(const cpu_case *c, const tn_backend *p, void *self, const tn_target *t,
                      const tn_target *all) {
  if (p->runs_here(self, t) != TN_OK) return false;
  if (c->target || c->every_target) return !c->target || !strcmp(c->target, t->name);
  if (!(t->flags & TN_TARGET_FAST)) return true;
  for (; all->name; all++)
    if (all->score > t->score && p->runs_here(self, all) == TN_OK) return false;
  return !strcmp(precision_of(c), "fast");
}

void cpu_check(const cpu_case *c) {
  static const char *const both[] = {"partition, fuse", "partition, fuse{max=1}"};
  void *self;
  tn_target targets[8] = {{0}};
  const tn_backend *p = cpu_plugin(&self);
  world ref;
  world_init(&ref, c);
  tn_op ret = ref_run(&ref);
  p->targets(self, take_target, targets);
  for (int t = 0; targets[t].name; t++) {
    if (!is_wanted(c, p, self, &targets[t], targets)) continue;
    target_ = targets[t];
    for (int i = 0; i < (c->pipeline ? 1 : 2); i++)
      check_one(c, &ref, ret, c->pipeline ? c->pipeline : both[i]);
  }
  world_fini(&ref);
}

cpu_built *cpu_build(const cpu_case *c, const char *target) {
  void *self;
  tn_target targets[8] = {{0}};
  cpu_plugin(&self)->targets(self, take_target, targets);
  for (int t = 0; targets[t].name; t++)
    if (!strcmp(targets[t].name, target)) target_ = targets[t];
  cpu_built *b = calloc(1, sizeof *b);
  build(b, c, c->pipeline ? c->pipeline : "partition, fuse");
  return b;
}
void cpu_free(cpu_built *b) {
  unbuild(b);
  free(b);
}

const char *cpu_text(const char *fmt, ...) {
  static char texts[8][8192];
  static int next;
  char *t = texts[next++ % 8];
  va_list ap;
  va_start(ap, fmt);
  int n = vsnprintf(t, sizeof texts[0], fmt, ap);
  va_end(ap);
  NEED(n < (int)sizeof texts[0]);
  return t;
}
