/* backend_toy.c - a whole backend in one file: it takes f32 adds and subtractions of equal shapes, and leaves
 * everything else to the next backend. A "package" is a list of ops; a kernel is one C function that reads
 * its op from ctx.
 *
 *   tenon run MODEL -O0 --plugin backend-toy.so --backend toy,ref ... */
#include "tenon/ir.h"
#include <stdio.h>
#include <stdlib.h>

typedef struct toy {
  tn_host host; /* a copy: what is passed in is valid during the call only */
} toy;
static toy instance; /* one host per process; init fills it in */

/* A kernel of ours is a kernel op whose body is one add or sub and a yield. */
static tn_op body_op(const tn_ir *ir, tn_module *m, tn_op kernel) { return ir->first_op(m, 0, kernel); }

static int is_f32(const tn_ir *ir, tn_module *m, tn_value v, tn_type *type) {
  tn_value_info info;
  tn_type_info t;
  ir->value_get(m, v, &info);
  ir->type_get(m, info.type, &t);
  *type = info.type;
  return t.dtype == TN_DT_f32;
}

/* A kernel that claim is asked about is a copy of what a function was given. */
static uint32_t claim(void *self, const tn_target *t, tn_module *m, tn_op op, const char **why) {
  const tn_ir *ir = ((toy *)self)->host.ir;
  uint32_t code = ir->opcode(m, op);
  tn_type a, b;
  (void)t;
  *why = "toy copies f32 tensors";
  if (code == ir->opcode_by_name("kernel")) return is_f32(ir, m, ir->op_operand(m, op, 0), &a);
  *why = "toy adds and subtracts f32 tensors of equal shapes";
  if (code != ir->opcode_by_name("add") && code != ir->opcode_by_name("sub")) return 0;
  return is_f32(ir, m, ir->op_operand(m, op, 0), &a) && is_f32(ir, m, ir->op_operand(m, op, 1), &b) && a == b;
}

static tn_status targets(void *self, void (*each)(void *user, const tn_target *t), void *user) {
  static const tn_target any = {.size = sizeof any, .score = 1, .name = "any", .triple = "", .features = ""};
  (void)self;
  each(user, &any);
  return TN_OK;
}

/* The package: one line "symbol sign" per kernel. */
static tn_status compile(void *self, const tn_target *t, tn_module *m, const tn_options *o,
                         const tn_package_sink *out) {
  const tn_ir *ir = ((toy *)self)->host.ir;
  char image[65536];
  size_t len = 0;
  (void)t, (void)o;
  for (tn_func f = 1; f <= ir->func_count(m); f++)
    for (tn_op op = ir->first_op(m, f, 0); op; op = ir->next_op(m, op)) {
      tn_attr backend;
      if (ir->opcode(m, op) != ir->opcode_by_name("kernel") || !ir->op_attr(m, op, "backend", &backend) ||
          strcmp(backend.u.s, "toy"))
        continue;
      tn_op inner = body_op(ir, m, op);
      int sub = ir->opcode(m, inner) == ir->opcode_by_name("sub");
      int copy = !sub && ir->opcode(m, inner) != ir->opcode_by_name("add"); /* of what a function was given */
      tn_value_info v;
      tn_type_info type;
      ir->value_get(m, ir->op_result(m, op, 0), &v);
      ir->type_get(m, v.type, &type);
      tn_dim count = ir->dim_const(m, 1);
      for (uint32_t i = 0; i < type.rank; i++) count = ir->dim_make(m, TN_DIM_MUL, count, type.dims[i]);
      /* Operands of the body may come in either order of the kernel's arguments. */
      int swapped = ir->op_operand(m, inner, 0) != ir->body_arg(m, op, 0), same = ir->body_nargs(m, op) == 1;
      char symbol[32];
      snprintf(symbol, sizeof symbol, "toy_%u", op);
      int n =
          snprintf(image + len, sizeof image - len, "%s %d %d %d\n", symbol, copy ? 2 : sub, swapped, same);
      if (n < 0 || (size_t)n >= sizeof image - len) return TN_UNSUPPORTED;
      len += (size_t)n;
      tn_kernel_info info = {.size = sizeof info, .op = op, .symbol = symbol, .dims = &count, .ndims = 1};
      tn_status s = out->kernel(out->ctx, &info);
      if (s != TN_OK) return s;
    }
  return out->image(out->ctx, (tn_bytes){image, len});
}

/* ---- run side
 * ----------------------------------------------------------------------------------------------------- */

typedef struct kernel {
  char symbol[32];
  int sub, swapped, same;
} kernel;
struct tn_exec {
  const tn_host *host;
  kernel *list;
  size_t count;
};

static void run(const tn_kcall *c) {
  const kernel *k = c->ctx;
  const float *a = c->bufs[k->swapped && !k->same], *b = c->bufs[!k->swapped && !k->same];
  float *out = c->bufs[k->same ? 1 : 2], sign = k->sub == 1 ? -1.0f : 1.0f;
  int64_t n = c->dims[0], begin = n * c->thread / c->nthreads, end = n * (c->thread + 1) / c->nthreads;
  for (int64_t i = begin; i < end; i++) out[i] = k->sub == 2 ? a[i] : a[i] + sign * b[i];
}

static tn_exec *exec_new(const tn_host *host, size_t lines) {
  tn_exec *x = calloc(1, sizeof *x);
  if (!x) return NULL;
  x->host = host;
  x->list = calloc(lines + 1, sizeof *x->list);
  if (x->list) return x;
  free(x);
  return NULL;
}

static tn_status load_on(const tn_host *host, tn_bytes image, tn_exec **out) {
  size_t lines = 0;
  for (uint64_t i = 0; i < image.len; i++) lines += ((const char *)image.ptr)[i] == '\n';
  char *text = malloc(image.len + 1);
  tn_exec *x = text ? exec_new(host, lines) : NULL;
  if (!x) return free(text), TN_OOM;
  memcpy(text, image.ptr, image.len);
  text[image.len] = 0;
  for (char *at = text; x->count < lines; at = strchr(at, '\n') + 1) {
    kernel *k = &x->list[x->count++];
    if (sscanf(at, "%31s %d %d %d", k->symbol, &k->sub, &k->swapped, &k->same) == 4) continue;
    free(text), free(x->list), free(x);
    return TN_DATA_LOSS;
  }
  free(text);
  *out = x;
  return TN_OK;
}

static tn_status load(void *self, const tn_target *t, tn_bytes image, tn_exec **out) {
  (void)t;
  return load_on(&((toy *)self)->host, image, out);
}

static tn_status find_kernel(tn_exec *x, const char *symbol, tn_kernel_fn *fn, void **ctx) {
  for (size_t i = 0; i < x->count; i++)
    if (!strcmp(x->list[i].symbol, symbol)) return *fn = run, *ctx = &x->list[i], TN_OK;
  return TN_NOT_FOUND;
}

static void unload(tn_exec *x) {
  free(x->list);
  free(x);
}

static const tn_backend backend = {.size = sizeof backend,
                                   .name = "toy",
                                   .targets = targets,
                                   .claim = claim,
                                   .compile = compile,
                                   .load = load,
                                   .kernel = find_kernel,
                                   .unload = unload};

static tn_status init(const tn_host *host, void **self) {
  tn_take(&instance.host, sizeof instance.host, host);
  if (!instance.host.ir) return TN_PRECONDITION;
  *self = &instance;
  return TN_OK;
}

static const void *table(void *self, const char *kind, uint32_t index) {
  (void)self;
  return !strcmp(kind, "tn.backend/1") && index == 0 ? &backend : NULL;
}

static const tn_plugin plugin = {
    sizeof plugin, TN_ABI, "org.example.backend-toy", "1.0", "adds and subtracts", 0, init, NULL, table};

TN_PLUGIN_ENTRY(backend_toy) {
  if (host_abi >> 16 != TN_ABI_MAJOR) {
    *why = "made for tenon ABI 0";
    return NULL;
  }
  return &plugin;
}
