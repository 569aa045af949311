/* blocks.c - integer codes as ONNX models have them: [rows, k], or turned [k, rows], of 2, 4 or 8 bits, low
 * bits first; scales and zeros [rows, groups], or turned [groups, rows], or one scale for all. Words of the
 * form:
 *
 *   group=G   columns that share a scale (none: the type has no scales)
 *   turned    the matrix lies the other way round
 *   signed    codes and stored zeros are two's complement
 *   zeros     zeros are the last part; `padded`: every row of them begins with a new byte
 *   zero=Z    all zeros, as codes without a sign */
#include "frontend/forms/form.h"

typedef struct source {
  uint64_t group, groups; /* of the file; a group may be several blocks */
  uint64_t zero_line;     /* bytes of one line of zeros */
  bool turned, padded, zeros, one_scale;
  uint8_t flip; /* of codes, to those without a sign */
  uint8_t zero;
} source;

static tn_status check_sizes(tn_form *f, source *s) {
  uint64_t lines = s->turned ? f->k : f->rows, line = s->turned ? f->rows : f->k;
  if (line * f->bits % 8)
    return form_fail(f, TN_INVALID, "lines of %llu codes of %u bits do not end with a byte",
                     (unsigned long long)line, f->bits);
  TN_TRY(form_expect(f, 0, lines, line * f->bits / 8));
  if (f->scale_bytes && !s->one_scale) TN_TRY(form_expect(f, 1, f->rows, s->groups * f->scale_bytes));
  uint64_t zeros = s->turned ? f->rows : s->groups;
  if (s->zeros && !s->padded && zeros * f->bits % 8)
    return form_fail(f, TN_INVALID, "lines of %llu zeros do not end with a byte", (unsigned long long)zeros);
  s->zero_line = (zeros * f->bits + 7) / 8;
  return s->zeros ? form_expect(f, 1 + (f->scale_bytes != 0), s->turned ? s->groups : f->rows, s->zero_line)
                  : TN_OK;
}

tn_status form_check_blocks(tn_form *f) {
  source *s = tn_arena_alloc(&f->arena, sizeof *s);
  double group = form_number(f, "group"), zero = form_number(f, "zero");
  if (!s) return form_fail(f, TN_OOM, "out of memory");
  f->state = s;
  *s = (source){
      .turned = form_has(f, "turned"), .padded = form_has(f, "padded"), .zeros = form_has(f, "zeros")};
  TN_TRY(form_check_type(f, s->zeros));
  if (f->bits != 2 && f->bits != 4 && f->bits != 8)
    return form_fail(f, TN_INVALID, "cannot make codes of %u bits", f->bits);
  s->flip = form_has(f, "signed") ? (uint8_t)(1u << (f->bits - 1)) : 0;
  if (!(zero >= 0 && zero < (1u << f->bits)))
    return form_fail(f, TN_INVALID, "zero is %g, which %u bits do not hold", zero, f->bits);
  s->zero = (uint8_t)zero;
  s->group = f->k;
  if (f->scale_bytes) {
    if (!(group >= 1 && group <= (double)f->k))
      return form_fail(f, TN_INVALID, "groups of %g columns", group);
    s->group = (uint64_t)group;
    if (f->k % s->group || s->group % f->group)
      return form_fail(f, TN_INVALID, "%llu columns in groups of %llu are not blocks of %llu",
                       (unsigned long long)f->k, (unsigned long long)s->group, (unsigned long long)f->group);
  }
  s->groups = f->k / s->group;
  TN_TRY(form_parts(f, 1 + (f->scale_bytes != 0) + s->zeros));
  s->one_scale = f->scale_bytes && f->s.parts[1].bytes == f->scale_bytes;
  return check_sizes(f, s);
}

static uint8_t code_at(const uint8_t *line, uint64_t i, uint32_t bits) {
  return (uint8_t)(line[i * bits / 8] >> i * bits % 8 & ((1u << bits) - 1));
}

static tn_status read_codes(tn_form *f, const source *s, uint64_t item, uint64_t first, uint64_t rows,
                            form_codes *b) {
  const uint8_t *raw = b->raw;
  uint64_t lines = s->turned ? f->k : rows, line = s->turned ? rows : f->k, bytes = line * f->bits / 8;
  uint64_t whole = (s->turned ? f->rows : f->k) * f->bits / 8;
  uint8_t flip = f->q->level == TN_QL_SIGNED ? s->flip ^ 0x80 : s->flip;
  TN_TRY(form_strip(f, item, 0, whole, s->turned ? 0 : first, lines, s->turned ? first * f->bits / 8 : 0,
                    bytes, b->raw));
  enum { TILE = 64 }; /* lines at a time: what is turned stays in the cache */
  for (uint64_t t = 0; t < lines; t += TILE)
    for (uint64_t i = 0; i < line; i++)
      for (uint64_t l = t; l < t + TILE && l < lines; l++)
        b->codes[s->turned ? i * f->k + l : l * f->k + i] = code_at(raw + l * bytes, i, f->bits) ^ flip;
  return TN_OK;
}

/* Groups of the file to groups of blocks. */
static tn_status read_scales(tn_form *f, const source *s, uint64_t item, uint64_t first, uint64_t rows,
                             form_codes *b) {
  const uint8_t *raw = b->raw;
  uint64_t n = f->scale_bytes, times = f->groups / s->groups;
  if (!n) return TN_OK;
  if (s->one_scale)
    TN_TRY(form_strip(f, item, 1, n, 0, 1, 0, n, b->raw));
  else if (s->turned)
    TN_TRY(form_strip(f, item, 1, f->rows * n, 0, s->groups, first * n, rows * n, b->raw));
  else
    TN_TRY(form_strip(f, item, 1, s->groups * n, first, rows, 0, s->groups * n, b->raw));
  for (uint64_t r = 0; r < rows; r++)
    for (uint64_t g = 0; g < f->groups; g++) {
      uint64_t from = s->one_scale ? 0 : s->turned ? g / times * rows + r : r * s->groups + g / times;
      memcpy(b->scales + (r * f->groups + g) * n, raw + from * n, n);
    }
  return TN_OK;
}

static tn_status read_zeros(tn_form *f, const source *s, uint64_t item, uint64_t first, uint64_t rows,
                            form_codes *b) {
  const uint8_t *raw = b->raw;
  uint32_t part = 1 + (f->scale_bytes != 0);
  uint64_t times = f->groups / s->groups, line = s->turned ? (rows * f->bits + 7) / 8 : s->zero_line;
  if (!s->zeros) {
    memset(b->zeros, s->zero, rows * f->groups);
    return TN_OK;
  }
  if (s->turned)
    TN_TRY(form_strip(f, item, part, s->zero_line, 0, s->groups, first * f->bits / 8, line, b->raw));
  else
    TN_TRY(form_strip(f, item, part, line, first, rows, 0, line, b->raw));
  for (uint64_t r = 0; r < rows; r++)
    for (uint64_t g = 0; g < f->groups; g++) {
      uint64_t l = s->turned ? g / times : r, i = s->turned ? r : g / times;
      b->zeros[r * f->groups + g] = code_at(raw + l * line, i, f->bits) ^ s->flip;
    }
  return TN_OK;
}

tn_status form_blocks(tn_form *f, uint64_t item, uint64_t first, uint64_t rows, uint8_t *dst) {
  const source *s = f->state;
  form_codes b;
  uint64_t codes = f->k * rows, scales = rows * f->groups * 4; /* the most that any part has of them */
  tn_status status = form_codes_init(f, &b, rows, codes > scales ? codes : scales);
  if (status == TN_OK) status = read_codes(f, s, item, first, rows, &b);
  if (status == TN_OK) status = read_scales(f, s, item, first, rows, &b);
  if (status == TN_OK) status = read_zeros(f, s, item, first, rows, &b);
  if (status == TN_OK) form_codes_put(f, &b, rows, dst);
  form_codes_fini(&b);
  return status;
}
