/* chat_talk.c - the conversation: messages through the template to a prompt, the prompt to tokens, of which
 * those that the states hold already are kept (the common beginning), the answer back among the messages. */
#include "tools/chat/chat.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static tn_status failed(tn_talk *t, tn_status s) {
  return tn_fail(t->d, s, NULL, NULL, "%s", t->o->api->error(t->s));
}

/* ---- the template ---------------------------------------------------------------------------- */
static tn_status no_template(tn_talk *t) {
  tn_buf names = {0};
  for (uint32_t i = 0; tn_chat_builtin_name(i); i++)
    tn_buf_printf(&names, "%s%s", i ? ", " : "", tn_chat_builtin_name(i));
  tn_status s = tn_fail(t->d, TN_NOT_FOUND, NULL, NULL,
                        "the model has no chat template: give --template FILE, or one of %s; "
                        "plain has the model continue the text",
                        tn_buf_cstr(&names));
  tn_buf_fini(&names);
  return s;
}

static tn_status read_file(tn_talk *t, const char *path, char **out) {
  tn_file f;
  const char *why;
  tn_status s = tn_file_map(&f, path, &why);
  if (s) return tn_fail(t->d, s, path, NULL, "%s", why);
  *out = tn_arena_str(&t->arena, (tn_str){(const char *)f.data, f.size});
  tn_file_unmap(&f);
  return *out ? TN_OK : TN_OOM;
}

static tn_status unknown_template(tn_talk *t, const char *given) {
  const char *names[64];
  int n = 0;
  while (n < 64 && (names[n] = tn_chat_builtin_name((uint32_t)n))) n++;
  int near = tn_str_nearest(given, names, n);
  return tn_fail(t->d, TN_NOT_FOUND, given, NULL, "there is no such file, and no template of that name%s%s",
                 near < 0 ? "" : "; did you mean ", near < 0 ? "" : names[near]);
}

static tn_status open_format(tn_talk *t) {
  const char *given = t->a->last[OPT_template], *name = "chat_template";
  const char *text = t->o->api->meta(t->o->model, "chat_template");
  char *file = NULL;
  if (!given && !text) return no_template(t);
  if (given) {
    name = given;
    text = tn_chat_builtin(given).ptr;
    if (tn_path_exists(given)) {
      TN_TRY(read_file(t, given, &file));
      text = file;
    }
  }
  if (!text) return unknown_template(t, given);
  t->format_text = text;
  return tn_chat_parse(tn_str_of(text), name, t->d, &t->format);
}

static void put_variable(tn_talk *t, tn_str name, tn_str json) {
  tn_buf_puts(&t->variables, ", ");
  tn_buf_json(&t->variables, name);
  tn_buf_puts(&t->variables, ": ");
  tn_buf_put(&t->variables, json.ptr, json.len);
}

/* A special token's text, as the tokenizer's configuration has it, or by the first of the model's ids. */
static void put_token(tn_talk *t, const char *name, const char *id_key) {
  const char *text = t->o->api->meta(t->o->model, name), *id = t->o->api->meta(t->o->model, id_key);
  uint64_t n = text ? strlen(text) : 0;
  tn_buf json = {0};
  if (!text && id) text = t->o->api->token_text(t->s, (int32_t)strtol(id, NULL, 10), &n);
  if (!text) return;
  tn_buf_json(&json, (tn_str){text, n});
  put_variable(t, tn_str_of(name), (tn_str){json.text, json.len});
  tn_buf_fini(&json);
}

/* NAME=V: V is JSON if it is, else a text. */
static tn_status put_given(tn_talk *t, const char *text) {
  const char *eq = strchr(text, '=');
  tn_diags ignored;
  tn_json *value;
  tn_buf json = {0};
  if (!eq || eq == text)
    return tn_fail(t->d, TN_INVALID, NULL, NULL, "--template-var: '%s' is not NAME=VALUE", text);
  tn_diags_init(&ignored);
  if (tn_json_parse(&t->arena, tn_str_of(eq + 1), "", &ignored, &value) == TN_OK)
    tn_json_write(&json, value);
  else
    tn_buf_json(&json, tn_str_of(eq + 1));
  tn_diags_fini(&ignored);
  put_variable(t, (tn_str){text, (uint64_t)(eq - text)}, (tn_str){json.text, json.len});
  tn_buf_fini(&json);
  return TN_OK;
}

/* Ends of turns that a template writes are ends of answers, whatever the model's configuration says. */
static void find_ends(tn_talk *t) {
  static const char *const known[] = {"<|im_end|>", "<|eot_id|>",           "<end_of_turn>",
                                      "<|end|>",    "<|endoftext|>",        "<|end_of_text|>",
                                      "<|eot|>",    "<|end_of_turn|>",      "<｜end▁of▁sentence｜>",
                                      "<|return|>", "<|END_OF_TURN_TOKEN|>"};
  for (size_t i = 0; i < TN_COUNT(known); i++) {
    int32_t id;
    if (!strstr(t->format_text, known[i]) || t->o->api->token_id(t->s, known[i], &id) != TN_OK) continue;
    if (!tn_vec_push(&t->ends, id)) return;
  }
}

tn_status tn_talk_open(tn_talk *t, const tn_args *a, const tn_opened *o, tn_diags *d) {
  bool bad = false;
  char error[256] = "";
  *t = (tn_talk){.a = a, .o = o, .d = d};
  tn_arena_init(&t->arena);
  TN_TRY(open_format(t));
  tn_session_options so = {.size = sizeof so,
                           .threads = (uint32_t)tn_args_int(a, OPT_threads, 0, &bad),
                           .capacity = tn_args_int(a, OPT_capacity, 0, &bad),
                           .cores = o->cores,
                           .ncores = o->ncores,
                           .device = o->device,
                           .error = error,
                           .error_size = sizeof error};
  if (bad) return TN_INVALID;
  tn_status s = o->api->session_new(o->model, &so, &t->s);
  if (s) return tn_fail(d, s, NULL, NULL, "cannot open a session: %s", error);
  TN_TRY(tn_sampling_read(a, &so, &t->sampling, d));
  if (!a->given[OPT_tokens]) t->sampling.o.max_tokens = 1024;
  for (uint32_t i = 0; i < a->given[OPT_template_var]; i++)
    TN_TRY(put_given(t, tn_args_nth(a, OPT_template_var, i)));
  put_token(t, "bos_token", "bos");
  put_token(t, "eos_token", "eos");
  find_ends(t);
  return TN_OK;
}

void tn_talk_close(tn_talk *t) {
  tn_sampling_free(&t->sampling);
  if (t->s) t->o->api->session_free(t->s);
  tn_chat_free(t->format);
  tn_vec_fini(&t->messages);
  tn_vec_fini(&t->held);
  tn_vec_fini(&t->ends);
  tn_buf_fini(&t->variables);
  tn_buf_fini(&t->answer);
  tn_arena_fini(&t->arena);
}

/* ---- messages -------------------------------------------------------------------------------- */
static tn_status add_json(tn_talk *t, tn_buf *json) {
  char *copy = json->failed ? NULL : tn_arena_str(&t->arena, (tn_str){json->text, json->len});
  tn_buf_fini(json);
  return copy && tn_vec_push(&t->messages, copy) ? TN_OK : TN_OOM;
}

/* Bytes that are no UTF-8 become U+FFFD: a terminal may send anything. */
static void put_repaired(tn_buf *json, tn_str s) {
  tn_buf clean = {0};
  uint64_t bad;
  while (s.len && !tn_utf8_valid(s, &bad)) {
    tn_buf_put(&clean, s.ptr, bad);
    tn_buf_puts(&clean, "\xef\xbf\xbd");
    s = (tn_str){s.ptr + bad + 1, s.len - bad - 1};
  }
  tn_buf_put(&clean, s.ptr, s.len);
  tn_buf_json(json, (tn_str){tn_buf_cstr(&clean), clean.len});
  tn_buf_fini(&clean);
}

tn_status tn_talk_add(tn_talk *t, const char *role, tn_str content) {
  tn_buf json = {0};
  tn_buf_puts(&json, "{\"role\": ");
  tn_buf_json(&json, tn_str_of(role));
  tn_buf_puts(&json, ", \"content\": ");
  put_repaired(&json, content);
  tn_buf_puts(&json, "}");
  return add_json(t, &json);
}

static tn_status add_messages(tn_talk *t, const char *path, const tn_json *list) {
  if (list->kind != TN_JSON_LIST) return tn_fail(t->d, TN_INVALID, path, "messages", "is no list");
  for (uint32_t i = 0; i < list->count; i++) {
    tn_buf json = {0};
    const tn_json *m = &list->u.items[i], *role = tn_json_peek(m, "role");
    if (!role || role->kind != TN_JSON_STRING)
      return tn_fail(t->d, TN_INVALID, path, "messages", "message %u has no role", i);
    tn_json_write(&json, m);
    TN_TRY(add_json(t, &json));
  }
  return TN_OK;
}

tn_status tn_talk_load(tn_talk *t, const char *path) {
  char *text;
  tn_json *root;
  TN_TRY(read_file(t, path, &text));
  TN_TRY(tn_json_parse(&t->arena, tn_str_of(text), path, t->d, &root));
  if (root->kind != TN_JSON_OBJECT) return add_messages(t, path, root);
  const tn_json *list = tn_json_peek(root, "messages");
  if (!list) return tn_fail(t->d, TN_INVALID, path, NULL, "has no messages");
  for (uint32_t i = 0; i < root->count; i++) {
    const tn_json *item = &root->u.items[i];
    tn_buf json = {0};
    if (item == list || !strcmp(item->key, "add_generation_prompt")) continue;
    tn_json_write(&json, item);
    put_variable(t, tn_str_of(item->key), (tn_str){json.text, json.len});
    tn_buf_fini(&json);
  }
  return add_messages(t, path, list);
}

static void put_messages(const tn_talk *t, tn_buf *out, const char *between) {
  for (uint32_t i = 0; i < t->messages.count; i++)
    tn_buf_printf(out, "%s%s", i ? between : "", t->messages.items[i]);
}

tn_status tn_talk_save(const tn_talk *t, const char *path) {
  tn_outfile f;
  const char *why;
  tn_buf text = {0};
  tn_buf_puts(&text, "[\n");
  put_messages(t, &text, ",\n");
  tn_buf_puts(&text, "\n]\n");
  tn_status s = tn_outfile_open(&f, path, &why);
  if (s) tn_fail(t->d, s, path, NULL, "%s", why);
  if (!s && (s = tn_outfile_write(&f, text.text, text.len)) == TN_OK) s = tn_outfile_commit(&f, 0644);
  if (s && !t->d->errors) tn_fail(t->d, s, path, NULL, "cannot write it");
  tn_buf_fini(&text);
  return s;
}

bool tn_talk_is(const tn_talk *t, uint32_t i, const char *role) {
  tn_arena arena;
  tn_diags ignored;
  tn_json *m;
  if (i >= t->messages.count) return false;
  tn_arena_init(&arena);
  tn_diags_init(&ignored);
  bool is = tn_json_parse(&arena, tn_str_of(t->messages.items[i]), "", &ignored, &m) == TN_OK;
  const tn_json *given = is ? tn_json_peek(m, "role") : NULL;
  is = given && given->kind == TN_JSON_STRING && tn_str_is(given->u.s, role);
  tn_diags_fini(&ignored);
  tn_arena_fini(&arena);
  return is;
}

tn_status tn_talk_system(tn_talk *t, tn_str text) {
  bool there = tn_talk_is(t, 0, "system");
  TN_TRY(tn_talk_add(t, "system", text));
  char *last = t->messages.items[--t->messages.count];
  if (there) {
    t->messages.items[0] = last;
    return TN_OK;
  }
  memmove(t->messages.items + 1, t->messages.items, t->messages.count * sizeof *t->messages.items);
  t->messages.items[0] = last;
  t->messages.count++;
  return TN_OK;
}

void tn_talk_forget(tn_talk *t, uint32_t count) {
  if (count < t->messages.count) t->messages.count = count;
}

/* ---- prompt and answer ----------------------------------------------------------------------- */
tn_status tn_talk_prompt(tn_talk *t, tn_buf *out) {
  tn_arena arena;
  tn_json *root;
  tn_buf json = {0};
  tn_buf_puts(&json, "{\"messages\": [");
  put_messages(t, &json, ", ");
  tn_buf_puts(&json, "], \"add_generation_prompt\": true");
  if (t->variables.len) tn_buf_put(&json, t->variables.text, t->variables.len);
  tn_buf_puts(&json, "}");
  tn_arena_init(&arena);
  tn_status s =
      json.failed ? TN_OOM : tn_json_parse(&arena, (tn_str){json.text, json.len}, "messages", t->d, &root);
  if (!s) s = tn_chat_render(t->format, root, NULL, t->d, out);
  tn_arena_fini(&arena);
  tn_buf_fini(&json);
  return s;
}

/* The template has put bos and the like where they belong. */
static tn_status tokenize(tn_talk *t, const tn_buf *text, int32_t **ids, uint64_t *n) {
  tn_status s = TN_INVALID;
  *n = text->len + 16;
  for (uint64_t room = 0; s == TN_INVALID && *n > room;) { /* a second time if there are more than bytes */
    room = *n;
    *ids = tn_arena_alloc(&t->arena, room * sizeof **ids);
    if (!*ids) return TN_OOM;
    s = t->o->api->tokenize(t->s, text->text ? text->text : "", text->len, NULL, 0, TN_TOK_NO_SPECIAL, *ids,
                            NULL, n);
  }
  if (s) return failed(t, s);
  return *n ? TN_OK : tn_fail(t->d, TN_INVALID, NULL, NULL, "the template makes an empty prompt");
}

/* Penalties look at all tokens that a call is given, and a draft's states must agree with the model's. */
static bool needs_all(const tn_sampling *o) {
  return (o->repetition_penalty > 0 && o->repetition_penalty != 1) || o->frequency_penalty != 0 ||
         o->presence_penalty != 0 || o->dry_multiplier != 0 || o->draft_tokens;
}

/* Takes the states back to where they agree with the prompt; *from: its first token to be given. */
static tn_status rewind_to(tn_talk *t, const int32_t *ids, uint64_t n, uint64_t *from) {
  uint64_t same = 0;
  while (same < t->held.count && same + 1 < n && t->held.items[same] == ids[same]) same++;
  if (needs_all(&t->sampling.o)) same = 0;
  if (same && t->o->api->rewind(t->s, (int64_t)same) != TN_OK) same = 0; /* a ring has lost them */
  if (!same) TN_TRY(t->o->api->session_reset(t->s));
  if (!same && t->sampling.o.draft) TN_TRY(t->sampling.draft.api->session_reset(t->sampling.o.draft));
  *from = same;
  t->held.count = (uint32_t)same;
  return TN_OK;
}

static volatile sig_atomic_t interrupted; /* a signal's handler reaches nothing else */
static void interrupt(int number) {
  if (interrupted) signal(number, SIG_DFL); /* the second time ends the program */
  interrupted = 1;
}

/* What comes from a model may not steer the terminal. */
static void show(tn_talk *t, const char *text, uint64_t n) {
  bool terminal = isatty(STDOUT_FILENO);
  if (t->quiet) return;
  for (uint64_t i = 0; i < n; i++) {
    uint8_t c = (uint8_t)text[i];
    if (!terminal || c >= 0x20 || c == '\n' || c == '\t') putchar(c);
  }
  fflush(stdout);
}

static tn_status on_token(void *user, int32_t id, const char *text, uint64_t n) {
  tn_talk *t = user;
  if (!t->new_tokens++) t->first = tn_now() - t->seconds;
  if (!tn_vec_push(&t->held, id)) return TN_OOM;
  for (uint32_t i = 0; i < t->ends.count; i++)
    if (t->ends.items[i] == id) return TN_CANCELLED;
  tn_buf_put(&t->answer, text, n);
  show(t, text, n);
  return interrupted ? TN_CANCELLED : t->answer.failed ? TN_OOM : TN_OK;
}

static tn_status generate(tn_talk *t, const int32_t *ids, uint64_t n) {
  uint64_t from;
  TN_TRY(rewind_to(t, ids, n, &from));
  for (uint64_t i = from; i < n; i++)
    if (!tn_vec_push(&t->held, ids[i])) return TN_OOM;
  struct sigaction handler = {.sa_handler = interrupt}, before;
  interrupted = 0;
  sigaction(SIGINT, &handler, &before);
  t->prompt_tokens = n;
  t->reused = from;
  t->new_tokens = 0;
  t->seconds = tn_now();
  tn_status s = t->o->api->generate(t->s, ids + from, n - from, &t->sampling.o, on_token, t);
  t->seconds = tn_now() - t->seconds;
  sigaction(SIGINT, &before, NULL);
  int64_t position = t->o->api->position(t->s);
  if (position < (int64_t)t->held.count) t->held.count = position > 0 ? (uint32_t)position : 0;
  t->finish = t->sampling.result.finish;
  if (s == TN_CANCELLED) t->finish = interrupted ? TN_FINISH_CANCELLED : TN_FINISH_END;
  return s == TN_OK || s == TN_CANCELLED ? TN_OK : failed(t, s);
}

tn_status tn_talk_answer(tn_talk *t) {
  tn_buf prompt = {0};
  int32_t *ids = NULL;
  uint64_t n = 0;
  t->answer.len = 0;
  tn_status s = tn_talk_prompt(t, &prompt);
  if (!s) s = tokenize(t, &prompt, &ids, &n);
  if (!s) s = generate(t, ids, n);
  tn_buf_fini(&prompt);
  return s ? s : tn_talk_add(t, "assistant", (tn_str){tn_buf_cstr(&t->answer), t->answer.len});
}

void tn_talk_print_rate(const tn_talk *t) {
  double decode = t->seconds - t->first;
  fprintf(stderr, "[%llu prompt tokens, %llu of them reused, %.2f s; %llu new tokens, %.1f per second; %s]\n",
          (unsigned long long)t->prompt_tokens, (unsigned long long)t->reused, t->first,
          (unsigned long long)t->new_tokens,
          t->new_tokens > 1 && decode > 0 ? (double)(t->new_tokens - 1) / decode : 0,
          tn_finish_name(t->finish));
}
