/* test_pass_random.c - random small decoders-and-encoders, run by the reference kernels before and after each
 * pass and each pipeline: the results must agree, the module must verify after every pass, and no live value
 * may be overwritten in the planned arena. The backends of the test claim and fuse at random (but
 * repeatably), so that every shape of group comes up. The judge is the unoptimised graph. */
#include "passes/pass.h"
#include "test_pass_interp.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>

enum {
  FEATURES = 8,
  HEADS = 2,
  HEAD = 4,
  FILE_FLOATS = 4096,
  GRAPHS = 60,
  MAX_VALUES = 200,
  MAX_RESULTS = 4
};

typedef struct gen {
  tn_module *m;
  tn_func f;
  uint64_t seed;
  tn_dim B, S, P, C;
  tn_value x3[MAX_VALUES], x4[MAX_VALUES], heads[MAX_VALUES]; /* [B,S,8], [B,S,2,4], [B,2,S,4] */
  uint32_t n3, n4, nh, weights, lines;
  tn_state states[2];
} gen;

static uint32_t rnd(gen *g, uint32_t n) {
  g->seed = g->seed * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(g->seed >> 33) % n;
}

/* ---- building -------------------------------------------------------------------------------- */
static tn_value build(gen *g, const char *name, const tn_value *in, uint32_t n, const tn_named_attr *attrs,
                      uint32_t nattrs) {
  tn_loc_info l = {.kind = TN_LOC_FILE, .name = "random", .line = ++g->lines, .col = 1};
  tn_op_desc d = {name, in, n, nattrs, attrs, NULL, 0, tn_ir_loc_make(g->m, &l)};
  tn_op op = tn_ir_op_create(g->m, (tn_point){g->f, 0, 0}, &d);
  ck_assert_msg(op != 0, "%s was refused", name);
  return tn_ir_op_result(g->m, op, 0);
}
static tn_value un(gen *g, const char *name, tn_value a) { return build(g, name, &a, 1, NULL, 0); }
static tn_value bin(gen *g, const char *name, tn_value a, tn_value b) {
  return build(g, name, (tn_value[]){a, b}, 2, NULL, 0);
}

static tn_value scalar(gen *g, float v) {
  tn_loc_info l = {.kind = TN_LOC_FILE, .name = "random", .line = ++g->lines, .col = 1};
  tn_named_attr a = {"value", {.kind = TN_ATTR_DATA, .u.data = {&v, sizeof v}}};
  tn_type t = tn_ir_type_make(g->m, TN_DT_f32, 0, NULL, NULL);
  tn_op_desc d = {"constant", NULL, 0, 1, &a, &t, 1, tn_ir_loc_make(g->m, &l)};
  return tn_ir_op_result(g->m, tn_ir_op_create(g->m, (tn_point){g->f, 0, 0}, &d), 0);
}

static tn_value weight(gen *g, uint32_t rows) { /* rows 0: a vector */
  char name[32];
  tn_dim eight = tn_ir_dim_const(g->m, FEATURES),
         dims[2] = {rows ? tn_ir_dim_const(g->m, rows) : eight, eight};
  uint64_t bytes = 4 * FEATURES * (rows ? rows : 1);
  tn_part part = {"file", (g->weights * 32u) % (FILE_FLOATS * 4 - bytes - 4) / 4 * 4, bytes};
  snprintf(name, sizeof name, "w%u", g->weights++);
  tn_weight w =
      tn_ir_weight_add(g->m, name, tn_ir_type_make(g->m, TN_DT_f32, rows ? 2 : 1, dims, NULL), &part, 1);
  tn_weight_info i;
  tn_ir_weight_get(g->m, w, &i);
  return i.value;
}

static tn_value reshaped(gen *g, tn_value v, bool four) {
  tn_dim dims[4] = {g->B, g->S, tn_ir_dim_const(g->m, four ? HEADS : FEATURES), tn_ir_dim_const(g->m, HEAD)};
  tn_named_attr a = {"shape", {.kind = TN_ATTR_DIMS, .count = four ? 4 : 3, .u.dims = dims}};
  return build(g, "reshape", &v, 1, &a, 1);
}
static tn_value transposed(gen *g, tn_value v, int64_t a, int64_t b, int64_t c, int64_t d) {
  int64_t p[4] = {a, b, c, d};
  tn_named_attr at = {"perm", {.kind = TN_ATTR_INTS, .count = 4, .u.ints = p}};
  return build(g, "transpose", &v, 1, &at, 1);
}
static tn_value matmul(gen *g, tn_value a, tn_value b, bool trans) {
  tn_named_attr at = {"trans_b", {.kind = TN_ATTR_BOOL, .u.i = trans}};
  return build(g, "matmul", (tn_value[]){a, b}, 2, &at, 1);
}
static tn_value reduced(gen *g, const char *name, tn_value a) {
  int64_t axis = -1;
  tn_named_attr at[2] = {{"axes", {.kind = TN_ATTR_INTS, .count = 1, .u.ints = &axis}},
                         {"keep", {.kind = TN_ATTR_BOOL, .u.i = 1}}};
  return build(g, name, &a, 1, at, 2);
}
static tn_value pick3(gen *g) {
  return g->x3[rnd(g, 3) ? g->n3 - 1 - rnd(g, g->n3 < 4 ? g->n3 : 4) : rnd(g, g->n3)];
}
static void put3(gen *g, tn_value v) { g->x3[g->n3++] = v; }

/* ---- what a graph is made of ----------------------------------------------------------------- */
static void add_unary(gen *g) {
  static const char *const names[] = {"tanh", "sigmoid", "relu", "neg", "silu", "gelu", "abs", "sin"};
  put3(g, un(g, names[rnd(g, 8)], pick3(g)));
}
static void add_binary(gen *g) {
  static const char *const names[] = {"add", "mul", "sub", "max", "min"};
  put3(g, bin(g, names[rnd(g, 5)], pick3(g), pick3(g)));
}
static void add_constant(gen *g) {
  static const char *const names[] = {"add", "mul", "sub", "max", "div"};
  static const float values[] = {1, 2, 0.5f, 4, 3};
  uint32_t op = rnd(g, 5);
  tn_value c = scalar(g, rnd(g, 3) || op == 4 ? values[rnd(g, 5)] : 0), v = pick3(g);
  put3(g, rnd(g, 3) || op == 4 ? bin(g, names[op], v, c) : bin(g, names[op], c, v));
}
static void add_vector(gen *g) { put3(g, bin(g, rnd(g, 2) ? "add" : "mul", pick3(g), weight(g, 0))); }
static void add_linear(gen *g) {
  tn_value v = matmul(g, pick3(g), weight(g, FEATURES), true);
  put3(g, rnd(g, 2) ? bin(g, "add", v, weight(g, 0)) : v);
}
static void add_gated(gen *g) { /* gate and up share their operand */
  tn_value x = pick3(g), a = matmul(g, x, weight(g, FEATURES), true),
           b = matmul(g, x, weight(g, FEATURES), true);
  tn_value s = un(g, "sigmoid", a);
  put3(g, bin(g, "mul", bin(g, "mul", a, s), b));
}
static void add_norm(gen *g) {
  tn_named_attr eps = {"eps", {.kind = TN_ATTR_FLOAT, .u.f = 1e-3}};
  tn_value x = pick3(g), w = weight(g, 0);
  if (rnd(g, 2))
    put3(g, build(g, "rms_norm", (tn_value[]){x, w}, 2, &eps, 1));
  else
    put3(g, build(g, "layer_norm", (tn_value[]){x, w, weight(g, 0)}, 3, &eps, 1));
}
static void add_spelled_norm(gen *g) {
  tn_value x = pick3(g), d = bin(g, "sub", x, reduced(g, "reduce_mean", x));
  tn_value var = reduced(g, "reduce_mean", bin(g, "pow", d, scalar(g, 2)));
  tn_value y = bin(g, "div", d, un(g, "sqrt", bin(g, "add", var, scalar(g, 1e-2f))));
  put3(g, bin(g, "add", bin(g, "mul", y, weight(g, 0)), weight(g, 0)));
}
static void add_softmax(gen *g) {
  tn_value x = un(g, "tanh", pick3(g)), e = un(g, "exp", bin(g, "sub", x, reduced(g, "reduce_max", x)));
  put3(g, bin(g, "div", e, reduced(g, "reduce_sum", e)));
}
static void add_cast(gen *g) {
  tn_named_attr up = {"to", {.kind = TN_ATTR_DTYPE, .u.i = TN_DT_f64}},
                down = {"to", {.kind = TN_ATTR_DTYPE, .u.i = TN_DT_f32}};
  tn_value x = pick3(g), y = build(g, "cast", &x, 1, &up, 1);
  if (rnd(g, 2)) y = un(g, "tanh", y);
  put3(g, build(g, "cast", &y, 1, &down, 1));
}
static void add_split(gen *g) {
  tn_value x = pick3(g);
  tn_dim sizes[2] = {tn_ir_dim_const(g->m, 4), tn_ir_dim_const(g->m, 4)};
  tn_named_attr at[2] = {{"axis", {.kind = TN_ATTR_INT, .u.i = 2}},
                         {"sizes", {.kind = TN_ATTR_DIMS, .count = 2, .u.dims = sizes}}};
  tn_value a = build(g, "split", &x, 1, at, 2), b = tn_ir_op_result(g->m, 0, 0);
  tn_value_info i;
  tn_ir_value_get(g->m, a, &i);
  b = tn_ir_op_result(g->m, i.op, 1);
  tn_value parts[2] = {un(g, "neg", b), rnd(g, 2) ? bin(g, "mul", a, b) : a};
  put3(g, build(g, "concat", parts, 2, at, 1));
}
static void add_four(gen *g) {
  tn_value v = reshaped(g, pick3(g), true);
  if (rnd(g, 2)) v = un(g, "tanh", v);
  g->x4[g->n4++] = v;
  if (rnd(g, 2)) put3(g, reshaped(g, g->x4[rnd(g, g->n4)], false));
}
static void add_attention(gen *g) { /* spelled out, on [B, heads, S, features] */
  tn_value q = transposed(g, reshaped(g, pick3(g), true), 0, 2, 1, 3), k = reshaped(g, pick3(g), true);
  tn_value v = transposed(g, reshaped(g, pick3(g), true), 0, 2, 1, 3), s;
  if (rnd(g, 2))
    s = matmul(g, q, transposed(g, k, 0, 2, 3, 1), false);
  else
    s = matmul(g, q, transposed(g, k, 0, 2, 1, 3), true);
  s = rnd(g, 2) ? bin(g, "mul", s, scalar(g, 0.5f)) : bin(g, "div", s, scalar(g, 1.5f));
  tn_value p = un(g, "softmax", s);
  put3(g, reshaped(g, transposed(g, matmul(g, p, v, false), 0, 2, 1, 3), false));
}
static void add_cached(gen *g) {
  tn_value kv[2];
  tn_state_info st;
  for (int i = 0; i < 2; i++) {
    if (g->states[i]) return;
    tn_dim dims[4] = {g->B, g->C, tn_ir_dim_const(g->m, HEADS), tn_ir_dim_const(g->m, HEAD)};
    g->states[i] = tn_ir_state_add(g->m, i ? "v" : "k", tn_ir_type_make(g->m, TN_DT_f32, 4, dims, NULL));
    tn_ir_state_get(g->m, g->states[i], &st);
    tn_named_attr pos = {"pos", {.kind = TN_ATTR_DIM, .u.dim = g->P}};
    kv[i] = build(g, "kv_update", (tn_value[]){st.value, reshaped(g, pick3(g), true)}, 2, &pos, 1);
  }
  tn_named_attr at[3] = {{"scale", {.kind = TN_ATTR_FLOAT, .u.f = 0.5}},
                         {"causal", {.kind = TN_ATTR_BOOL, .u.i = 1}},
                         {"keys", {.kind = TN_ATTR_DIM, .u.dim = tn_dim_add(g->m, g->P, g->S)}}};
  put3(g,
       reshaped(g, build(g, "attention", (tn_value[]){reshaped(g, pick3(g), true), kv[0], kv[1]}, 3, at, 3),
                false));
}

static tn_module *generate(uint64_t seed, tn_diags *d) {
  static void (*const add[])(gen *) = {add_unary,  add_binary,  add_constant,     add_vector,  add_linear,
                                       add_gated,  add_norm,    add_spelled_norm, add_softmax, add_cast,
                                       add_split,  add_four,    add_attention,    add_cached,  add_unary,
                                       add_binary, add_constant};
  gen g = {.m = tn_module_new(d), .seed = seed * 2654435761u + 17};
  tn_value results[MAX_RESULTS];
  tn_ir_module_set_name(g.m, "random");
  g.B = tn_ir_dim_sym(g.m, "B");
  g.S = tn_ir_dim_sym(g.m, "S");
  g.P = tn_ir_dim_sym(g.m, "P");
  g.C = tn_ir_dim_sym(g.m, "C");
  tn_ir_dim_constrain(g.m, tn_dim_add(g.m, g.P, g.S), g.C);
  g.f = tn_ir_func_add(g.m, "f");
  tn_dim dims[3] = {g.B, g.S, tn_ir_dim_const(g.m, FEATURES)};
  for (int i = 0; i < 2; i++)
    put3(&g, tn_ir_func_arg_add(g.m, g.f, i ? "y" : "x", tn_ir_type_make(g.m, TN_DT_f32, 3, dims, NULL)));
  for (uint32_t i = 5 + rnd(&g, 25); i; i--) add[rnd(&g, TN_COUNT(add))](&g);
  uint32_t n = 1 + rnd(&g, MAX_RESULTS);
  for (uint32_t i = 0; i < n; i++) results[i] = rnd(&g, 2) ? g.x3[g.n3 - 1] : pick3(&g);
  tn_loc_info l = {.kind = TN_LOC_FILE, .name = "random", .line = 1, .col = 1};
  tn_op_desc ret = {"return", results, n, 0, NULL, NULL, 0, tn_ir_loc_make(g.m, &l)};
  ck_assert(tn_ir_op_create(g.m, (tn_point){g.f, 0, 0}, &ret) != 0);
  return g.m;
}

/* ---- backends that say yes and no at random -------------------------------------------------- */
typedef struct fickle {
  uint64_t seed;
  uint32_t percent;
} fickle;
static const char *fickle_name(void *ctx, uint32_t b) { return (void)ctx, b ? "ref" : "other"; }
static bool chance(const fickle *x, uint32_t a, uint32_t b, uint32_t c, uint32_t percent) {
  uint64_t key[4] = {a, b, c, x->seed};
  return tn_hash_bytes(key, sizeof key, 1) % 100 < percent;
}
static bool fickle_claim(void *ctx, uint32_t b, tn_module *m, tn_op op, const char **why) {
  (void)m, (void)why;
  return b || chance(ctx, op, 0, 0, 20);
}
static bool fickle_fuse(void *ctx, uint32_t b, tn_module *m, tn_op root, tn_op op, uint32_t role) {
  (void)b, (void)m;
  return chance(ctx, root, op, role, ((fickle *)ctx)->percent);
}

/* ---- running --------------------------------------------------------------------------------- */
typedef struct outcome {
  tn_ref_tensor out[MAX_RESULTS];
  uint32_t n;
  uint8_t state[2][4096];
} outcome;

static float file[FILE_FLOATS];

static void run(tn_module *m, tn_func f, interp *x, outcome *o, int64_t S, const char *what) {
  static float args[2][64];
  tn_ref_tensor in[2];
  tn_func_info info;
  for (int i = 0; i < FILE_FLOATS; i++) file[i] = (float)((i * 7919 % 1009) - 504) / 700;
  for (int i = 0; i < 128; i++) args[i / 64][i % 64] = (float)((i * 31 % 127) - 63) / 50;
  interp_init(x, m);
  x->file = (const uint8_t *)file;
  x->B = 2, x->S = S, x->P = 2, x->C = 6;
  for (int s = 0; s < 2; s++) {
    for (int i = 0; i < 1024; i++) ((float *)o->state[s])[i] = (float)(i % 13) / 13;
    x->states[s + 1] = o->state[s];
  }
  tn_ir_func_get(m, f, &info);
  o->n = info.nresults;
  for (int i = 0; i < 2; i++) in[i] = (tn_ref_tensor){TN_DT_f32, 3, {2, S, FEATURES}, args[i]};
  ck_assert_msg(interp_run(x, f, in, o->out), "%s: %s", what, x->error);
}

static bool near(double a, double b) {
  return a == b || fabs(a - b) <= 1e-3 * (1 + fabs(a)) || (!isfinite(a) && !isfinite(b));
}

static void compare(const outcome *a, const outcome *b, uint64_t graph, const char *what) {
  ck_assert_uint_eq(a->n, b->n);
  for (uint32_t r = 0; r < a->n; r++)
    for (int64_t i = 0; i < tn_ref_count(&a->out[r]); i++) {
      double x = tn_ref_get(&a->out[r], i), y = tn_ref_get(&b->out[r], i);
      ck_assert_msg(near(x, y), "graph %llu, %s: result %u element %lld is %g, not %g",
                    (unsigned long long)graph, what, r, (long long)i, y, x);
    }
  for (int s = 0; s < 2; s++)
    for (int i = 0; i < 1024; i++)
      ck_assert_msg(near(((const float *)a->state[s])[i], ((const float *)b->state[s])[i]),
                    "graph %llu, %s: state %d differs", (unsigned long long)graph, what, s);
}

static void check_pipeline(tn_module *original, const outcome *want, uint64_t graph, const char *pipeline,
                           int64_t S, bool backends) {
  static interp x;
  static outcome got;
  tn_diags d;
  tn_diags_init(&d);
  tn_module *m = tn_module_clone(original, &d);
  fickle fk = {graph, (uint32_t)(graph % 3 * 40 + 20)};
  tn_pass_backends b = {&fk, 2, fickle_name, fickle_claim, fickle_fuse};
  tn_pipeline_run r = {.pipeline = pipeline, .verify_each = true, .backends = backends ? &b : NULL};
  tn_status status = tn_pipeline_exec(m, &r);
  ck_assert_msg(status == TN_OK, "graph %llu, %s: %s", (unsigned long long)graph, pipeline,
                d.list.count ? d.list.items[0].text : "failed");
  for (tn_func f = 1; f <= tn_ir_func_count(m); f++) {
    tn_attr one;
    if (tn_ir_func_attr(m, f, "when_value", &one) && one.u.i != S) continue;
    run(m, f, &x, &got, S, pipeline);
    compare(want, &got, graph, pipeline);
    interp_fini(&x);
  }
  tn_pipeline_fini(&r);
  tn_module_free(m);
  tn_diags_fini(&d);
}

static const char *const pipelines[] = {
    "canonicalize",
    "recover",
    "infer",
    "fold",
    "cse",
    "dce",
    "fuse-attention",
    "merge-qkv",
    "specialise{all=1}",
    "partition",
    "fuse{force=1}",
    "fuse{force=1, max=3}",
    "fuse{max=1}",
    "fuse{force=1}, schedule",
    "fuse{force=1}, plan-memory",
    "fuse{force=1}, schedule, plan-memory",
    "fuse{max=1}, schedule, plan-memory{reuse=0}",
    "O0",
    "O1",
    "O2",
    "O3",
    "canonicalize, fold, recover, fuse-attention, merge-qkv, specialise{all=1}, canonicalize, cse, dce, "
    "fuse{force=1}, schedule, plan-memory"};

/* Decoders run with one token, too: that is what the variants are for. */
START_TEST(graphs_keep_their_results) {
  static interp x;
  static outcome want;
  for (uint64_t graph = (uint64_t)_i * 10; graph < (uint64_t)_i * 10 + 10; graph++)
    for (int64_t S = 1; S <= 3; S += 2) {
      tn_diags d;
      tn_diags_init(&d);
      tn_module *m = generate(graph, &d);
      ck_assert_int_eq(tn_module_verify(m), TN_OK);
      run(m, 1, &x, &want, S, "original");
      for (size_t p = 0; p < TN_COUNT(pipelines); p++) {
        check_pipeline(m, &want, graph, pipelines[p], S, false);
        check_pipeline(m, &want, graph, pipelines[p], S, true);
      }
      interp_fini(&x);
      tn_module_free(m);
      tn_diags_fini(&d);
    }
}
END_TEST

/* The same input gives the same text. */
START_TEST(passes_are_deterministic) {
  for (uint64_t graph = 0; graph < 20; graph++) {
    tn_buf text[2] = {{0}, {0}};
    for (int i = 0; i < 2; i++) {
      tn_diags d;
      tn_diags_init(&d);
      tn_module *m = generate(graph, &d);
      fickle fk = {graph, 60};
      tn_pass_backends b = {&fk, 2, fickle_name, fickle_claim, fickle_fuse};
      tn_pipeline_run r = {.pipeline = "O3", .backends = &b};
      ck_assert_int_eq(tn_pipeline_exec(m, &r), TN_OK);
      ck_assert_int_eq(tn_module_print(m, &text[i]), TN_OK);
      tn_pipeline_fini(&r);
      tn_module_free(m);
      tn_diags_fini(&d);
    }
    ck_assert_str_eq(tn_buf_cstr(&text[0]), tn_buf_cstr(&text[1]));
    tn_buf_fini(&text[0]);
    tn_buf_fini(&text[1]);
  }
}
END_TEST

int main(void) {
  Suite *s = suite_create("random graphs");
  TCase *t = tcase_create("random");
  tcase_set_timeout(t, 300);
  tcase_add_loop_test(t, graphs_keep_their_results, 0, GRAPHS / 10);
  tcase_add_test(t, passes_are_deterministic);
  suite_add_tcase(s, t);
  SRunner *r = srunner_create(s);
  srunner_run_all(r, CK_NORMAL);
  int failed = srunner_ntests_failed(r);
  srunner_free(r);
  return failed != 0;
}
