/* text_data.c - the elements of constants as text. A list is printed only if reading it gives the same bytes.
 */
#include "ir/module.h"
#include <errno.h>
#include <stdlib.h>

static uint64_t load(const uint8_t *p, uint32_t bytes) {
  uint64_t v = 0;
  for (uint32_t i = 0; i < bytes; i++) v |= (uint64_t)p[i] << (8 * i);
  return v;
}

static void store(uint8_t *p, uint32_t bytes, uint64_t v) {
  for (uint32_t i = 0; i < bytes; i++) p[i] = (uint8_t)(v >> (8 * i));
}

static double load_float(tn_dtype t, uint64_t bits) {
  uint32_t u = (uint32_t)bits;
  float f;
  double d;
  switch (t) {
  case TN_DT_f64: memcpy(&d, &bits, sizeof d); return d;
  case TN_DT_f16: return (double)tn_f16_to_f32((uint16_t)bits);
  case TN_DT_bf16: return (double)tn_bf16_to_f32((uint16_t)bits);
  case TN_DT_f8e4m3: return (double)tn_f8e4m3_to_f32((uint8_t)bits);
  case TN_DT_f8e5m2: return (double)tn_f8e5m2_to_f32((uint8_t)bits);
  case TN_DT_f8e4m3fnuz: return (double)tn_f8_to_f32(TN_F8E4M3FNUZ, (uint8_t)bits);
  case TN_DT_f8e5m2fnuz: return (double)tn_f8_to_f32(TN_F8E5M2FNUZ, (uint8_t)bits);
  case TN_DT_f8e8m0: return (double)tn_f8e8m0_to_f32((uint8_t)bits);
  }
  memcpy(&f, &u, sizeof f);
  return (double)f;
}

static uint64_t store_narrow(tn_dtype t, float f) {
  uint32_t u;
  switch (t) {
  case TN_DT_f16: return tn_f32_to_f16(f);
  case TN_DT_bf16: return tn_f32_to_bf16(f);
  case TN_DT_f8e4m3: return tn_f32_to_f8e4m3(f);
  case TN_DT_f8e5m2: return tn_f32_to_f8e5m2(f);
  case TN_DT_f8e4m3fnuz: return tn_f32_to_f8(TN_F8E4M3FNUZ, f, false);
  case TN_DT_f8e5m2fnuz: return tn_f32_to_f8(TN_F8E5M2FNUZ, f, false);
  case TN_DT_f8e8m0: return tn_f32_to_f8e8m0(f, 0, false);
  }
  memcpy(&u, &f, sizeof u);
  return u;
}

static bool int_element(const char *text, const tn_dtype_info *e, uint64_t *bits) {
  char *end;
  errno = 0;
  if (e->cls == TN_CLASS_INT) {
    int64_t v = strtoll(text, &end, 10), low = e->bits == 64 ? INT64_MIN : -((int64_t)1 << (e->bits - 1));
    *bits = (uint64_t)v;
    return !*end && !errno && v >= low && v <= -(low + 1);
  }
  *bits = strtoull(text, &end, 10);
  return text[0] != '-' && !*end && !errno && (e->bits == 64 || *bits >> e->bits == 0);
}

bool tn_text_element(const char *text, tn_dtype t, uint8_t *out) {
  const tn_dtype_info *e = tn_ir_dtype_info(t);
  uint64_t bits = 0;
  char *end = NULL;
  if (!e || e->bits < 8 || e->cls == TN_CLASS_BLOCK || !*text) return false;
  if (e->cls == TN_CLASS_BOOL) {
    bits = !strcmp(text, "true");
    if (!bits && strcmp(text, "false")) return false;
  } else if (t == TN_DT_f64) {
    double d = strtod(text, &end);
    memcpy(&bits, &d, sizeof bits);
  } else if (e->cls == TN_CLASS_FLOAT) {
    bits = store_narrow(t, strtof(text, &end));
  } else if (!int_element(text, e, &bits))
    return false;
  if (end && *end) return false;
  store(out, e->bits / 8, bits);
  return true;
}

/* The value itself where a few digits tell it (65504), else the fewest digits that read back as the same bits
 * of this type: 0.1 for the f16 next to it. */
static void print_float(tn_buf *out, tn_dtype t, uint32_t size, const uint8_t *p) {
  double d = load_float(t, load(p, size));
  char s[40];
  uint8_t back[8];
  bool exact = false;
  for (int digits = 1; !exact && digits <= 6; digits++) {
    tn_text_float(s, sizeof s, d, digits);
    exact = strtod(s, NULL) == d;
  }
  for (int digits = 1; !exact && digits <= 17; digits++) {
    tn_text_float(s, sizeof s, d, digits);
    if (tn_text_element(s, t, back) && !memcmp(back, p, size)) break;
  }
  tn_buf_puts(out, s);
}

static void print_element(tn_buf *out, tn_dtype t, const tn_dtype_info *e, const uint8_t *p) {
  uint64_t bits = load(p, e->bits / 8);
  switch (e->cls) {
  case TN_CLASS_FLOAT: print_float(out, t, e->bits / 8, p); break;
  case TN_CLASS_INT: /* sign-extended */
    tn_buf_printf(out, "%lld", (long long)((int64_t)(bits << (64 - e->bits)) >> (64 - e->bits)));
    break;
  case TN_CLASS_UINT: tn_buf_printf(out, "%llu", (unsigned long long)bits); break;
  case TN_CLASS_BOOL: tn_buf_puts(out, bits ? "true" : "false"); break;
  }
}

/* The list in `text`; false: some element would not read back as it is. */
static bool print_list(tn_buf *text, tn_dtype t, bool scalar, tn_bytes data) {
  const tn_dtype_info *e = tn_ir_dtype_info(t);
  if (!e || e->bits < 8 || e->cls == TN_CLASS_BLOCK) return false;
  uint32_t size = e->bits / 8;
  if (data.len % size || data.len / size > TN_DATA_LIST_MAX || (scalar && data.len != size)) return false;
  if (!scalar) tn_buf_puts(text, "[");
  for (uint64_t i = 0; i < data.len; i += size) {
    const uint8_t *p = (const uint8_t *)data.ptr + i;
    uint8_t back[8];
    if (i) tn_buf_puts(text, ", ");
    uint64_t start = text->len;
    print_element(text, t, e, p);
    if (text->failed || !tn_text_element(text->text + start, t, back) || memcmp(back, p, size)) return false;
  }
  if (!scalar) tn_buf_puts(text, "]");
  return true;
}

void tn_text_data(tn_buf *out, tn_dtype t, bool scalar, tn_bytes data) {
  static const char digits[] = "0123456789abcdef";
  tn_buf list = {0};
  if (print_list(&list, t, scalar, data)) {
    tn_buf_put(out, list.text, list.len);
    tn_buf_fini(&list);
    return;
  }
  if (list.failed) out->failed = true;
  tn_buf_fini(&list);
  tn_buf_puts(out, "\"0x");
  for (uint64_t i = 0; i < data.len; i++) {
    uint8_t c = ((const uint8_t *)data.ptr)[i];
    char pair[2] = {digits[c >> 4], digits[c & 15]};
    tn_buf_put(out, pair, 2);
  }
  tn_buf_puts(out, "\"");
}
