/* profile_trace.c - the events of a profile in the Chrome trace event format, which chrome://tracing and
 * Perfetto open: a track per thread, a slice per kernel call; on thread 0 inside the slice of the whole walk.
 */
#include "tools/profile/profile.h"

static void put_thread(tn_profile *p, uint32_t thread) {
  tn_buf_printf(&p->trace,
                ",\n{\"name\": \"thread_name\", \"ph\": \"M\", \"pid\": 1, \"tid\": %u, \"args\": {\"name\": "
                "\"thread %u\"}}",
                thread, thread);
}

void tn_trace_begin(tn_profile *p, uint32_t threads) {
  if (!p->with_trace || p->trace.len) return;
  p->epoch = -1;
  tn_buf_puts(&p->trace,
              "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n{\"name\": \"process_name\", \"ph\": "
              "\"M\", \"pid\": 1, \"tid\": 0, \"args\": {\"name\": ");
  tn_buf_json(&p->trace, tn_str_of(p->o->api->name(p->o->model)));
  tn_buf_puts(&p->trace, "}}");
  for (uint32_t i = 0; i < threads; i++) put_thread(p, i);
}

void tn_trace_event(tn_profile *p, uint32_t thread, const char *name, const char *symbol, const char *loc,
                    double begin, double end) {
  if (!p->with_trace) return;
  if (p->epoch < 0) p->epoch = begin;
  tn_buf_puts(&p->trace, ",\n{\"name\": ");
  tn_buf_json(&p->trace, tn_str_of(name));
  tn_buf_printf(&p->trace, ", \"ph\": \"X\", \"pid\": 1, \"tid\": %u, \"ts\": %.3f, \"dur\": %.3f", thread,
                (begin - p->epoch) * 1e6, (end - begin) * 1e6);
  if (symbol) {
    tn_buf_puts(&p->trace, ", \"args\": {\"kernel\": ");
    tn_buf_json(&p->trace, tn_str_of(symbol));
    tn_buf_puts(&p->trace, ", \"at\": ");
    tn_buf_json(&p->trace, tn_str_of(loc));
    tn_buf_puts(&p->trace, "}");
  }
  tn_buf_puts(&p->trace, "}");
}

tn_status tn_trace_write(tn_profile *p, const char *path) {
  tn_trace_begin(p, p->machine.threads);
  tn_buf_puts(&p->trace, "\n]}\n");
  return p->trace.failed ? TN_OOM : tn_text_write(path, &p->trace, p->d);
}
