/* chat.h - chat templates: the Jinja templates that come with models and turn a conversation into the text of
 * a prompt. They come from untrusted files, so an interpreter of the subset that templates use runs them
 * within limits: no files, no code, no attribute that is not data. What a template sees and gives is as with
 * the environment that transformers sets up (jinja2's immutable sandbox, trim_blocks, lstrip_blocks, loop
 * controls, generation). */
#ifndef TN_CHAT_H
#define TN_CHAT_H
#include "frontend/config/config.h"

typedef struct tn_chat tn_chat; /* a parsed template; read-only, shared by threads */
/* `name` stands in messages, with line and column (characters) of the template. TN_INVALID, TN_UNSUPPORTED
 * (inheritance, import), TN_OOM. Text is copied. */
tn_status tn_chat_parse(tn_str text, const char *name, tn_diags *diags, tn_chat **out);
void tn_chat_free(tn_chat *c);

typedef struct tn_chat_limits { /* 0: the default */
  uint64_t steps;               /* evaluated nodes (20 million) */
  uint64_t output;              /* bytes of the result (16 MiB) */
  uint64_t memory;              /* bytes of values (256 MiB) */
  double seconds;               /* (5) */
  int64_t now;                  /* seconds since 1970 for strftime_now, local time; 0: the clock */
} tn_chat_limits;
/* Runs the template with the members of an object as its variables: "messages", "add_generation_prompt",
 * "tools", "bos_token" and so on. Appends the text. Errors: TN_INVALID (of the template, raised by it, or a
 * limit), TN_UNSUPPORTED, TN_OOM. limits may be NULL. */
tn_status tn_chat_render(const tn_chat *c, const tn_json *variables, const tn_chat_limits *limits,
                         tn_diags *diags, tn_buf *out);

/* Templates of well-known formats, for models that come without one: "chatml", "llama2", "gemma", ...
 * ptr NULL: none of that name. */
tn_str tn_chat_builtin(const char *name);
const char *tn_chat_builtin_name(uint32_t i); /* NULL past the end */
#endif
