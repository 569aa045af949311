/* scheme.c - looks a scheme up, and walks the rows of schemes.def for one tensor: the first that fits
 * decides. */
#include "passes/quantize/scheme.h"
#include <strings.h>

enum { /* the types' names in schemes.def */
       T_0 = TN_DT_NONE,
#define TN_X(name, bits, cls) T_##name = TN_DT_##name,
       TN_DTYPES(TN_X)
#undef TN_X
           T_before = TN_DT_BLOCK - 1,
#define TN_QUANT(name, ...) T_##name,
#include "ir/quant/quant.def"
#undef TN_QUANT
};

enum { /* conditions */
       SHARED = 1,
       SHARED_OR_EXPERTS = 2,
       E8 = 4,
       BLIND = 8,
       SEEING = 16,
       FIRST2 = 32,
       FIRST4 = 64,
       EIGHTH = 128,
       NTH_EIGHTH = 256,
       SIXTEENTH = 512,
       MORE = 1024,
       MIDDLE = 2048,
       FALCON = 4096,
       PLAIN = 8192
};
enum { /* sets of classes */
       QUERY = 1 << TN_SC_QUERY,
       KEY = 1 << TN_SC_KEY,
       VALUE = 1 << TN_SC_VALUE,
       ATTN_OUT = 1 << TN_SC_ATTN_OUT,
       GATE = 1 << TN_SC_GATE,
       UP = 1 << TN_SC_UP,
       DOWN = 1 << TN_SC_DOWN,
       ALL = -1
};

static const tn_scheme schemes[] = {
#define TN_SCHEME(name, type, output, embedding, file_type, flags, doc)                                      \
  {name, T_##type, T_##output, T_##embedding, file_type, flags, doc},
#define TN_ALIAS(name, of)
#define TN_MIX(schemes, classes, conditions, type)
#include "passes/quantize/schemes.def"
#undef TN_SCHEME
#undef TN_ALIAS
#undef TN_MIX
};

static const struct {
  const char *name, *of;
} aliases[] = {
#define TN_SCHEME(name, type, output, embedding, file_type, flags, doc)
#define TN_ALIAS(name, of) {name, of},
#define TN_MIX(schemes, classes, conditions, type)
#include "passes/quantize/schemes.def"
#undef TN_SCHEME
#undef TN_ALIAS
#undef TN_MIX
};

typedef struct mix {
  const char *schemes;
  int32_t classes;
  uint32_t conditions;
  tn_dtype type;
} mix;
static const mix mixes[] = {
#define TN_SCHEME(name, type, output, embedding, file_type, flags, doc)
#define TN_ALIAS(name, of)
#define TN_MIX(schemes, classes, conditions, type) {schemes, classes, conditions, T_##type},
#include "passes/quantize/schemes.def"
#undef TN_SCHEME
#undef TN_ALIAS
#undef TN_MIX
};

uint32_t tn_scheme_count(void) { return TN_COUNT(schemes); }
const tn_scheme *tn_scheme_at(uint32_t i) { return i < TN_COUNT(schemes) ? &schemes[i] : NULL; }

const tn_scheme *tn_scheme_find(const char *name) {
  for (size_t i = 0; i < TN_COUNT(aliases); i++)
    if (!strcasecmp(name, aliases[i].name)) name = aliases[i].of;
  for (size_t i = 0; i < TN_COUNT(schemes); i++)
    if (!strcasecmp(name, schemes[i].name)) return &schemes[i];
  return NULL;
}

const char *tn_scheme_class_name(tn_scheme_class c) {
  static const char *const names[TN_SC_COUNT] = {"kept",  "embedding",        "output", "query", "key",
                                                 "value", "attention output", "gate",   "up",    "down",
                                                 "matrix"};
  return c < TN_SC_COUNT ? names[c] : "?";
}

tn_dtype tn_scheme_group_type(const tn_scheme *s, uint32_t group, bool asymmetric) {
  const char *of = tn_ir_dtype_info(s->type)->name; /* "s4_128": the digit is its bits */
  char name[32];
  if (group)
    snprintf(name, sizeof name, "%c%c_%u", asymmetric ? 'u' : 's', of[1], group);
  else
    snprintf(name, sizeof name, "%c%c_row", asymmetric ? 'u' : 's', of[1]);
  return tn_ir_dtype_by_name(name);
}

/* ---- rules --------------------------------------------------------------------------------------------- */

/* Layers that get more bits: those at both ends, and every third between. */
static bool gets_more(uint32_t i, uint32_t n) { return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2; }

/* The conditions that hold for a tensor. */
static uint32_t conditions_of(const tn_scheme_model *m, const tn_scheme_tensor *t) {
  bool value = t->cls == TN_SC_VALUE;
  uint32_t n = value ? m->values : m->layers;
  uint32_t i = value || m->experts <= 1 || t->layer < 0 ? t->ordinal : (uint32_t)t->layer;
  uint32_t c = (m->heads_per_kv >= 4 ? SHARED | SHARED_OR_EXPERTS : 0) |
               (m->experts >= 4 ? SHARED_OR_EXPERTS : 0) | (m->experts == 8 ? E8 : 0) |
               (m->importance ? SEEING : BLIND) | (m->falcon ? FALCON : 0) | (t->stacked ? 0 : PLAIN);
  c |= (i < 2 ? FIRST2 : 0) | (i < 4 ? FIRST4 : 0) | (i < n / 8 ? EIGHTH : 0) |
       (t->ordinal < n / 8 ? NTH_EIGHTH : 0) | (i < n / 16 ? SIXTEENTH : 0) | (gets_more(i, n) ? MORE : 0) |
       (i >= n / 8 && i < 7 * n / 8 ? MIDDLE : 0);
  return c;
}

static bool has_word(const char *words, const char *word) {
  size_t n = strlen(word);
  for (const char *p = words; *p; p += strspn(p, " ")) {
    size_t len = strcspn(p, " ");
    if (len == n && !memcmp(p, word, n)) return true;
    p += len;
  }
  return false;
}

static tn_dtype mixed(const tn_scheme *s, const tn_scheme_model *m, const tn_scheme_tensor *t) {
  uint32_t c = conditions_of(m, t);
  for (size_t i = 0; i < TN_COUNT(mixes); i++) {
    const mix *x = &mixes[i];
    if (!(x->classes >> t->cls & 1) || (x->conditions & ~c)) continue;
    if (strcmp(x->schemes, "*") && !has_word(x->schemes, s->name)) continue;
    return x->type ? x->type : s->type;
  }
  return s->type;
}

tn_dtype tn_scheme_type(const tn_scheme *s, const tn_scheme_model *m, const tn_scheme_tensor *t) {
  if (t->cls == TN_SC_KEEP || (s->flags & (TN_SCHEME_COPY | TN_SCHEME_ONNX))) return 0;
  bool output = t->cls == TN_SC_OUTPUT || (t->cls == TN_SC_EMBEDDING && m->tied);
  if (s->flags & TN_SCHEME_FOLDER) return output || t->cls == TN_SC_EMBEDDING ? 0 : s->type;
  if (s->type < TN_DT_BLOCK) return s->type;
  if (output && m->falcon) return T_q8_0;
  if (output) return s->output ? s->output : s->type;
  if (t->cls == TN_SC_EMBEDDING) return s->embedding ? s->embedding : s->type;
  tn_dtype type = mixed(s, m, t);
  if (m->wide && t->cls == TN_SC_VALUE && !(s->flags & TN_SCHEME_LOW) && (type == T_q3_k || type == T_q4_k))
    return T_q5_k;
  return type;
}

bool tn_scheme_needs_importance(const tn_scheme *s, tn_scheme_class cls, tn_dtype type) {
  if (cls == TN_SC_EMBEDDING || cls == TN_SC_OUTPUT) return false;
  switch (type) {
  case T_iq3_xxs:
  case T_iq2_xxs:
  case T_iq2_xs:
  case T_iq2_s:
  case T_iq1_m:
  case T_iq1_s: return true;
  case T_q2_k: return !strcmp(s->name, "Q2_K_S");
  default: return false;
  }
}

/* ---- rows that do not fit ------------------------------------------------------------------------------ */

static bool fits(tn_dtype t, uint64_t columns) {
  const tn_dtype_info *i = tn_ir_dtype_info(t);
  return i && columns % i->block_values == 0;
}

tn_dtype tn_scheme_fallback(bool output, tn_dtype type, uint64_t columns) {
  static const struct {
    tn_dtype type, instead;
  } usual[] = {{T_iq1_s, T_iq4_nl}, {T_iq1_m, T_iq4_nl},   {T_iq2_xxs, T_iq4_nl}, {T_iq2_xs, T_iq4_nl},
               {T_iq2_s, T_iq4_nl}, {T_iq3_xxs, T_iq4_nl}, {T_iq3_s, T_iq4_nl},   {T_iq4_xs, T_iq4_nl},
               {T_q2_0, T_q4_0},    {T_q2_k, T_q4_0},      {T_q3_k, T_q4_0},      {T_tq1_0, T_q4_0},
               {T_tq2_0, T_q4_0},   {T_q4_k, T_q5_0},      {T_q5_k, T_q5_1},      {T_q6_k, T_q8_0},
               {T_nvfp4, T_mxfp4}};
  if (output && fits(T_q8_0, columns)) return T_q8_0;
  for (size_t i = 0; i < TN_COUNT(usual); i++)
    if (usual[i].type == type && fits(usual[i].instead, columns)) return usual[i].instead;
  return T_f16;
}
