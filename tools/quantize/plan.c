/* plan.c - a type for each tensor: the scheme's, or what the options say instead. Nothing is replaced
 * unasked: rows that do not fit the blocks, types that the format lacks and blocks that would be encoded
 * twice are errors, one for each kind with the number of tensors it concerns. */
#include "ir/quant/encode.h"
#include "tools/quantize/quantize.h"
#include <ctype.h>

static const char *name_of(tn_dtype t) { return tn_ir_dtype_info(t)->name; }

tn_dtype tn_quantize_type(tn_diags *d, const char *what, const char *name) {
  char low[32];
  size_t n = strlen(name);
  for (size_t i = 0; i <= n && i < sizeof low; i++) low[i] = (char)tolower((unsigned char)name[i]);
  tn_dtype t = n < sizeof low ? tn_ir_dtype_by_name(low) : 0;
  if (t && tn_encode_can(t)) return t;
  tn_fail(d, TN_INVALID, NULL, NULL, t ? "%s: there is no encoder for '%s'" : "%s: '%s' is not a type", what,
          name);
  return 0;
}

/* Of plain numbers; the checkpoint's reader has checked that sizes fit. */
static uint64_t plain_bytes(tn_dtype t, uint64_t values) {
  return (values * tn_ir_dtype_info(t)->bits + 7) / 8;
}

uint64_t tn_quantize_bytes(const tn_quantize *q, const tn_qtensor *t, tn_dtype type) {
  tn_ck_part_out parts[TN_CK_PACK_PARTS];
  uint64_t bytes = 0;
  if (type == t->t->dtype) return t->t->bytes;
  if (tn_ir_dtype_info(type)->cls != TN_CLASS_BLOCK) return plain_bytes(type, t->rows * t->columns);
  if (!q->pack) return t->rows * tn_encode_row_bytes(type, t->columns);
  for (uint32_t n = q->pack->parts(type, t->rows, t->columns, parts), i = 0; i < n; i++) {
    uint64_t values = 1;
    for (uint32_t k = 0; k < parts[i].rank; k++) values *= (uint64_t)parts[i].shape[k];
    bytes += plain_bytes(parts[i].dtype, values);
  }
  return bytes;
}

bool tn_quantize_encodes(const tn_qtensor *t) { return t->to != t->t->dtype; }

/* ---- what stands in the way ---------------------------------------------------------------------------- */

typedef enum trouble_kind {
  FITS,
  WRONG_COLUMNS,
  TWICE,
  NO_IMPORTANCE,
  NOT_IN_GGUF,
  NOT_IN_FOLDER
} trouble_kind;
typedef struct trouble {
  trouble_kind kind;
  const tn_qtensor *first;
  tn_dtype type, usual;
  uint32_t count;
} trouble;

typedef struct plan {
  tn_quantize *q;
  tn_scheme_model model;
  tn_qoverrides *overrides;
  tn_dtype output, embedding, fallback; /* given; 0: not */
  bool usual;                           /* --fallback auto */
  TN_VEC(trouble) troubles;
} plan;

static tn_status note(plan *p, trouble_kind kind, const tn_qtensor *t, tn_dtype usual) {
  for (uint32_t i = 0; i < p->troubles.count; i++) {
    trouble *x = &p->troubles.items[i];
    if (x->kind == kind && x->type == t->to && x->first->columns == t->columns && x->usual == usual)
      return x->count++, TN_OK;
  }
  return tn_vec_push(&p->troubles, ((trouble){kind, t, t->to, usual, 1})) ? TN_OK : TN_OOM;
}

static void say_columns(tn_buf *b, const trouble *x) {
  tn_buf_printf(b, "rows of %llu values are no whole blocks of %s, which have %u",
                (unsigned long long)x->first->columns, name_of(x->type),
                tn_ir_dtype_info(x->type)->block_values);
  if (x->usual)
    tn_buf_printf(b, "; --fallback auto makes such tensors %s, --fallback TYPE another type",
                  name_of(x->usual));
  else
    tn_buf_puts(b, "; --fallback auto leaves such tensors as they are");
}

static void say(const plan *p, const trouble *x) {
  tn_buf b = {0}, where = {0};
  const char *type = name_of(x->type);
  if (x->count > 1)
    tn_buf_printf(&where, "tensor '%s' and %u more", x->first->t->name, x->count - 1);
  else
    tn_buf_printf(&where, "tensor '%s'", x->first->t->name);
  switch (x->kind) {
  case WRONG_COLUMNS: say_columns(&b, x); break;
  case TWICE:
    tn_buf_printf(&b, "is in blocks of %s already, and would become %s; --allow-requantize does it",
                  name_of(x->first->t->dtype), type);
    break;
  case NO_IMPORTANCE: tn_buf_printf(&b, "%s needs an importance matrix: --imatrix", type); break;
  case NOT_IN_GGUF: tn_buf_printf(&b, "GGUF files have no type %s", type); break;
  default:
    if (p->q->pack)
      tn_buf_printf(&b, "folders of '%s' have no place for %s next to %s", p->q->pack->name, type,
                    name_of(p->q->type));
    else
      tn_buf_printf(&b, "folders have no place for %s: write a GGUF file (OUT.gguf)", type);
  }
  tn_fail(p->q->diags, TN_INVALID, NULL, tn_buf_cstr(&where), "%s", tn_buf_cstr(&b));
  tn_buf_fini(&b), tn_buf_fini(&where);
}

/* ---- the type of one tensor ---------------------------------------------------------------------------- */

static bool fits(tn_dtype t, uint64_t columns) { return columns % tn_ir_dtype_info(t)->block_values == 0; }

static bool is_block(tn_dtype t) { return tn_ir_dtype_info(t)->cls == TN_CLASS_BLOCK; }

static const char *reason(tn_quantize *q, const char *what, const char *of) {
  return tn_arena_printf(&q->arena, "%s%s", what, of);
}

static void set(tn_qtensor *t, tn_dtype type, const char *why, bool chosen) {
  t->to = type;
  t->why = why;
  t->chosen = chosen;
}

/* What options say of this tensor; false: nothing. */
static bool choose_given(plan *p, tn_qtensor *t) {
  tn_quantize *q = p->q;
  const char *pattern;
  bool output = t->cls == TN_SC_OUTPUT || (t->cls == TN_SC_EMBEDDING && p->model.tied);
  if (output && q->args->given[OPT_leave_output])
    return set(t, t->t->dtype, "--leave-output-tensor", true), true;
  if (t->cls == TN_SC_EMBEDDING && p->embedding)
    return set(t, p->embedding, "--token-embedding-type", true), true;
  if (output && p->output) return set(t, p->output, "--output-tensor-type", true), true;
  tn_dtype type = tn_qoverrides_find(p->overrides, t->t->name, &pattern);
  if (type) set(t, type, reason(q, "--tensor-type ", pattern), true);
  return type != 0;
}

/* Programs that read GGUF expect what is no operand of a product, and routers, in f32. */
static bool expects_f32(const tn_quantize *q, const tn_qtensor *t) {
  bool half = t->t->dtype == TN_DT_f16 || t->t->dtype == TN_DT_bf16;
  bool plain = t->t->rank < 2 || t->t->role == TN_CK_OTHER || t->t->role == TN_CK_ROUTER;
  return half && plain && q->format == TN_CK_GGUF && tn_checkpoint_format(q->source) == TN_CK_FOLDER;
}

static void choose(plan *p, tn_qtensor *t) {
  tn_quantize *q = p->q;
  if (t->cls == TN_SC_KEEP && expects_f32(q, t)) set(t, TN_DT_f32, NULL, false);
  tn_scheme_tensor x = {t->cls, t->ordinal, t->t->layer, t->t->rank > 2};
  if (t->cls == TN_SC_KEEP || !q->type || choose_given(p, t) || tn_quantize_searches(q->args)) return;
  tn_dtype type = tn_scheme_type(q->scheme, &p->model, &x);
  if (q->pack && (t->t->layer < 0 || t->cls == TN_SC_EMBEDDING || t->cls == TN_SC_OUTPUT))
    return set(t, t->t->dtype, "not in a layer: stays in packed folders", false);
  if (q->pack || type == q->scheme->type || (type && q->args->given[OPT_pure])) type = q->type;
  set(t, type ? type : t->t->dtype, !type || type == q->type ? NULL : reason(q, q->scheme->name, "'s mix"),
      false);
}

/* Another type where the rows do not fit, if that was asked for. */
static tn_status fit(plan *p, tn_qtensor *t) {
  tn_quantize *q = p->q;
  bool output = t->cls == TN_SC_OUTPUT || (t->cls == TN_SC_EMBEDDING && p->model.tied);
  if (fits(t->to, t->columns)) return TN_OK;
  tn_dtype usual = q->pack ? 0 : tn_scheme_fallback(output, t->to, t->columns);
  tn_dtype instead = p->usual ? usual : p->fallback;
  if (instead ? !fits(instead, t->columns) : !p->usual) return note(p, WRONG_COLUMNS, t, usual);
  set(t, instead ? instead : t->t->dtype, reason(q, "fallback from ", name_of(t->to)), t->chosen);
  return TN_OK;
}

static bool has_place(const tn_quantize *q, const tn_qtensor *t) {
  tn_ck_part_out parts[TN_CK_PACK_PARTS];
  if (!is_block(t->to) || !tn_quantize_encodes(t)) return true;
  return q->pack && t->to == q->type && t->t->rank == 2 &&
         q->pack->parts(t->to, t->rows, t->columns, parts) > 0;
}

static tn_status check(plan *p, tn_qtensor *t) {
  const tn_quantize *q = p->q;
  if (!tn_quantize_encodes(t)) return TN_OK;
  if (is_block(t->t->dtype) && is_block(t->to) && !q->args->given[OPT_allow_requantize])
    TN_TRY(note(p, TWICE, t, 0));
  if (!t->importance && tn_scheme_needs_importance(q->scheme, t->cls, t->to))
    TN_TRY(note(p, NO_IMPORTANCE, t, 0));
  if (q->format == TN_CK_GGUF && tn_gguf_type_of(t->to) < 0) return note(p, NOT_IN_GGUF, t, 0);
  return q->format == TN_CK_GGUF || has_place(q, t) ? TN_OK : note(p, NOT_IN_FOLDER, t, 0);
}

static tn_status plan_tensors(plan *p) {
  tn_quantize *q = p->q;
  for (uint32_t i = 0; i < q->count; i++) {
    tn_qtensor *t = &q->tensors[i];
    choose(p, t);
    TN_TRY(fit(p, t));
    if (!fits(t->to, t->columns)) continue; /* was noted */
    TN_TRY(check(p, t));
    t->bytes = tn_quantize_bytes(q, t, t->to);
    q->types[i] = t->to;
  }
  for (uint32_t i = 0; i < p->troubles.count; i++) say(p, &p->troubles.items[i]);
  return p->troubles.count ? TN_INVALID : TN_OK;
}

/* ---- options ------------------------------------------------------------------------------------------- */

static tn_status type_option(tn_quantize *q, uint32_t option, const char *name, tn_dtype *out) {
  if (!q->args->last[option]) return TN_OK;
  *out = tn_quantize_type(q->diags, name, q->args->last[option]);
  return *out ? TN_OK : TN_INVALID;
}

static tn_status read_options(plan *p) {
  tn_quantize *q = p->q;
  const char *fallback = q->args->last[OPT_fallback];
  TN_TRY(type_option(q, OPT_output_type, "--output-tensor-type", &p->output));
  TN_TRY(type_option(q, OPT_embedding_type, "--token-embedding-type", &p->embedding));
  p->usual = fallback && !strcmp(fallback, "auto");
  if (!p->usual) TN_TRY(type_option(q, OPT_fallback, "--fallback", &p->fallback));
  return tn_qoverrides_read(q->args, q->diags, &p->overrides);
}

tn_status tn_quantize_plan(tn_quantize *q) {
  plan p = {.q = q};
  tn_status s = tn_quantize_classify(q, &p.model);
  if (!s) s = tn_quantize_importance(q);
  if (!s) s = read_options(&p);
  if (!s) s = plan_tensors(&p);
  tn_qoverrides_free(p.overrides);
  tn_vec_fini(&p.troubles);
  return s;
}
