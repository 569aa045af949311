/* diag.c - collects messages and prints them as text or JSON. What cannot be stored (no memory, past the
 * limit) is still counted, so an error is never lost from the verdict. */
#include "ir/base/diag.h"
#include <sched.h>

#define LIMIT 100

void tn_diags_init(tn_diags *d) {
  memset(d, 0, sizeof *d);
  tn_arena_init(&d->arena);
}

void tn_diags_fini(tn_diags *d) {
  tn_vec_fini(&d->list);
  tn_arena_fini(&d->arena);
  memset(d, 0, sizeof *d);
}

static const char *keep(tn_diags *d, const char *s) {
  return s ? tn_arena_str(&d->arena, tn_str_of(s)) : NULL;
}

static void add_alone(tn_diags *d, tn_message msg, const char *fmt, va_list ap) {
  if (msg.severity > TN_ERROR) msg.severity = TN_ERROR;
  if (msg.severity == TN_ERROR) d->errors++;
  if (msg.severity == TN_WARNING) d->warnings++;
  uint32_t limit = d->limit ? d->limit : LIMIT;
  uint32_t seen = msg.severity == TN_ERROR     ? d->errors
                  : msg.severity == TN_WARNING ? d->warnings
                                               : d->list.count;
  if (seen > limit * (msg.severity == TN_NOTE ? 4 : 1)) return;
  tn_buf text = {0};
  tn_buf_vprintf(&text, fmt, ap);
  msg.text = text.failed ? NULL : keep(d, tn_buf_cstr(&text));
  if (!msg.text) msg.text = "out of memory";
  tn_buf_fini(&text);
  msg.file = keep(d, msg.file);
  msg.where = keep(d, msg.where);
  if (!tn_vec_push(&d->list, msg)) d->arena.failed = true;
}

static void add(tn_diags *d, tn_message msg, const char *fmt, va_list ap) {
  if (!d) return;
  while (__atomic_exchange_n(&d->busy, 1, __ATOMIC_ACQUIRE)) sched_yield();
  add_alone(d, msg, fmt, ap);
  __atomic_store_n(&d->busy, 0, __ATOMIC_RELEASE);
}

void tn_diags_add(tn_diags *d, uint32_t severity, const char *file, uint32_t line, uint32_t col,
                  const char *where, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  add(d, (tn_message){severity, line, col, file, where, NULL}, fmt, ap);
  va_end(ap);
}

tn_status tn_fail(tn_diags *d, tn_status status, const char *file, const char *where, const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  add(d, (tn_message){TN_ERROR, 0, 0, file, where, NULL}, fmt, ap);
  va_end(ap);
  return status;
}

tn_status tn_fail_at(tn_diags *d, tn_status status, const char *file, uint32_t line, uint32_t col,
                     const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  add(d, (tn_message){TN_ERROR, line, col, file, NULL, NULL}, fmt, ap);
  va_end(ap);
  return status;
}

static const struct {
  const char *name, *colour;
} severities[] = {[TN_NOTE] = {"note", "\033[1;36m"},
                  [TN_WARNING] = {"warning", "\033[1;35m"},
                  [TN_ERROR] = {"error", "\033[1;31m"}};

/* Names come from files of strangers: control characters must not reach a terminal. */
static void put_plain(tn_buf *out, const char *s, bool newlines) {
  for (; *s; s++) {
    uint8_t c = (uint8_t)*s;
    if ((c < 0x20 && !(newlines && c == '\n')) || c == 0x7f)
      tn_buf_printf(out, "\\x%02x", c);
    else
      tn_buf_put(out, s, 1);
  }
}

static void message_text(const tn_message *t, tn_buf *out, bool colour) {
  if (colour) tn_buf_puts(out, "\033[1m");
  if (t->file) {
    put_plain(out, t->file, false);
    if (t->line) tn_buf_printf(out, ":%u", t->line);
    if (t->line && t->col) tn_buf_printf(out, ":%u", t->col);
    tn_buf_puts(out, ": ");
  }
  if (t->where) {
    put_plain(out, t->where, false);
    tn_buf_puts(out, ": ");
  }
  if (colour) tn_buf_puts(out, severities[t->severity].colour);
  tn_buf_printf(out, "%s:%s ", severities[t->severity].name, colour ? "\033[0m" : "");
  put_plain(out, t->text, true);
  tn_buf_puts(out, "\n");
}

void tn_diags_text(const tn_diags *d, tn_buf *out, bool colour) {
  uint32_t errors = 0;
  for (uint32_t i = 0; i < d->list.count; i++) {
    message_text(&d->list.items[i], out, colour);
    errors += d->list.items[i].severity == TN_ERROR;
  }
  if (d->errors > errors)
    tn_buf_printf(out, "%u more error%s\n", d->errors - errors, d->errors - errors > 1 ? "s" : "");
}

static void json_field(tn_buf *out, const char *key, const char *value) {
  tn_buf_printf(out, ", \"%s\": ", key);
  if (value)
    tn_buf_json(out, tn_str_of(value));
  else
    tn_buf_puts(out, "null");
}

void tn_diags_json(const tn_diags *d, tn_buf *out) {
  tn_buf_puts(out, "{\"messages\": [");
  for (uint32_t i = 0; i < d->list.count; i++) {
    const tn_message *t = &d->list.items[i];
    tn_buf_printf(out, "%s{\"severity\": \"%s\"", i ? ", " : "", severities[t->severity].name);
    json_field(out, "file", t->file);
    tn_buf_printf(out, ", \"line\": %u, \"col\": %u", t->line, t->col);
    json_field(out, "where", t->where);
    json_field(out, "text", t->text);
    tn_buf_puts(out, "}");
  }
  tn_buf_puts(out, "]}\n");
}
