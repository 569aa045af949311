/* header.c - foo.h, written for one model. Text with '@' for the model's name and '$' for the same in
 * capitals is the part that all headers share; the entry points come from the step program. */
#include "tools/driver/header.h"
#include "backends/runtime/view.h"
#include "tenon/ir.h"
#include "tools/driver/link.h"
#include <ctype.h>

enum { MAX_PARAMS = 64, EXPR_DEPTH = 12 };

typedef struct writer {
  tn_view v;
  const char *name;
  tn_buf *out;
  tn_diags *diags;
  tn_arena arena;
  bool *stateful; /* per entry */
} writer;

/* ---- shared text --------------------------------------------------------------------------------------- */

/* clang-format off */
static const char begin_text[] =
    "#ifndef $_H\n#define $_H\n#include <stddef.h>\n#include <stdint.h>\n"
    "#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n"
    "/* 0 or the reason for a failure, in words by @_error. */\n"
    "typedef int32_t @_status;\n"
    "enum {\n"
    "  $_OK = 0,\n"
    "  $_CANCELLED = 1,     /* a callback said stop */\n"
    "  $_INVALID = 3,       /* an argument, a shape or a file is wrong */\n"
    "  $_NOT_FOUND = 5,     /* a file or a named thing is not there */\n"
    "  $_OOM = 8,           /* memory ran out */\n"
    "  $_PRECONDITION = 9,  /* not legal now */\n"
    "  $_UNSUPPORTED = 12,  /* this processor or this model cannot do it */\n"
    "  $_INTERNAL = 13,     /* a defect of the library */\n"
    "  $_UNAVAILABLE = 14,  /* a file or thread cannot be had */\n"
    "  $_DATA_LOSS = 15     /* a file is damaged */\n"
    "};\n\n"
    "typedef struct @_model @_model;     /* weights and code: read-only, may be shared by threads */\n"
    "typedef struct @_session @_session; /* threads, memory and states: one caller at a time */\n\n"
    "typedef struct @_session_options {\n"
    "  uint32_t size;       /* sizeof(@_session_options) */\n"
    "  uint32_t threads;    /* 0: one per core in `cores`, or that the process may use */\n"
    "  int64_t batch;       /* sequences that the states hold; 0: 1 */\n"
    "  int64_t capacity;    /* tokens that the states hold; 0: the model's limit, at most 4096 */\n"
    "  char *error;         /* words of a failure of @_session_new; may be NULL */\n"
    "  uint64_t error_size;\n"
    "  const uint32_t *cores; /* thread i, and thread 0 is the caller's, stays on core cores[i % ncores] */\n"
    "  uint32_t ncores, reserved;\n"
    "  const char *device;    /* for code on a device: \"cuda:1\", \"cuda:UUID\"; NULL: the first one */\n"
    "  void *stream;          /* the device's own, a CUstream, which must outlive the session; NULL: a new one */\n"
    "} @_session_options;\n\n"
    "/* path: NULL, or where the library, its weight file or their folder lies if that is not where it was\n"
    " * loaded from. error: words of a failure; may be NULL. */\n"
    "@_status @_open(const char *path, @_model **out, char *error, uint64_t error_size);\n"
    "void @_close(@_model *m); /* after its sessions */\n"
    "const char *@_meta(@_model *m, const char *key); /* NULL: none */\n"
    "/* o may be NULL. */\n"
    "@_status @_session_new(@_model *m, const @_session_options *o, @_session **out);\n"
    "void @_session_free(@_session *s);\n"
    "const char *@_error(@_session *s); /* words of the session's last failure; never NULL */\n"
    "const void *@_query(uint32_t abi); /* the table of tenon/model.h, for programs that use any model */\n";

static const char state_text[] =
    "\n/* The states hold the tokens of earlier calls. */\n"
    "@_status @_session_reset(@_session *s);            /* forgets them */\n"
    "int64_t @_position(@_session *s);                  /* how many there are */\n"
    "@_status @_rewind(@_session *s, int64_t position); /* keeps the first ones only */\n";

static const char adapter_text[] =
    "\n/* How much of a LoRA adapter is added from the next call on: 1 as trained, 0 not at all. */\n"
    "@_status @_adapter(@_session *s, const char *name, float weight);\n";

static const char tokenizer_text[] =
    "\n/* Text (UTF-8) to ids. *n: in, the room in ids; out, how many there are (also when the room was too\n"
    " * small, which is $_INVALID). pair: a second text, or NULL. types: which of both each id is from, or\n"
    " * NULL. */\n"
    "enum {\n"
    "  $_NO_SPECIAL = 1,  /* without [CLS], <s> and the like */\n"
    "  $_SKIP_SPECIAL = 2 /* the same for @_detokenize */\n"
    "};\n"
    "@_status @_tokenize(@_session *s, const char *text, uint64_t len, const char *pair, uint64_t pair_len,\n"
    "                    uint32_t flags, int32_t *ids, int32_t *types, uint64_t *n);\n"
    "/* *len: in, the room in text; out, the bytes. A NUL follows where there is room. */\n"
    "@_status @_detokenize(@_session *s, const int32_t *ids, uint64_t n, uint32_t flags, char *text,\n"
    "                      uint64_t *len);\n"
    "const char *@_token_text(@_session *s, int32_t id, uint64_t *len); /* NULL: no such id */\n"
    "@_status @_token_id(@_session *s, const char *token, int32_t *id);\n";

static const char generate_text[] =
    "\n"
    "/* Why a generation ended. */\n"
    "enum {\n"
    "  $_FINISH_NONE,     /* it has not, or a failure ended it */\n"
    "  $_FINISH_END,      /* an end token */\n"
    "  $_FINISH_STOP,     /* a stop string */\n"
    "  $_FINISH_GRAMMAR,  /* the grammar allows nothing more */\n"
    "  $_FINISH_LENGTH,   /* max_tokens */\n"
    "  $_FINISH_CAPACITY, /* no room for more tokens */\n"
    "  $_FINISH_CANCELLED /* a callback said so */\n"
    "};\n"
    "typedef struct @_alternative { int32_t id; float logprob; } @_alternative;\n"
    "/* A new token. Probabilities are the model's own; 0 where logprobs does not ask for them. */\n"
    "typedef struct @_new_token {\n"
    "  uint32_t size;\n"
    "  uint32_t sequence; /* which prompt of @_generate_batch */\n"
    "  int32_t id;\n"
    "  uint32_t finish;   /* not $_FINISH_NONE: the last one of its sequence */\n"
    "  const char *text;  /* what the token adds, maybe nothing yet */\n"
    "  uint64_t len;\n"
    "  float logprob;     /* natural logarithm of its probability */\n"
    "  uint32_t nalternatives;\n"
    "  const @_alternative *alternatives; /* the likeliest tokens, best first */\n"
    "} @_new_token;\n"
    "/* Not $_OK stops: then @_generate gives $_CANCELLED. */\n"
    "typedef @_status (*@_on_new_token)(void *user, const @_new_token *t);\n"
    "typedef @_status (*@_on_token)(void *user, int32_t token, const char *text, uint64_t len);\n"
    "/* How a generation went. */\n"
    "typedef struct @_generation {\n"
    "  uint32_t size;               /* sizeof(@_generation), set by the caller */\n"
    "  uint32_t finish;\n"
    "  uint64_t prompt_tokens, new_tokens;\n"
    "  uint64_t drafted, accepted;  /* by speculation */\n"
    "  uint64_t masks;              /* tokens that a grammar constrained */\n"
    "  double mask_seconds;\n"
    "} @_generation;\n"
    "typedef struct @_logit_bias { int32_t token; float bias; } @_logit_bias;\n"
    "\n"
    "/* Zero is off, or the default, everywhere. Scores pass, in this order: bias, grammar, penalties, DRY, top_k,\n"
    " * typical_p, top_p, min_p, temperature. */\n"
    "typedef struct @_sampling {\n"
    "  uint32_t size;            /* sizeof(@_sampling) */\n"
    "  uint32_t max_tokens;      /* new tokens; 0: 128 */\n"
    "  float temperature;        /* 0: always the most likely token */\n"
    "  float top_p, min_p;\n"
    "  float repetition_penalty; /* 1: off */\n"
    "  uint32_t top_k;\n"
    "  uint64_t seed;            /* the same seed gives the same tokens */\n"
    "  float typical_p;\n"
    "  float frequency_penalty, presence_penalty;\n"
    "  int32_t penalty_last_n;   /* tokens that the penalties look at; 0: all */\n"
    "  float dry_multiplier, dry_base; /* base 0: 1.75 */\n"
    "  uint32_t dry_allowed_length;    /* 0: 2 */\n"
    "  int32_t dry_last_n;\n"
    "  const char *const *dry_breakers; /* NULL: newline, ':', '\"', '*' */\n"
    "  uint32_t ndry_breakers;\n"
    "  uint32_t nbias;\n"
    "  const @_logit_bias *bias;\n"
    "  const char *const *stop;  /* ends before the first of these texts */\n"
    "  uint32_t nstop;\n"
    "  uint32_t logprobs;        /* alternatives that on_token gets */\n"
    "  const char *grammar;      /* GBNF, NUL-terminated where grammar_len is 0 */\n"
    "  uint64_t grammar_len;\n"
    "  @_on_new_token on_token;\n"
    "  @_generation *result;\n"
    "  uint32_t draft_tokens;    /* speculation: tokens guessed at a time */\n"
    "  uint32_t draft_ngram;     /* guess from the text itself; longest piece that is looked up; 0: 3 */\n"
    "  @_session *draft;         /* or with a session of a smaller model, whose states hold the same tokens */\n"
    "} @_sampling;\n"
    "/* Appends ids to the states, then generates until max_tokens, an end token, a stop string, the end of the\n"
    " * grammar or the capacity. The last token is not yet in the states: put it before the next call's ids. o and\n"
    " * each may be NULL. */\n"
    "@_status @_generate(@_session *s, const int32_t *ids, uint64_t n, const @_sampling *o,\n"
    "                    @_on_token each, void *user);\n"
    "typedef struct @_prompt { const int32_t *ids; uint64_t nids; } @_prompt;\n"
    "/* Continues n prompts at once, in a session whose batch is n or more, from empty states. Prompt i gives the\n"
    " * tokens that @_generate gives with seed + i. o->result: an array of n. */\n"
    "@_status @_generate_batch(@_session *s, const @_prompt *prompts, uint32_t n, const @_sampling *o,\n"
    "                          @_on_new_token each, void *user);\n";

static const char tensor_text[] =
    "\n/* What the functions below pass on. */\n"
    "typedef struct @_tensor { void *data; uint32_t dtype, rank; int64_t shape[8]; } @_tensor;\n"
    "@_status @_invoke(@_session *s, uint32_t entry, const @_tensor *in, const @_tensor *out);\n"
    "static inline void @_tensor_set(@_tensor *t, const void *data, uint32_t dtype, uint32_t rank) {\n"
    "  t->data = (void *)(uintptr_t)data;\n  t->dtype = dtype;\n  t->rank = rank;\n}\n";

static const char result_text[] =
    "/* Shape and data of output i of the last call, for outputs whose shape only the call makes known; they are\n"
    " * there until the next call. */\n"
    "@_status @_result(@_session *s, uint32_t i, @_tensor *out);\n";

static const char end_text[] = "\n#ifdef __cplusplus\n}\n#endif\n#endif\n";
/* clang-format on */

static void put_capitals(tn_buf *out, const char *s) {
  for (; *s; s++) {
    char c = (char)toupper((unsigned char)*s);
    tn_buf_put(out, &c, 1);
  }
}

static void put_text(const writer *w, const char *text) {
  for (const char *p = text; *p;) {
    size_t n = strcspn(p, "@$");
    tn_buf_put(w->out, p, n);
    p += n;
    if (*p == '@') tn_buf_puts(w->out, w->name);
    if (*p == '$') put_capitals(w->out, w->name);
    p += *p != 0;
  }
}

/* ---- names --------------------------------------------------------------------------------------------- */

/* Words that C or C++ keep for themselves, and those that the functions below use. */
static const char *const taken[] = {
    "alignas",  "alignof",  "and",      "asm",     "auto",      "bool",    "break",     "case",
    "catch",    "char",     "class",    "compl",   "concept",   "const",   "constexpr", "continue",
    "decltype", "default",  "delete",   "do",      "double",    "else",    "enum",      "explicit",
    "export",   "extern",   "false",    "float",   "for",       "friend",  "goto",      "if",
    "inline",   "int",      "long",     "mutable", "namespace", "new",     "noexcept",  "not",
    "nullptr",  "operator", "or",       "private", "protected", "public",  "register",  "requires",
    "restrict", "return",   "short",    "signed",  "sizeof",    "static",  "struct",    "switch",
    "template", "this",     "throw",    "true",    "try",       "typedef", "typeid",    "typename",
    "typeof",   "union",    "unsigned", "using",   "virtual",   "void",    "volatile",  "wchar_t",
    "while",    "xor",      "s",        "in",      "out",       "status"};
static const char *const generic[] = {
#define TN_X(suffix, symbol) #suffix,
    TN_LINK_EXPORTS(TN_X)
#undef TN_X
        "model",
    "session",
    "status",
    "tensor",
    "tensor_set",
    "session_options",
    "sampling",
    "on_token",
    "on_new_token",
    "new_token",
    "alternative",
    "generation",
    "logit_bias",
    "prompt"};

static bool listed(const char *name, const char *const *list, size_t n) {
  for (size_t i = 0; i < n; i++)
    if (list[i] && !strcmp(name, list[i])) return true;
  return false;
}

/* A C identifier from any text; underscores behind it until it is in none of the lists. NULL: no memory. */
static const char *identifier(writer *w, const char *text, const char *const *list, size_t n,
                              const char *const *more, size_t nmore) {
  tn_buf b = {0};
  if (!isalpha((unsigned char)text[0])) tn_buf_puts(&b, "x");
  for (const char *p = text; *p; p++)
    tn_buf_put(&b, isalnum((unsigned char)*p) && (unsigned char)*p < 128 ? p : "_", 1);
  while (!b.failed && (listed(tn_buf_cstr(&b), list, n) || listed(b.text, more, nmore))) tn_buf_puts(&b, "_");
  char *name = b.failed ? NULL : tn_arena_str(&w->arena, (tn_str){b.text, b.len});
  tn_buf_fini(&b);
  return name;
}

static const char *c_type(uint32_t dtype) {
  static const char *const types[TN_DT_PLAIN_END] = {
      [TN_DT_f64] = "double",         [TN_DT_f32] = "float",          [TN_DT_f16] = "uint16_t",
      [TN_DT_bf16] = "uint16_t",      [TN_DT_f8e4m3] = "uint8_t",     [TN_DT_f8e5m2] = "uint8_t",
      [TN_DT_i64] = "int64_t",        [TN_DT_i32] = "int32_t",        [TN_DT_i16] = "int16_t",
      [TN_DT_i8] = "int8_t",          [TN_DT_u64] = "uint64_t",       [TN_DT_u32] = "uint32_t",
      [TN_DT_u16] = "uint16_t",       [TN_DT_u8] = "uint8_t",         [TN_DT_bool] = "uint8_t",
      [TN_DT_f8e4m3fnuz] = "uint8_t", [TN_DT_f8e5m2fnuz] = "uint8_t", [TN_DT_f8e8m0] = "uint8_t"};
  return dtype < TN_DT_PLAIN_END && types[dtype] ? types[dtype] : "void";
}

/* ---- entry points -------------------------------------------------------------------------------------- */

/* The parameters of one function: sizes first, then the arrays. */
typedef struct params {
  const char *names[MAX_PARAMS];
  uint32_t n, dims[MAX_PARAMS], ndims;
  bool late[MAX_PARAMS]; /* per output: only the call makes its shape known */
} params;

static tn_status add_param(writer *w, params *p, const char *name) {
  if (p->n == MAX_PARAMS)
    return tn_fail(w->diags, TN_UNSUPPORTED, NULL, NULL, "an entry point has more than %d sizes and tensors",
                   MAX_PARAMS);
  p->names[p->n] = identifier(w, name, taken, TN_COUNT(taken), p->names, p->n);
  return p->names[p->n++] ? TN_OK : TN_OOM;
}

static void use_shape(const tn_view *v, const tn_prog_arg *a, uint8_t *used) {
  for (uint32_t k = 0; k < a->rank; k++) used[v->scalars[a->shape + k]] = 1;
}

static void close_over(const tn_view *v, uint8_t *used) {
  for (uint32_t i = v->nexprs; i-- > 0;)
    if (used[i] && v->exprs[i].kind >= TN_DIM_ADD) used[v->exprs[i].a] = used[v->exprs[i].b] = 1;
}

static bool is_given(const tn_view *v, uint32_t row, const uint8_t *used, int depth) {
  const tn_prog_expr *x = &v->exprs[row];
  if (used[row] || x->kind == TN_DIM_CONST || depth > EXPR_DEPTH) return true;
  if (x->kind == TN_DIM_SYM) return v->dims[x->a].source != TN_PROG_DIM_INPUT;
  return is_given(v, x->a, used, depth + 1) && is_given(v, x->b, used, depth + 1);
}

/* Outputs of an entry with host steps whose sizes do not all follow from its inputs, which `used` tells. */
static void find_late(const tn_view *v, const tn_prog_entry *e, const uint8_t *used, params *p) {
  if (!tn_view_is_dynamic(v, e)) return;
  for (uint32_t i = 0; i < e->noutputs && i < MAX_PARAMS; i++) {
    const tn_prog_arg *a = &v->args[e->first_output + i];
    for (uint32_t k = 0; k < a->rank; k++) p->late[i] |= !is_given(v, v->scalars[a->shape + k], used, 0);
  }
}

static bool any_late(const tn_prog_entry *e, const params *p) {
  for (uint32_t i = 0; i < e->noutputs; i++)
    if (p->late[i]) return true;
  return false;
}

/* The dims that the shapes of the entry depend on; the runtime knows the position itself. */
static tn_status add_dims(writer *w, params *p, const tn_prog_entry *e) {
  const tn_view *v = &w->v;
  uint8_t *used = tn_arena_alloc(&w->arena, v->nexprs + 1);
  if (!used) return TN_OOM;
  for (uint32_t i = 0; i < e->ninputs; i++) use_shape(v, &v->args[e->first_input + i], used);
  close_over(v, used);
  find_late(v, e, used, p);
  for (uint32_t i = 0; i < e->noutputs; i++)
    if (!p->late[i]) use_shape(v, &v->args[e->first_output + i], used);
  close_over(v, used);
  for (uint32_t d = 0; d < v->ndims; d++) {
    bool found = false;
    for (uint32_t i = 0; i < v->nexprs && !found; i++)
      found = used[i] && v->exprs[i].kind == TN_DIM_SYM && v->exprs[i].a == d;
    if (!found || v->dims[d].source == TN_PROG_DIM_POSITION) continue;
    TN_TRY(add_param(w, p, tn_view_str(v, v->dims[d].name)));
    p->dims[p->ndims++] = d;
  }
  return TN_OK;
}

/* An expression over the parameters, as C. */
static tn_status put_expr(writer *w, const params *p, uint32_t row, int depth) {
  static const char *const infix[] = {[TN_DIM_ADD] = " + ", [TN_DIM_MUL] = " * ", [TN_DIM_FLOORDIV] = " / ",
                                      [TN_DIM_MOD] = " % ", [TN_DIM_MIN] = " < ", [TN_DIM_MAX] = " > "};
  const tn_prog_expr *e = &w->v.exprs[row];
  if (depth > EXPR_DEPTH)
    return tn_fail(w->diags, TN_UNSUPPORTED, NULL, NULL, "a shape is an expression more than %d deep",
                   EXPR_DEPTH);
  if (e->kind == TN_DIM_CONST) return tn_buf_printf(w->out, "%lld", (long long)e->value), TN_OK;
  if (e->kind == TN_DIM_SYM) {
    if (w->v.dims[e->a].source == TN_PROG_DIM_POSITION) tn_buf_printf(w->out, "%s_position(s)", w->name);
    for (uint32_t i = 0; i < p->ndims; i++)
      if (p->dims[i] == e->a) tn_buf_puts(w->out, p->names[i]);
    return TN_OK;
  }
  tn_buf_puts(w->out, "(");
  TN_TRY(put_expr(w, p, e->a, depth + 1));
  tn_buf_puts(w->out, infix[e->kind]);
  TN_TRY(put_expr(w, p, e->b, depth + 1));
  if (e->kind == TN_DIM_MIN || e->kind == TN_DIM_MAX) {
    tn_buf_puts(w->out, " ? ");
    TN_TRY(put_expr(w, p, e->a, depth + 1));
    tn_buf_puts(w->out, " : ");
    TN_TRY(put_expr(w, p, e->b, depth + 1));
  }
  tn_buf_puts(w->out, ")");
  return TN_OK;
}

/* Text of the model in a comment: what would end it is broken up. */
static void put_comment(const writer *w, const char *text) {
  for (const char *p = text; *p; p++) {
    tn_buf_put(w->out, (unsigned char)*p < ' ' ? " " : p, 1);
    if ((*p == '*' && p[1] == '/') || (*p == '/' && p[1] == '*')) tn_buf_puts(w->out, " ");
  }
}

static void put_arg_comment(const writer *w, const tn_prog_arg *a) {
  tn_buf shape = {0};
  put_comment(w, tn_view_str(&w->v, a->name));
  tn_view_shape_text(&w->v, a->rank, a->shape, &shape);
  put_comment(w, tn_buf_cstr(&shape));
  tn_buf_printf(w->out, " %s", tn_view_dtype_name(a->dtype));
  tn_buf_fini(&shape);
}

static void put_limits(const writer *w, const params *p) {
  for (uint32_t i = 0; i < p->ndims; i++) {
    int64_t limit = tn_view_limit(&w->v, p->dims[i]);
    tn_buf_printf(w->out, limit == INT64_MAX ? "%s%s >= 1" : "%s1 <= %s <= %lld", i ? ", " : "; ",
                  p->names[i], (long long)limit);
  }
}

static void put_entry_comment(const writer *w, const tn_prog_entry *e, const params *p) {
  tn_buf_puts(w->out, "\n/* ");
  for (uint32_t i = 0; i < e->ninputs; i++) {
    if (i) tn_buf_puts(w->out, ", ");
    put_arg_comment(w, &w->v.args[e->first_input + i]);
  }
  tn_buf_puts(w->out, " -> ");
  for (uint32_t i = 0; i < e->noutputs; i++) {
    if (i) tn_buf_puts(w->out, ", ");
    put_arg_comment(w, &w->v.args[e->first_output + i]);
  }
  put_limits(w, p);
  if (w->stateful[e - w->v.entries]) tn_buf_puts(w->out, ".\n * Appends its tokens to the session's states");
  if (any_late(e, p))
    tn_buf_puts(w->out, ".\n * A tensor gets its shape and its data, which are there until the next call");
  tn_buf_puts(w->out, w->stateful[e - w->v.entries] || any_late(e, p) ? ". */\n" : " */\n");
}

/* The fixed sizes of outputs: FOO_EMBED_EMBEDDING_DIM1. */
static void put_sizes(const writer *w, const tn_prog_entry *e, const char *entry, const params *p) {
  for (uint32_t i = 0; i < e->noutputs; i++) {
    const tn_prog_arg *a = &w->v.args[e->first_output + i];
    for (uint32_t k = 0; k < a->rank; k++) {
      const tn_prog_expr *x = &w->v.exprs[w->v.scalars[a->shape + k]];
      if (x->kind != TN_DIM_CONST) continue;
      tn_buf_puts(w->out, "#define ");
      put_capitals(w->out, w->name);
      tn_buf_puts(w->out, "_");
      put_capitals(w->out, entry);
      tn_buf_puts(w->out, "_");
      put_capitals(w->out, p->names[p->ndims + e->ninputs + i]);
      tn_buf_printf(w->out, "_DIM%u %lld\n", k, (long long)x->value);
    }
  }
}

static tn_status put_tensors(writer *w, const params *p, uint32_t first_param, const char *array,
                             uint32_t first, uint32_t n) {
  bool outputs = !strcmp(array, "out");
  for (uint32_t i = 0; i < n; i++) {
    const tn_prog_arg *a = &w->v.args[first + i];
    bool late = outputs && p->late[i];
    tn_buf_printf(w->out, "  %s_tensor_set(&%s[%u], %s, %u, %u);\n", w->name, array, i,
                  late ? "NULL" : p->names[first_param + i], a->dtype, a->rank);
    if (late) continue;
    for (uint32_t k = 0; k < a->rank; k++) {
      tn_buf_printf(w->out, "  %s[%u].shape[%u] = ", array, i, k);
      TN_TRY(put_expr(w, p, w->v.scalars[a->shape + k], 0));
      tn_buf_puts(w->out, ";\n");
    }
  }
  return TN_OK;
}

static tn_status put_entry(writer *w, uint32_t index, const char *name) {
  const tn_prog_entry *e = &w->v.entries[index];
  params p = {0};
  TN_TRY(add_dims(w, &p, e));
  for (uint32_t i = 0; i < e->ninputs; i++)
    TN_TRY(add_param(w, &p, tn_view_str(&w->v, w->v.args[e->first_input + i].name)));
  for (uint32_t i = 0; i < e->noutputs; i++)
    TN_TRY(add_param(w, &p, tn_view_str(&w->v, w->v.args[e->first_output + i].name)));
  put_entry_comment(w, e, &p);
  put_sizes(w, e, name, &p);
  tn_buf_printf(w->out, "static inline %s_status %s_%s(%s_session *s", w->name, w->name, name, w->name);
  for (uint32_t i = 0; i < p.ndims; i++) tn_buf_printf(w->out, ", int64_t %s", p.names[i]);
  for (uint32_t i = 0; i < e->ninputs; i++)
    tn_buf_printf(w->out, ", const %s *%s", c_type(w->v.args[e->first_input + i].dtype),
                  p.names[p.ndims + i]);
  for (uint32_t i = 0; i < e->noutputs; i++)
    if (p.late[i])
      tn_buf_printf(w->out, ", %s_tensor *%s", w->name, p.names[p.ndims + e->ninputs + i]);
    else
      tn_buf_printf(w->out, ", %s *%s", c_type(w->v.args[e->first_output + i].dtype),
                    p.names[p.ndims + e->ninputs + i]);
  tn_buf_printf(w->out, ") {\n  %s_tensor in[%u], out[%u];\n", w->name, e->ninputs ? e->ninputs : 1,
                e->noutputs ? e->noutputs : 1);
  TN_TRY(put_tensors(w, &p, p.ndims, "in", e->first_input, e->ninputs));
  TN_TRY(put_tensors(w, &p, p.ndims + e->ninputs, "out", e->first_output, e->noutputs));
  if (!any_late(e, &p)) {
    tn_buf_printf(w->out, "  return %s_invoke(s, %u, in, out);\n}\n", w->name, index);
    return TN_OK;
  }
  tn_buf_printf(w->out, "  %s_status status = %s_invoke(s, %u, in, out);\n", w->name, w->name, index);
  for (uint32_t i = 0; i < e->noutputs; i++)
    if (p.late[i])
      tn_buf_printf(w->out, "  if (!status) status = %s_result(s, %u, %s);\n", w->name, i,
                    p.names[p.ndims + e->ninputs + i]);
  tn_buf_puts(w->out, "  return status;\n}\n");
  return TN_OK;
}

/* ---- the file ------------------------------------------------------------------------------------------ */

static void put_title(const writer *w) {
  const tn_view *v = &w->v;
  const char *architecture = tn_view_meta(v, "architecture");
  put_text(w, "/* @.h - the compiled model '");
  put_comment(w, tn_view_str(v, v->head->name));
  tn_buf_puts(w->out, "'");
  if (architecture) tn_buf_puts(w->out, ", "), put_comment(w, architecture);
  put_text(w, ". Link with lib@.so; nothing else is needed.\n * Arrays are row-major. Nothing prints, exits "
              "or aborts.\n");
  for (uint32_t i = 0; i < v->nconstraints; i++) {
    tn_buf text = {0};
    tn_view_expr_text(v, v->constraints[i].a, &text);
    tn_buf_puts(&text, " <= ");
    tn_view_expr_text(v, v->constraints[i].b, &text);
    tn_buf_puts(w->out, i ? ", " : " * Sizes: ");
    put_comment(w, tn_buf_cstr(&text));
    tn_buf_fini(&text);
  }
  for (uint32_t i = 0, n = 0; i < v->ndims; i++) {
    const char *is = v->dims[i].source == TN_PROG_DIM_POSITION   ? "tokens in the states"
                     : v->dims[i].source == TN_PROG_DIM_CAPACITY ? "their capacity"
                                                                 : NULL;
    if (!is || !v->nstates) continue;
    tn_buf_puts(w->out, n++ ? ", " : v->nconstraints ? "; " : " * ");
    put_comment(w, tn_view_str(v, v->dims[i].name));
    tn_buf_printf(w->out, ": %s", is);
  }
  tn_buf_puts(w->out, v->nconstraints || v->nstates ? ". */\n" : " */\n");
}

static bool dynamic(const tn_view *v) {
  for (uint32_t i = 0; i < v->head->npublic; i++)
    if (tn_view_is_dynamic(v, &v->entries[i])) return true;
  return false;
}

static bool generates(const tn_view *v) {
  for (uint32_t i = 0; i < v->head->npublic; i++) {
    const tn_prog_entry *e = &v->entries[i];
    const char *name = tn_view_str(v, e->name);
    uint32_t rank = e->noutputs == 1 ? v->args[e->first_output].rank : 0;
    if ((!strcmp(name, "next") && rank == 2) || (!strcmp(name, "logits") && rank == 3)) return true;
  }
  return false;
}

/* $_MAX_S: the largest size that a dim of an input may have, where there is a limit. $_MAX_LENGTH: the tokens
 * of one text that the model was trained for, where that is less. */
static tn_status put_maxima(writer *w) {
  const char *names[MAX_PARAMS], *length = tn_view_meta(&w->v, "max_seq_length");
  uint32_t n = 0;
  if (length && *length && strspn(length, "0123456789") == strlen(length)) {
    put_text(
        w, "\n/* Longer texts are cut to this many tokens, the last of them kept. */\n#define $_MAX_LENGTH ");
    tn_buf_printf(w->out, "%s\n", length);
  }
  for (uint32_t i = 0; i < w->v.ndims && n < MAX_PARAMS; i++) {
    int64_t limit = tn_view_limit(&w->v, i);
    if (w->v.dims[i].source == TN_PROG_DIM_POSITION || limit == INT64_MAX) continue;
    names[n] = identifier(w, tn_view_str(&w->v, w->v.dims[i].name), NULL, 0, names, n);
    if (!names[n]) return TN_OOM;
    put_text(w, n ? "#define $_MAX_" : "\n#define $_MAX_");
    put_capitals(w->out, names[n++]);
    tn_buf_printf(w->out, " %lld\n", (long long)limit);
  }
  return TN_OK;
}

static tn_status put_entries(writer *w) {
  uint32_t n = w->v.head->npublic;
  const char **names = tn_arena_alloc(&w->arena, (n + 1) * sizeof *names);
  w->stateful = tn_arena_alloc(&w->arena, w->v.nentries * sizeof *w->stateful);
  if (!names || !w->stateful) return TN_OOM;
  tn_view_find_stateful(&w->v, w->stateful);
  for (uint32_t i = 0; i < n; i++) {
    names[i] = identifier(w, tn_view_str(&w->v, w->v.entries[i].name), generic, TN_COUNT(generic), names, i);
    if (!names[i]) return TN_OOM;
    TN_TRY(put_entry(w, i, names[i]));
  }
  return TN_OK;
}

tn_status tn_header_write(tn_bytes program, const char *name, tn_buf *out, tn_diags *diags) {
  writer w = {.name = name, .out = out, .diags = diags};
  char why[300] = "";
  tn_status status = tn_view_open(program, &w.v, why, sizeof why);
  if (status) return tn_fail(diags, status, NULL, NULL, "%s", why);
  tn_arena_init(&w.arena);
  put_title(&w);
  put_text(&w, begin_text);
  if (w.v.nstates) put_text(&w, state_text);
  if (tn_view_meta(&w.v, "adapter_weights")) put_text(&w, adapter_text);
  if (w.v.head->tokenizer.count) put_text(&w, tokenizer_text);
  if (generates(&w.v)) put_text(&w, generate_text);
  put_text(&w, tensor_text);
  if (dynamic(&w.v)) put_text(&w, result_text);
  status = put_maxima(&w);
  if (!status) status = put_entries(&w);
  put_text(&w, end_text);
  if (!status && out->failed) status = TN_OOM;
  if (status == TN_OOM) tn_fail(diags, status, NULL, NULL, "no memory to write the header");
  tn_arena_fini(&w.arena);
  return status;
}
