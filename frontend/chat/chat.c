/* chat.c - a template from text to tree, and a run of it over a conversation. */
#include "frontend/chat/jinja.h"

static const tn_chat_limits defaults = {20 * 1000 * 1000, 16 << 20, 256 << 20, 5, 0};

/* Line ends become \n, the last one goes, as jinja2 reads a source. */
static bool take_text(tn_chat *c, tn_str text) {
  char *p = tn_arena_alloc(&c->arena, text.len + 1);
  uint64_t n = 0;
  if (!p) return false;
  for (uint64_t i = 0; i < text.len; i++) {
    if (text.ptr[i] == '\r' && i + 1 < text.len && text.ptr[i + 1] == '\n') continue;
    p[n++] = text.ptr[i] == '\r' ? '\n' : text.ptr[i];
  }
  if (n && p[n - 1] == '\n') n--;
  c->text = (tn_str){p, n};
  return true;
}

static tn_status check_text(tn_str text, const char *name, tn_diags *diags) {
  uint64_t bad;
  if (text.len > TN_JINJA_TEXT_MAX)
    return tn_fail(diags, TN_INVALID, name, NULL, "the template has %llu bytes, at most %d are allowed",
                   (unsigned long long)text.len, TN_JINJA_TEXT_MAX);
  if (!tn_utf8_valid(text, &bad))
    return tn_fail(diags, TN_INVALID, name, NULL, "byte %llu of the template is not UTF-8",
                   (unsigned long long)bad);
  return TN_OK;
}

tn_status tn_chat_parse(tn_str text, const char *name, tn_diags *diags, tn_chat **out) {
  *out = NULL;
  TN_TRY(check_text(text, name, diags));
  tn_chat *c = tn_mem_alloc(sizeof *c);
  if (!c) return tn_fail(diags, TN_OOM, name, NULL, "out of memory");
  tn_arena_init(&c->arena);
  tn_jinja_parser p = {.chat = c, .diags = diags};
  c->name = tn_arena_str(&c->arena, tn_str_of(name));
  if (!c->name || !take_text(c, text)) p.status = tn_fail(diags, TN_OOM, name, NULL, "out of memory");
  if (!p.status) tn_jinja_lex(&p);
  if (!p.status) tn_jinja_parse(&p);
  tn_vec_fini(&p.tokens);
  if (!p.status) return *out = c, TN_OK;
  tn_chat_free(c);
  return p.status;
}

void tn_chat_free(tn_chat *c) {
  if (!c) return;
  tn_arena_fini(&c->arena);
  tn_mem_free(c);
}

static void bind_variables(tn_jinja_run *r, const tn_json *variables) {
  if (variables && variables->kind != TN_JSON_OBJECT) {
    tn_jinja_fail(r, "the variables are no object");
    return;
  }
  for (uint32_t i = 0; variables && i < variables->count && !r->status; i++) {
    const tn_json *v = &variables->u.items[i];
    tn_jinja_bind(r, tn_str_of(v->key), tn_jv_from_json(r, v));
  }
}

static void take_limits(tn_jinja_run *r, const tn_chat_limits *given) {
  r->limits = given ? *given : defaults;
  if (!r->limits.steps) r->limits.steps = defaults.steps;
  if (!r->limits.output) r->limits.output = defaults.output;
  if (!r->limits.memory) r->limits.memory = defaults.memory;
  if (r->limits.seconds <= 0) r->limits.seconds = defaults.seconds;
  r->deadline = tn_now() + r->limits.seconds;
}

static tn_status report(const tn_jinja_run *r, tn_diags *diags) {
  uint32_t line, col;
  if (r->status == TN_OOM || !r->words) return tn_fail(diags, TN_OOM, r->chat->name, NULL, "out of memory");
  tn_jinja_place(r->chat, r->at, &line, &col);
  return tn_fail_at(diags, r->status, r->chat->name, line, col, "%s", r->words);
}

tn_status tn_chat_render(const tn_chat *c, const tn_json *variables, const tn_chat_limits *limits,
                         tn_diags *diags, tn_buf *out) {
  tn_jinja_run r = {.chat = c};
  tn_buf text = {0};
  tn_arena_init(&r.arena);
  take_limits(&r, limits);
  r.out = &text;
  r.scope = tn_jinja_scope_new(&r, NULL);
  if (r.scope) bind_variables(&r, variables);
  if (!r.status) r.scope = tn_jinja_scope_new(&r, r.scope);
  if (!r.status) tn_jinja_exec(&r, c->body);
  if (!r.status) tn_buf_put(out, text.text, text.len);
  if (!r.status && out->failed) tn_jinja_oom(&r);
  tn_status status = r.status ? report(&r, diags) : TN_OK;
  tn_buf_fini(&text);
  tn_arena_fini(&r.arena);
  return status;
}
