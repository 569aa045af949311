/* toy.h - a step program built by hand, for tests of the runtime, the link step and the header writer.
 *
 *   encode(ids[B, S] i32, mask[B, S] i32) -> hidden[B, S, 4] f32    table[ids] * mask + bias; own variant for
 * S = 1 next(ids[B, S] i32) -> logits[B, 10] f32                        most likely: sum of all tokens so
 * far, modulo 10
 *
 * S <= 8, P + S <= C <= 64; state tokens[B, C] i32; weights table[10, 4], bias[4] packed one after the other.
 */
#ifndef TN_TEST_TOY_H
#define TN_TEST_TOY_H
#include "ir/base/base.h"
#include "ir/base/program.h"
#include "tenon/ir.h"

typedef struct toy_blob {
  tn_buf strings, dims, constraints, exprs, entries, variants, args, slots, steps, operands, scalars, weights,
      states, kernels, meta, binds, calls, tokenizer, text;
  uint32_t name, nprivate;
} toy_blob;

static inline uint32_t toy_str(toy_blob *t, const char *s) {
  uint32_t at = (uint32_t)t->strings.len;
  tn_buf_put(&t->strings, s, strlen(s) + 1);
  return at;
}
#define TOY_ROW(t, table, T, ...) tn_buf_put(&(t)->table, &(T)__VA_ARGS__, sizeof(T))

/* Each appends an expression and gives its row. */
static inline uint32_t toy_expr(toy_blob *t, uint32_t kind, uint32_t a, uint32_t b, int64_t value) {
  TOY_ROW(t, exprs, tn_prog_expr, {.kind = kind, .a = a, .b = b, .value = value});
  return (uint32_t)(t->exprs.len / sizeof(tn_prog_expr) - 1);
}
static inline uint32_t toy_const(toy_blob *t, int64_t v) { return toy_expr(t, TN_DIM_CONST, 0, 0, v); }
static inline uint32_t toy_sym(toy_blob *t, uint32_t dim) { return toy_expr(t, TN_DIM_SYM, dim, 0, 0); }
static inline uint32_t toy_op(toy_blob *t, uint32_t kind, uint32_t a, uint32_t b) {
  return toy_expr(t, kind, a, b, 0);
}
static inline uint32_t toy_scalars(toy_blob *t, const uint32_t *rows, uint32_t n) {
  uint32_t at = (uint32_t)(t->scalars.len / 4);
  tn_buf_put(&t->scalars, rows, n * 4);
  return at;
}
#define TOY_SCALARS(t, ...)                                                                                  \
  toy_scalars(t, (const uint32_t[]){__VA_ARGS__}, sizeof((const uint32_t[]){__VA_ARGS__}) / 4)
static inline void toy_arg(toy_blob *t, const char *name, uint32_t dtype, uint32_t rank, uint32_t shape) {
  TOY_ROW(t, args, tn_prog_arg, {toy_str(t, name), dtype, rank, shape});
}
static inline uint32_t toy_operands(toy_blob *t, const tn_prog_operand *o, uint32_t n) {
  uint32_t at = (uint32_t)(t->operands.len / sizeof *o);
  tn_buf_put(&t->operands, o, n * sizeof *o);
  return at;
}
/* A step: kernel row, operands, scalars, scratch expression, flags. */
#define TOY_OPERANDS(...)                                                                                    \
  (const tn_prog_operand[]){__VA_ARGS__},                                                                    \
      sizeof((const tn_prog_operand[]){__VA_ARGS__}) / sizeof(tn_prog_operand)
static inline void toy_step(toy_blob *t, uint32_t kernel, const tn_prog_operand *o, uint32_t no,
                            uint32_t scalars, uint32_t ns, uint32_t scratch, uint32_t flags) {
  uint32_t first = toy_operands(t, o, no);
  TOY_ROW(t, steps, tn_prog_step,
          {kernel, first, no, scalars, ns, scratch, flags, toy_str(t, "toy.model:7")});
}
static inline void toy_meta(toy_blob *t, const char *key, const char *value) {
  uint32_t k = toy_str(t, key), v = toy_str(t, value);
  TOY_ROW(t, meta, tn_prog_meta, {k, v});
}

static inline void toy_place(tn_buf *out, tn_buf *table, size_t row, tn_prog_span *span) {
  while (out->len % 8) tn_buf_put(out, "", 1);
  *span = (tn_prog_span){(uint32_t)out->len, (uint32_t)(table->len / row)};
  tn_buf_put(out, table->text, table->len);
  tn_buf_fini(table);
}

static inline void toy_seal(void *blob, uint64_t bytes) {
  tn_prog_header *h = blob;
  h->bytes = bytes;
  h->hash = tn_hash_bytes((char *)blob + sizeof *h, bytes - sizeof *h, 0);
}

/* Frees the tables. The caller frees the result. */
static inline tn_buf toy_finish(toy_blob *t) {
  tn_buf out = {0};
  tn_prog_header h = {.magic = TN_PROGRAM_MAGIC, .version = TN_PROGRAM_VERSION, .name = t->name};
  h.npublic = (uint32_t)(t->entries.len / sizeof(tn_prog_entry)) - t->nprivate;
  tn_buf_put(&out, &h, sizeof h);
  toy_place(&out, &t->strings, 1, &h.strings);
  toy_place(&out, &t->dims, sizeof(tn_prog_dim), &h.dims);
  toy_place(&out, &t->constraints, sizeof(tn_prog_constraint), &h.constraints);
  toy_place(&out, &t->exprs, sizeof(tn_prog_expr), &h.exprs);
  toy_place(&out, &t->entries, sizeof(tn_prog_entry), &h.entries);
  toy_place(&out, &t->variants, sizeof(tn_prog_variant), &h.variants);
  toy_place(&out, &t->args, sizeof(tn_prog_arg), &h.args);
  toy_place(&out, &t->slots, sizeof(tn_prog_slot), &h.slots);
  toy_place(&out, &t->steps, sizeof(tn_prog_step), &h.steps);
  toy_place(&out, &t->operands, sizeof(tn_prog_operand), &h.operands);
  toy_place(&out, &t->scalars, 4, &h.scalars);
  toy_place(&out, &t->weights, sizeof(tn_prog_weight), &h.weights);
  toy_place(&out, &t->states, sizeof(tn_prog_state), &h.states);
  toy_place(&out, &t->kernels, sizeof(tn_prog_kernel), &h.kernels);
  toy_place(&out, &t->meta, sizeof(tn_prog_meta), &h.meta);
  toy_place(&out, &t->binds, sizeof(tn_prog_bind), &h.binds);
  toy_place(&out, &t->calls, sizeof(tn_prog_call), &h.calls);
  toy_place(&out, &t->tokenizer, 1, &h.tokenizer);
  toy_place(&out, &t->text, 1, &h.text);
  memcpy(out.text, &h, sizeof h);
  toy_seal(out.text, out.len);
  return out;
}

enum { TOY_KERNELS = 5 };
static const char *const toy_kernel_names[TOY_KERNELS] = {"toy_gather", "toy_scale", "toy_one", "toy_append",
                                                          "toy_next"};

/* The packed weights: table[i][k] = i + k / 4, bias[k] = k * 1000; the bias at byte 192. */
enum { TOY_WEIGHT_BYTES = 192 + 16, TOY_BIAS = 192 };
static inline void toy_weights(float *out) {
  memset(out, 0, TOY_WEIGHT_BYTES);
  for (int i = 0; i < 40; i++) out[i] = (float)(i / 4) + (float)(i % 4) / 4;
  for (int k = 0; k < 4; k++) out[TOY_BIAS / 4 + k] = (float)k * 1000;
}

/* `file`: where the table lies in place (from byte 8 on), or NULL: packed. `base`: where the packed weights
 * begin in their section. `tokenizer`: its blob, or empty. */
static inline tn_buf toy_program(const char *name, const char *file, uint64_t base, tn_bytes tokenizer) {
  toy_blob t = {0};
  t.name = toy_str(&t, name);
  const char *dims[] = {"B", "S", "P", "C"};
  const int64_t limits[] = {INT64_MAX, 8, INT64_MAX, 64};
  const uint32_t sources[] = {TN_PROG_DIM_INPUT, TN_PROG_DIM_INPUT, TN_PROG_DIM_POSITION,
                              TN_PROG_DIM_CAPACITY};
  uint32_t d[4];
  for (int i = 0; i < 4; i++) {
    uint32_t at = toy_str(&t, dims[i]);
    TOY_ROW(&t, dims, tn_prog_dim, {at, sources[i], limits[i]});
    d[i] = toy_sym(&t, (uint32_t)i);
  }
  uint32_t four = toy_const(&t, 4), ten = toy_const(&t, 10), row = toy_const(&t, 16),
           total = toy_op(&t, TN_DIM_ADD, d[2], d[1]);
  uint32_t n = toy_op(&t, TN_DIM_MUL, d[0], d[1]), hidden = toy_op(&t, TN_DIM_MUL, n, row);
  TOY_ROW(&t, constraints, tn_prog_constraint, {total, d[3]});
  for (int i = 0; i < TOY_KERNELS; i++) {
    uint32_t symbol = toy_str(&t, toy_kernel_names[i]), backend = toy_str(&t, "toy");
    TOY_ROW(&t, kernels, tn_prog_kernel, {symbol, backend});
  }
  uint32_t ids = TOY_SCALARS(&t, d[0], d[1]), out = TOY_SCALARS(&t, d[0], d[1], four),
           scores = TOY_SCALARS(&t, d[0], ten);
  toy_arg(&t, "ids", TN_DT_i32, 2, ids);
  toy_arg(&t, "mask", TN_DT_i32, 2, ids);
  toy_arg(&t, "hidden", TN_DT_f32, 3, out);
  toy_arg(&t, "ids", TN_DT_i32, 2, ids);
  toy_arg(&t, "logits", TN_DT_f32, 2, scores);
  uint32_t kept = toy_str(&t, "tokens");
  TOY_ROW(&t, states, tn_prog_state, {{kept, TN_DT_i32, 2, TOY_SCALARS(&t, d[0], d[3])}});
  uint32_t table = toy_str(&t, "table"), bias = toy_str(&t, "bias"),
           from = file ? toy_str(&t, file) : TN_PROG_NONE;
  TOY_ROW(&t, weights, tn_prog_weight,
          {table, TN_DT_f32, TN_PROG_NONE, 2, TOY_SCALARS(&t, ten, four), from, file ? 8 : base, 160});
  TOY_ROW(&t, weights, tn_prog_weight,
          {bias, TN_DT_f32, TN_PROG_NONE, 1, TOY_SCALARS(&t, four), TN_PROG_NONE, base + TOY_BIAS, 16});
  TOY_ROW(&t, slots, tn_prog_slot, {hidden});
  uint32_t nd = TOY_SCALARS(&t, n, four), bspc = TOY_SCALARS(&t, d[0], d[1], d[2], d[3]),
           btcv = TOY_SCALARS(&t, d[0], total, d[3], ten);
  toy_step(&t, 2,
           TOY_OPERANDS({TN_PROG_WEIGHT, 0}, {TN_PROG_INPUT, 0}, {TN_PROG_INPUT, 1}, {TN_PROG_WEIGHT, 1},
                        {TN_PROG_OUTPUT, 0}),
           nd, 2, TN_PROG_NONE, 0);
  toy_step(&t, 0, TOY_OPERANDS({TN_PROG_WEIGHT, 0}, {TN_PROG_INPUT, 0}, {TN_PROG_SLOT, 0}), nd, 2,
           TN_PROG_NONE, 0);
  toy_step(&t, 1,
           TOY_OPERANDS({TN_PROG_SLOT, 0}, {TN_PROG_INPUT, 1}, {TN_PROG_WEIGHT, 1}, {TN_PROG_OUTPUT, 0}), nd,
           2, row, 0);
  toy_step(&t, 3, TOY_OPERANDS({TN_PROG_INPUT, 0}, {TN_PROG_STATE, 0}), bspc, 4, TN_PROG_NONE,
           TN_KERNEL_SINGLE);
  toy_step(&t, 4, TOY_OPERANDS({TN_PROG_STATE, 0}, {TN_PROG_OUTPUT, 0}), btcv, 4, TN_PROG_NONE, 0);
  TOY_ROW(&t, variants, tn_prog_variant, {.dim = 1, .equals = 1, .first_step = 0, .nsteps = 1});
  TOY_ROW(&t, variants, tn_prog_variant,
          {.dim = TN_PROG_NONE, .first_step = 1, .nsteps = 2, .first_slot = 0, .nslots = 1});
  TOY_ROW(&t, variants, tn_prog_variant, {.dim = TN_PROG_NONE, .first_step = 3, .nsteps = 2});
  uint32_t encode = toy_str(&t, "encode"), next = toy_str(&t, "next");
  TOY_ROW(&t, entries, tn_prog_entry, {encode, 0, 2, 2, 1, 0, 2});
  TOY_ROW(&t, entries, tn_prog_entry, {next, 3, 1, 4, 1, 2, 1});
  toy_meta(&t, "architecture", "Toy");
  toy_meta(&t, "eos", "0");
  tn_buf_put(&t.tokenizer, tokenizer.ptr, tokenizer.len);
  return toy_finish(&t);
}

#endif
