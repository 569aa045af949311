/* gguf_main.c - prints what the reader finds in a GGUF file, for reader.py: a line per key, "K name type
 * count values", and per tensor, "T name type offset bytes dims". Texts in hex. */
#include "frontend/gguf/gguf.h"
#include "ir/quant/quant.h"

static void put_hex(tn_str s) {
  for (uint64_t i = 0; i < s.len; i++) printf("%02x", (uint8_t)s.ptr[i]);
}

static void put_value(const tn_gguf_kv *kv, uint64_t i) {
  int64_t v;
  double r;
  bool b;
  tn_str s;
  putchar(' ');
  if (tn_gguf_string(kv, i, &s))
    putchar('x'), put_hex(s);
  else if (tn_gguf_int(kv, i, &v))
    printf("%lld", (long long)v);
  else if (tn_gguf_real(kv, i, &r))
    printf("%.17g", r);
  else if (tn_gguf_bool(kv, &b))
    fputs(b ? "true" : "false", stdout);
  else
    putchar('?');
}

static void put_key(const tn_gguf_kv *kv) {
  fputs("K ", stdout), put_hex(kv->key);
  printf(" %d.%d %llu", kv->type, kv->type == TN_GGUF_ARRAY ? (int)kv->item : -1,
         (unsigned long long)kv->count);
  for (uint64_t i = 0; i < kv->count; i++) put_value(kv, i);
  putchar('\n');
}

static const char *type_name(tn_dtype t) {
  static const char *const plain[] = {
#define TN_X(name, bits, cls) [TN_DT_##name] = #name,
      TN_DTYPES(TN_X)
#undef TN_X
  };
  const tn_quant *q = tn_quant_of(t);
  return q ? q->name : plain[t];
}

static void put_tensor(const tn_gguf_tensor *t) {
  printf("T %s %s %llu %llu", t->name, type_name(t->dtype), (unsigned long long)t->offset,
         (unsigned long long)t->bytes);
  for (uint32_t i = 0; i < t->rank; i++) printf(" %lld", (long long)t->shape[i]);
  putchar('\n');
}

int main(int argc, char **argv) {
  tn_diags diags;
  tn_gguf *g;
  if (argc != 2) return 2;
  tn_diags_init(&diags);
  tn_status s = tn_gguf_open(argv[1], &diags, &g);
  for (uint32_t i = 0; s == TN_OK && i < tn_gguf_kv_count(g); i++) put_key(tn_gguf_kv_at(g, i));
  for (uint32_t i = 0; s == TN_OK && i < tn_gguf_tensor_count(g); i++) put_tensor(tn_gguf_tensor_at(g, i));
  tn_buf text = {0};
  tn_diags_text(&diags, &text, false);
  fputs(tn_buf_cstr(&text), stderr);
  tn_buf_fini(&text);
  tn_gguf_close(g);
  tn_diags_fini(&diags);
  return s != TN_OK;
}
