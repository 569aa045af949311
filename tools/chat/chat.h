/* chat.h - a conversation with a model, as the files of tenon chat share it: chat_talk.c keeps it and asks
 * the model, chat_terminal.c talks with a person, line.c reads a line with editing and history. */
#ifndef TN_TOOL_CHAT_H
#define TN_TOOL_CHAT_H
#include "frontend/chat/chat.h"
#include "tools/tool.h"

typedef struct tn_talk {
  const tn_args *a;
  const tn_opened *o;
  tn_session *s;
  tn_diags *d;
  tn_chat *format;
  const char *format_text; /* of the template, for the end tokens that it names */
  tn_sampling_args sampling;
  tn_arena arena;
  TN_VEC(char *) messages; /* each as JSON, in the arena */
  tn_buf variables;        /* ", name: value" of the template, for every prompt */
  TN_VEC(int32_t) held;    /* the tokens in the session's states */
  TN_VEC(int32_t) ends;    /* tokens that end a turn besides the model's own */
  tn_buf answer;           /* the last one */
  uint64_t prompt_tokens, reused, new_tokens;
  uint32_t finish;
  double first, seconds; /* until the first token, in all */
  bool quiet;            /* the answer is not printed while it comes */
} tn_talk;

tn_status tn_talk_open(tn_talk *t, const tn_args *a, const tn_opened *o, tn_diags *d);
void tn_talk_close(tn_talk *t);
tn_status tn_talk_add(tn_talk *t, const char *role, tn_str content);
/* Adds the messages of a JSON file; an object's other members become variables of the template. */
tn_status tn_talk_load(tn_talk *t, const char *path);
tn_status tn_talk_save(const tn_talk *t, const char *path);
tn_status tn_talk_system(tn_talk *t, tn_str text); /* in place of the one there is */
void tn_talk_forget(tn_talk *t, uint32_t count);   /* keeps the first messages only */
/* The role of message i is this. */
bool tn_talk_is(const tn_talk *t, uint32_t i, const char *role);
/* What the template makes of the messages. */
tn_status tn_talk_prompt(tn_talk *t, tn_buf *out);
/* Has the model answer and adds that; prints it as it comes, unless quiet. Ctrl-C ends the answer. */
tn_status tn_talk_answer(tn_talk *t);
void tn_talk_print_rate(const tn_talk *t); /* of the last answer, on stderr */

/* Reads messages until the end of the input or /exit. */
tn_status tn_talk_terminal(tn_talk *t);

/* ---- lines from a terminal ------------------------------------------------------------------- */
typedef struct tn_lines {
  TN_VEC(char *) history;
} tn_lines;
typedef enum tn_line_end { TN_LINE, TN_LINE_INTERRUPTED, TN_LINE_END } tn_line_end;
/* One line without its end into out (emptied first). Without a terminal on both sides: a plain line. */
tn_line_end tn_line_read(tn_lines *l, const char *prompt, tn_buf *out);
void tn_lines_free(tn_lines *l);
#endif
