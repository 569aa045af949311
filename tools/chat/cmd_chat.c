/* cmd_chat.c - tenon chat: messages from the command line, a file, a pipe or a person; the conversation
 * itself is in chat_talk.c. */
#include "tools/chat/chat.h"
#include <locale.h>
#include <stdio.h>
#include <unistd.h>

static const uint8_t chat_options[] = {OPT_prompt,
                                       OPT_chat_system,
                                       OPT_messages,
                                       OPT_template,
                                       OPT_template_var,
                                       OPT_print_prompt,
                                       TN_SAMPLING_OPTIONS,
                                       OPT_threads,
                                       OPT_affinity,
                                       OPT_capacity,
                                       OPT_O0,
                                       OPT_O1,
                                       OPT_O2,
                                       OPT_O3,
                                       OPT_passes,
                                       OPT_backend,
                                       OPT_isa,
                                       OPT_target,
                                       OPT_require_target,
                                       OPT_device,
                                       TN_MODEL_OPTIONS,
                                       OPT_plugin,
                                       OPT_tuning,
                                       OPT_json,
                                       OPT_verbose,
                                       OPT_help};

static void json_text(const char *key, const tn_buf *text) {
  tn_buf b = {0};
  tn_buf_json(&b, (tn_str){text->text ? text->text : "", text->len});
  printf("\"%s\": %s", key, tn_buf_cstr(&b));
  tn_buf_fini(&b);
}

static void print_json(const tn_talk *t, uint32_t i) {
  fputs(i ? ",\n {" : "{", stdout);
  json_text("answer", &t->answer);
  printf(", \"finish\": \"%s\", \"prompt_tokens\": %llu, \"reused_tokens\": %llu, \"new_tokens\": %llu}",
         tn_finish_name(t->finish), (unsigned long long)t->prompt_tokens, (unsigned long long)t->reused,
         (unsigned long long)t->new_tokens);
}

/* The answer to what was said so far, the i-th. */
static tn_status answer(tn_talk *t, uint32_t i) {
  TN_TRY(tn_talk_answer(t));
  if (t->quiet) return print_json(t, i), TN_OK;
  putchar('\n');
  fflush(stdout);
  if (t->a->given[OPT_verbose]) tn_talk_print_rate(t);
  if (t->finish != TN_FINISH_CANCELLED) return TN_OK;
  return tn_fail(t->d, TN_CANCELLED, NULL, NULL, "interrupted"); /* nobody waits for the other answers */
}

static tn_status answer_lines(tn_talk *t, uint32_t n) {
  tn_lines lines = {0};
  tn_buf text = {0};
  tn_status s = TN_OK;
  while (!s && tn_line_read(&lines, "", &text) == TN_LINE) {
    if (!text.len) continue;
    s = tn_talk_add(t, "user", (tn_str){text.text, text.len});
    if (!s) s = answer(t, n++);
  }
  tn_buf_fini(&text);
  tn_lines_free(&lines);
  return s;
}

static tn_status answer_all(tn_talk *t) {
  uint32_t n = 0;
  bool file = t->a->last[OPT_messages];
  if (file && !tn_talk_is(t, t->messages.count - 1, "assistant") && t->messages.count) TN_TRY(answer(t, n++));
  for (uint32_t i = 0; i < t->a->given[OPT_prompt]; i++) {
    TN_TRY(tn_talk_add(t, "user", tn_str_of(tn_args_nth(t->a, OPT_prompt, i))));
    TN_TRY(answer(t, n++));
  }
  return n || file ? TN_OK : answer_lines(t, n);
}

static tn_status print_prompt(tn_talk *t) {
  tn_buf text = {0};
  for (uint32_t i = 0; i < t->a->given[OPT_prompt]; i++)
    TN_TRY(tn_talk_add(t, "user", tn_str_of(tn_args_nth(t->a, OPT_prompt, i))));
  tn_status s = tn_talk_prompt(t, &text);
  if (!s) fwrite(text.text ? text.text : "", 1, text.len, stdout);
  tn_buf_fini(&text);
  return s;
}

static tn_status talk(tn_talk *t) {
  const tn_args *a = t->a;
  if (a->last[OPT_messages]) TN_TRY(tn_talk_load(t, a->last[OPT_messages]));
  if (a->last[OPT_chat_system]) TN_TRY(tn_talk_system(t, tn_str_of(a->last[OPT_chat_system])));
  if (a->given[OPT_print_prompt]) return print_prompt(t);
  bool person = !a->given[OPT_prompt] && !a->last[OPT_messages] && !a->given[OPT_json];
  if (person && (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO))) return tn_talk_terminal(t);
  t->quiet = a->given[OPT_json];
  if (t->quiet) putchar('[');
  tn_status s = answer_all(t);
  if (t->quiet) puts("]");
  return s;
}

static tn_status chat(const tn_args *a, tn_opened *o, tn_diags *d) {
  tn_talk t;
  setlocale(LC_CTYPE, ""); /* how wide characters are on the terminal */
  tn_status s = tn_talk_open(&t, a, o, d);
  if (!s) s = talk(&t);
  tn_talk_close(&t);
  return s;
}

static int run_chat(const tn_args *a) { return tn_tool_with_model(a, chat); }

const tn_command tn_cmd_chat = {
    "chat",
    "talk with a model",
    "MODEL|libNAME.so [-p PROMPT] [--system TEXT] [--template FILE] [options]",
    "On a terminal: type messages; /help lists commands, Ctrl-C stops an answer, Ctrl-D leaves. With -p "
    "(repeat) or\n"
    "--messages the answers are printed and that is all; from a pipe every line is a message. The model's "
    "own chat\n"
    "template is used, or the one of --template. An answer has at most 1024 tokens unless -n says otherwise.",
    chat_options,
    TN_COUNT(chat_options),
    1,
    1,
    run_chat};
