/* tune.c - measures which numbers suit the kernels of a module. All kernels are compiled with one candidate
 * at a time; each is then run against its best so far, in turns, so that what else the machine does falls on
 * both. A candidate wins by the median of the ratios, over every size that the kernel is run at, and must win
 * twice.
 *
 * Kernels run alone on made-up operands: what is in them does not matter for the time, as long as sums stay
 * finite. Weights move through memory from run to run, as they do in a model that is larger than the caches.
 */
#include "backends/runtime/pool.h"
#include "tools/driver/tuning.h"
#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { PAIRS = 9, MAX_SIZES = 3, MAX_SYMBOLS = 64, FILL = 0x3c };
#define WEIGHT_ROOM (256ull << 20)
#define PAIR_SECONDS 0.25 /* for all pairs of one size, unless three take longer */
#define RUN_SECONDS 200e-6
#define GAIN 0.02     /* a candidate must be faster by this: sum over sizes of logarithms */
#define SHORTEST 3e-6 /* seconds: what takes less is not worth a number */
static const int64_t lengths[MAX_SIZES] = {1, 128, 512};
#define CAPACITY 1024 /* of caches */

/* A loaded compile. */
typedef struct version {
  tn_exec *exec;                /* NULL: the code is that of the first version */
  uint64_t hash;                /* of the image */
  TN_VEC(tn_kernel_info) infos; /* in op id order; dims copied */
} version;

/* One kernel of one version. */
typedef struct code {
  tn_kernel_fn fn;
  void *ctx;
  const tn_kernel_info *info;
} code;

typedef struct kernel {
  tn_op op;
  tn_func func;
  const char *key, *choices;
  char numbers[128]; /* the best so far, as text */
  code best;
  double sizes[MAX_SIZES][MAX_SYMBOLS]; /* values of the symbols */
  uint32_t nsizes;
} kernel;

typedef struct tuner {
  tn_driver *d;
  tn_module *m;
  const tn_backend_ref *backend;
  tn_target *target;
  tn_build build;
  tn_pool *pool;
  uint32_t nthreads, nsymbols;
  tn_arena arena;
  TN_VEC(kernel) kernels;
  TN_VEC(version *) versions;
  /* of the run */
  tn_kcall call;
  tn_kernel_fn fn;
  void *scratch[TN_POOL_MAX_THREADS];
  uint64_t scratch_bytes;
  void *weights;
  uint64_t weights_bytes, weights_at;
} tuner;

/* ---- compiling ------------------------------------------------------------------------------------------
 */

typedef struct sink {
  tuner *t;
  version *v;
  tn_buf image;
} sink;

static tn_status take_image(void *ctx, tn_bytes image) {
  sink *s = ctx;
  tn_buf_put(&s->image, image.ptr, image.len);
  return s->image.failed ? TN_OOM : TN_OK;
}

static tn_status take_kernel(void *ctx, const tn_kernel_info *theirs) {
  sink *s = ctx;
  tn_kernel_info k;
  tn_take(&k, sizeof k, theirs);
  k.symbol = tn_arena_str(&s->t->arena, tn_str_of(k.symbol));
  k.dims = tn_arena_copy(&s->t->arena, k.dims, (k.ndims + 1) * sizeof *k.dims);
  return k.symbol && k.dims && tn_vec_push(&s->v->infos, k) ? TN_OK : TN_OOM;
}

/* Compiles all kernels with what `text` says and loads them. */
static tn_status make_version(tuner *t, const char *text, version **out) {
  version *v = tn_arena_alloc(&t->arena, sizeof *v);
  if (!v || !tn_vec_push(&t->versions, v)) return TN_OOM;
  sink s = {.t = t, .v = v};
  tn_package_sink to = {.size = sizeof to, .ctx = &s, .image = take_image, .kernel = take_kernel};
  const char *keys[] = {"tuning", "cache"}, *values[] = {text, tn_driver_cache(t->d)};
  tn_options o = {keys, values, values[1] ? 2 : 1};
  tn_status r = t->backend->table.compile(t->backend->self, t->target, t->m, &o, &to);
  v->hash = tn_hash_bytes(s.image.text, s.image.len, 0);
  if (r == TN_OK && (v == t->versions.items[0] || v->hash != t->versions.items[0]->hash))
    r = t->backend->table.load(t->backend->self, t->target, (tn_bytes){s.image.text, s.image.len}, &v->exec);
  tn_buf_fini(&s.image);
  *out = v;
  if (r != TN_OK && !t->d->diags->errors)
    return tn_fail(t->d->diags, r, NULL, NULL, "backend '%s' failed to compile a candidate (status %d)",
                   t->backend->table.name, r);
  return r;
}

static tn_status code_of(tuner *t, version *v, const kernel *k, code *out) {
  for (uint32_t i = 0; i < v->infos.count; i++) {
    out->info = &v->infos.items[i];
    if (out->info->op == k->op)
      return t->backend->table.kernel(v->exec, out->info->symbol, &out->fn, &out->ctx);
  }
  return TN_INTERNAL;
}

/* ---- sizes ----------------------------------------------------------------------------------------------
 */

static uint32_t symbol_of(tuner *t, tn_dim d) {
  tn_dim_info info;
  tn_ir_dim_get(t->m, d, &info);
  for (uint32_t i = 0; info.kind == TN_DIM_SYM && i < t->nsymbols; i++)
    if (!strcmp(tn_dim_symbol(t->m, i), info.symbol)) return i;
  return UINT32_MAX;
}

/* What each symbol is when sequences have `length` tokens: the first dim of an input is the batch, 1. */
static void give_values(tuner *t, int64_t length, double *values) {
  const char *position = tn_ir_meta_get(t->m, "dim.position"),
             *capacity = tn_ir_meta_get(t->m, "dim.capacity");
  for (uint32_t i = 0; i < t->nsymbols; i++) {
    const char *s = tn_dim_symbol(t->m, i);
    values[i] = position && !strcmp(s, position)   ? 0
                : capacity && !strcmp(s, capacity) ? CAPACITY
                                                   : (double)length;
  }
  for (tn_func f = 1; f <= tn_ir_func_count(t->m); f++) {
    tn_func_info info;
    tn_ir_func_get(t->m, f, &info);
    for (uint32_t i = 0; i < info.nargs; i++) {
      tn_value_info v;
      tn_type_info type;
      tn_ir_value_get(t->m, info.args[i], &v);
      tn_ir_type_get(t->m, v.type, &type);
      uint32_t batch = type.rank > 1 ? symbol_of(t, type.dims[0]) : UINT32_MAX;
      if (batch != UINT32_MAX) values[batch] = 1;
    }
  }
  for (uint32_t i = 0; i < tn_dim_constraints(t->m); i++) {
    tn_dim a, b;
    int64_t most;
    tn_dim_constraint(t->m, i, &a, &b);
    uint32_t s = symbol_of(t, a);
    if (s != UINT32_MAX && tn_ir_dim_is_const(t->m, b, &most) && values[s] > (double)most)
      values[s] = (double)most;
  }
}

static double value(tuner *t, tn_dim d, const double *values) {
  return tn_dim_value(t->m, d, values, t->nsymbols);
}

/* The sizes at which a kernel's operands differ. */
static void find_sizes(tuner *t, kernel *k) {
  for (uint32_t s = 0; s < MAX_SIZES; s++) {
    double *values = k->sizes[k->nsizes];
    give_values(t, lengths[s], values);
    bool same = k->nsizes > 0;
    for (uint32_t i = 0; same && i < k->best.info->ndims; i++)
      same =
          value(t, k->best.info->dims[i], values) == value(t, k->best.info->dims[i], k->sizes[k->nsizes - 1]);
    k->nsizes += !same;
  }
}

/* ---- operands -------------------------------------------------------------------------------------------
 */

static tn_type_info type_of(tuner *t, tn_value v, tn_value_info *info) {
  tn_type_info type;
  tn_ir_value_get(t->m, v, info);
  tn_ir_type_get(t->m, info->type, &type);
  return type;
}

static uint64_t packed_bytes(const tuner *t, tn_weight w) {
  for (uint32_t i = 0; i < t->build.weights.count; i++)
    if (t->build.weights.items[i] == w) return t->build.weight_bytes.items[i];
  return 0;
}

/* Memory of an operand or result that is no weight, filled. */
static void *make_buffer(tuner *t, tn_value v, const double *values) {
  tn_value_info info;
  tn_type_info type = type_of(t, v, &info);
  const tn_dtype_info *dt = tn_ir_dtype_info(type.dtype);
  double n = value(t, tn_type_elements(t->m, info.type), values);
  double bytes = n * (dt->block_bytes ? (double)dt->block_bytes / dt->block_values : dt->bits / 8.0);
  if (bytes > 1e11) return NULL;
  bytes += 256;
  void *p = aligned_alloc(64, tn_align_up((uint64_t)bytes, 64));
  /* Integers may be places of rows: 0 is always one. */
  if (p) memset(p, dt->cls == TN_CLASS_FLOAT ? FILL : 0, (size_t)bytes);
  return p;
}

/* A result that lies where the kernel's first operand lies. */
static bool is_alias(tuner *t, tn_op op, uint32_t result) {
  tn_attr slots;
  return tn_ir_op_attr(t->m, op, "slots", &slots) && result < slots.count && slots.u.ints[result] == -2;
}

typedef struct operands {
  void **bufs;
  uint64_t *weight; /* bytes; 0: no weight, the buffer is ours */
  uint32_t nin, n;
} operands;

static void free_operands(operands *o) {
  for (uint32_t i = 0; i < o->n; i++)
    if (!o->weight[i]) free(o->bufs[i]);
  tn_mem_free(o->bufs);
  tn_mem_free(o->weight);
}

static tn_status make_operands(tuner *t, const kernel *k, const double *values, operands *o) {
  uint32_t nin = tn_ir_op_noperands(t->m, k->op), n = nin + tn_ir_op_nresults(t->m, k->op);
  *o = (operands){tn_mem_alloc((n + 1) * sizeof(void *)), tn_mem_alloc((n + 1) * sizeof(uint64_t)), nin, 0};
  if (!o->bufs || !o->weight) return TN_OOM;
  for (; o->n < n; o->n++) {
    uint32_t i = o->n;
    tn_value v = i < nin ? tn_ir_op_operand(t->m, k->op, i) : tn_ir_op_result(t->m, k->op, i - nin);
    tn_value_info info = {0};
    if (v) tn_ir_value_get(t->m, v, &info);
    if (info.kind == TN_VALUE_WEIGHT) o->weight[i] = packed_bytes(t, info.weight);
    if (!v || o->weight[i]) continue;
    if (i >= nin && is_alias(t, k->op, i - nin)) {
      o->bufs[i] = o->bufs[0];
      o->weight[i] = 1; /* not to be freed twice */
      continue;
    }
    if (!(o->bufs[i] = make_buffer(t, v, values))) return TN_OOM;
  }
  return TN_OK;
}

/* Weights lie one behind the other from where the last run's ended. */
static void move_weights(tuner *t, operands *o) {
  for (uint32_t i = 0; i < o->nin; i++) {
    if (!o->weight[i]) continue;
    if (t->weights_at + o->weight[i] > t->weights_bytes) t->weights_at = 0;
    o->bufs[i] = (char *)t->weights + t->weights_at;
    t->weights_at += tn_align_up(o->weight[i], 64);
  }
}

/* ---- running --------------------------------------------------------------------------------------------
 */

static void run_thread(void *arg, uint32_t thread, uint32_t nthreads) {
  tuner *t = arg;
  tn_kcall call = t->call;
  call.scratch = t->scratch[thread];
  call.thread = thread;
  call.nthreads = nthreads;
  t->fn(&call);
}

static tn_status reserve_scratch(tuner *t, uint64_t bytes) {
  if (bytes <= t->scratch_bytes) return TN_OK;
  for (uint32_t i = 0; i < t->nthreads; i++) {
    free(t->scratch[i]);
    t->scratch[i] = aligned_alloc(64, tn_align_up(bytes + 64, 64));
    if (!t->scratch[i]) return TN_OOM;
    memset(t->scratch[i], 0, bytes);
  }
  t->scratch_bytes = bytes;
  return TN_OK;
}

/* Seconds of one run, the mean of `times`. */
static double run_code(tuner *t, const code *c, operands *o, const double *values, uint32_t times) {
  int64_t dims[MAX_SYMBOLS * 4] = {0};
  for (uint32_t i = 0; i < c->info->ndims && i < TN_COUNT(dims); i++)
    dims[i] = (int64_t)value(t, c->info->dims[i], values);
  bool single = c->info->flags & TN_KERNEL_SINGLE;
  t->call = (tn_kcall){.bufs = o->bufs, .dims = dims, .ctx = c->ctx};
  t->fn = c->fn;
  double begin = tn_now();
  for (uint32_t i = 0; i < times; i++) {
    move_weights(t, o);
    tn_pool_run(t->pool, single ? 1 : t->nthreads, run_thread, t, 1);
  }
  return (tn_now() - begin) / times;
}

static int compare_double(const void *x, const void *y) {
  double a = *(const double *)x, b = *(const double *)y;
  return (a > b) - (a < b);
}

/* Logarithm of the candidate's time over the best's, at one size; no more is run once it looks slower. */
static tn_status compare(tuner *t, const kernel *k, const code *candidate, const double *values,
                         double *out) {
  operands o;
  double scratch = k->best.info->scratch ? value(t, k->best.info->scratch, values) : 0;
  double other = candidate->info->scratch ? value(t, candidate->info->scratch, values) : 0;
  tn_status s = make_operands(t, k, values, &o);
  if (s == TN_OK) s = reserve_scratch(t, (uint64_t)(scratch > other ? scratch : other));
  double ratios[PAIRS], begin = tn_now();
  uint32_t n = 0;
  if (s == TN_OK) {
    double one = run_code(t, &k->best, &o, values, 1);
    one = fmin(one, run_code(t, candidate, &o, values, 1));
    uint32_t times = one < RUN_SECONDS ? (uint32_t)(RUN_SECONDS / fmax(one, 1e-7)) + 1 : 1;
    uint32_t pairs = one < SHORTEST ? 0 : PAIRS, faster = 0;
    for (; n < pairs && (n < 3 || tn_now() - begin < PAIR_SECONDS) && (n != 3 || faster > 1); n++) {
      double best = run_code(t, &k->best, &o, values, times);
      ratios[n] = log(run_code(t, candidate, &o, values, times) / best);
      faster += ratios[n] < 0;
    }
    qsort(ratios, n, sizeof *ratios, compare_double);
  }
  *out = n ? ratios[n / 2] : 0;
  free_operands(&o);
  return s;
}

/* ---- the search -----------------------------------------------------------------------------------------
 */

/* `numbers` with NAME=VALUE added or replaced. */
static void with_number(const char *numbers, const char *name, long value, char out[128]) {
  size_t len = strlen(name), at = 0;
  for (const char *p = numbers; *p;) {
    size_t n = strcspn(p, " ");
    if (strncmp(p, name, len) || p[len] != '=')
      at += (size_t)snprintf(out + at, 128 - at, "%.*s ", (int)n, p);
    p += n + (p[n] == ' ');
  }
  snprintf(out + at, 128 - at, "%s=%ld", name, value);
}

/* The i-th number that `choices` has for `name`; false: it has fewer. */
static bool choice_at(const char *choices, const char *name, uint32_t i, long *value) {
  size_t len = strlen(name);
  for (const char *p = choices; *p; p += strcspn(p, " "), p += *p == ' ') {
    if (strncmp(p, name, len) || p[len] != '=') continue;
    char *end = (char *)p + len;
    do *value = strtol(end + 1, &end, 10);
    while (i-- && *end == ',');
    return i == UINT32_MAX;
  }
  return false;
}

/* The n-th name in `choices`, cut at its '='. */
static bool name_at(const char *choices, uint32_t n, char name[32]) {
  const char *p = choices;
  for (; n && *p; n--) p += strcspn(p, " "), p += *p == ' ';
  size_t len = strcspn(p, "=");
  if (!*p || !len || len > 31) return false;
  memcpy(name, p, len);
  name[len] = 0;
  return true;
}

static tn_status compare_all(tuner *t, const kernel *k, const code *candidate, double *sum) {
  double one;
  *sum = 0;
  for (uint32_t s = 0; s < k->nsizes; s++) {
    TN_TRY(compare(t, k, candidate, k->sizes[s], &one));
    *sum += one;
  }
  return TN_OK;
}

static tn_status try_on(tuner *t, kernel *k, version *v, const char *numbers) {
  code candidate;
  double sum = 0;
  TN_TRY(code_of(t, v, k, &candidate));
  TN_TRY(compare_all(t, k, &candidate, &sum));
  if (sum >= -GAIN) return TN_OK;
  TN_TRY(compare_all(t, k, &candidate, &sum)); /* it may have been luck */
  if (sum >= -GAIN) return TN_OK;
  k->best = candidate;
  snprintf(k->numbers, sizeof k->numbers, "%s", numbers);
  return TN_OK;
}

/* Candidate i of number n, for all kernels that have one; *any: some had. */
static tn_status try_all(tuner *t, uint32_t n, uint32_t i, bool *any) {
  tn_buf text = {0};
  char name[32], numbers[128];
  long value;
  *any = false;
  for (uint32_t k = 0; k < t->kernels.count; k++) {
    kernel *x = &t->kernels.items[k];
    bool has = name_at(x->choices, n, name) && choice_at(x->choices, name, i, &value);
    *any |= has;
    if (has) with_number(x->numbers, name, value, numbers);
    if (has || *x->numbers) tn_buf_printf(&text, "%s %s\n", x->key, has ? numbers : x->numbers);
  }
  version *v = NULL;
  tn_status s = text.failed ? TN_OOM : *any ? make_version(t, tn_buf_cstr(&text), &v) : TN_OK;
  for (uint32_t k = 0; s == TN_OK && v && v->exec && k < t->kernels.count; k++) {
    kernel *x = &t->kernels.items[k];
    if (!name_at(x->choices, n, name) || !choice_at(x->choices, name, i, &value)) continue;
    with_number(x->numbers, name, value, numbers);
    s = try_on(t, x, v, numbers);
  }
  tn_buf_fini(&text);
  return s;
}

/* How many compiles the search takes. */
static uint32_t candidates(const tuner *t) {
  uint32_t most = 0;
  for (uint32_t k = 0; k < t->kernels.count; k++) {
    uint32_t n = 0;
    for (const char *p = t->kernels.items[k].choices; *p; p++) n += *p == '=' || *p == ',';
    if (n > most) most = n;
  }
  return most;
}

static tn_status search(tuner *t) {
  tn_progress p;
  tn_progress_begin(&p, t->d->options.progress, "tuning");
  tn_status s = TN_OK;
  uint32_t all = candidates(t);
  for (uint32_t n = 0, tried = 0, any_name = 1; s == TN_OK && any_name; n++) {
    any_name = 0;
    for (uint32_t i = 0; s == TN_OK; i++) {
      bool any;
      s = try_all(t, n, i, &any);
      if (!any) break;
      any_name = 1;
      tn_progress_step(&p, ++tried, all);
    }
  }
  tn_progress_end(&p);
  return s;
}

/* ---- setting up -----------------------------------------------------------------------------------------
 */

static tn_status pick_target(tuner *t) {
  tn_driver *d = t->d;
  t->backend = &d->backends.items[0];
  if (t->backend->table.device)
    return tn_fail(d->diags, TN_UNSUPPORTED, NULL, NULL,
                   "kernels of backend '%s' run on a device and are not tuned", t->backend->table.name);
  for (uint32_t i = 0; i < d->targets.items[0].count; i++) {
    tn_target *x = d->targets.items[0].items[i];
    bool runs = !t->backend->table.runs_here || t->backend->table.runs_here(t->backend->self, x) == TN_OK;
    if (runs && (!t->target || x->score > t->target->score)) t->target = x;
  }
  if (t->target) return TN_OK;
  return tn_fail(d->diags, TN_UNSUPPORTED, NULL, NULL,
                 "none of the targets runs on this machine; nothing to tune");
}

/* One of each key among the kernels with choices. */
static tn_status collect(tuner *t) {
  for (uint32_t i = 0; i < t->build.kernels.count; i++) {
    const tn_build_kernel *b = &t->build.kernels.items[i];
    kernel k = {.op = b->op, .key = b->key, .choices = b->choices};
    bool seen = b->backend || !k.key || !k.choices;
    for (uint32_t n = 0; !seen && n < t->kernels.count; n++) seen = !strcmp(t->kernels.items[n].key, k.key);
    if (!seen && !tn_vec_push(&t->kernels, k)) return TN_OOM;
  }
  return TN_OK;
}

static tn_status make_weights(tuner *t) {
  t->weights_bytes = WEIGHT_ROOM;
  for (uint32_t i = 0; i < t->build.weight_bytes.count; i++)
    if (t->build.weight_bytes.items[i] > t->weights_bytes / 2)
      t->weights_bytes = tn_align_up(2 * t->build.weight_bytes.items[i], 4096);
  void *p = mmap(NULL, t->weights_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return TN_OOM;
  madvise(p, t->weights_bytes, MADV_HUGEPAGE);
  memset(p, FILL, t->weights_bytes);
  t->weights = p;
  return TN_OK;
}

static tn_status prepare(tuner *t, uint32_t mode) {
  TN_TRY(pick_target(t));
  TN_TRY(tn_driver_build(t->d, t->m, mode, &t->build));
  TN_TRY(collect(t));
  TN_TRY(make_weights(t));
  t->nsymbols = tn_dim_symbols(t->m) < MAX_SYMBOLS ? tn_dim_symbols(t->m) : MAX_SYMBOLS;
  t->nthreads = tn_pool_cores();
  TN_TRY(tn_pool_new(t->nthreads, NULL, 0, &t->pool));
  version *plain;
  TN_TRY(make_version(t, "", &plain));
  for (uint32_t i = 0; i < t->kernels.count; i++) {
    TN_TRY(code_of(t, plain, &t->kernels.items[i], &t->kernels.items[i].best));
    find_sizes(t, &t->kernels.items[i]);
  }
  return TN_OK;
}

/* "matmul f32[B, S, 2048]" */
static void describe(tuner *t, const kernel *k, tn_buf *out) {
  tn_attr root;
  tn_value_info v;
  tn_buf_puts(out, tn_ir_op_attr(t->m, k->op, "root", &root) ? root.u.s : "loop");
  for (uint32_t i = 0; i < tn_ir_op_noperands(t->m, k->op); i++) {
    if (!tn_ir_op_operand(t->m, k->op, i)) continue;
    tn_ir_value_get(t->m, tn_ir_op_operand(t->m, k->op, i), &v);
    tn_buf_puts(out, " ");
    tn_type_print(t->m, v.type, out);
  }
}

static tn_status keep(tuner *t, tn_tuning *into, tn_tune_result *out) {
  out->kernels = t->kernels.count;
  out->target = t->target->name;
  for (uint32_t i = 0; i < t->kernels.count; i++) {
    const kernel *k = &t->kernels.items[i];
    tn_buf note = {0};
    describe(t, k, &note);
    tn_tuning_row row = {t->target->name, k->key, tn_buf_cstr(&note), k->numbers};
    tn_status s = note.failed ? TN_OOM : tn_tuning_set(into, &row);
    tn_buf_fini(&note);
    TN_TRY(s);
    out->tuned += *k->numbers != 0;
  }
  return TN_OK;
}

static void finish(tuner *t) {
  for (uint32_t i = 0; i < t->versions.count; i++) {
    if (t->versions.items[i]->exec && t->backend->table.unload)
      t->backend->table.unload(t->versions.items[i]->exec);
    tn_vec_fini(&t->versions.items[i]->infos);
  }
  for (uint32_t i = 0; i < t->nthreads; i++) free(t->scratch[i]);
  if (t->weights) munmap(t->weights, t->weights_bytes);
  tn_pool_free(t->pool);
  tn_vec_fini(&t->versions);
  tn_vec_fini(&t->kernels);
  tn_build_fini(&t->build);
  tn_arena_fini(&t->arena);
  tn_mem_free(t);
}

tn_status tn_driver_tune(tn_driver *d, tn_module *m, uint32_t mode, tn_tuning *into, tn_tune_result *out) {
  tuner *t = tn_mem_alloc(sizeof *t);
  if (!t) return TN_OOM;
  *out = (tn_tune_result){0};
  t->d = d;
  t->m = m;
  tn_arena_init(&t->arena);
  tn_status s = prepare(t, mode);
  if (s == TN_OK) s = search(t);
  if (s == TN_OK) s = keep(t, into, out);
  finish(t);
  return s;
}
