/* chat_terminal.c - the conversation with a person: messages of one or more lines, and commands that begin
 * with a slash. */
#include "tools/chat/chat.h"
#include <stdio.h>
#include <unistd.h>

typedef struct terminal {
  tn_talk *t;
  tn_lines lines;
  bool done, greets;
} terminal;

static void report(terminal *x) {
  tn_buf text = {0};
  tn_diags_text(x->t->d, &text, isatty(STDERR_FILENO));
  fputs(tn_buf_cstr(&text), stderr);
  tn_buf_fini(&text);
  tn_diags_fini(x->t->d);
  tn_diags_init(x->t->d);
}

/* On failure the last message is forgotten, so that the person can try another. */
static void answer(terminal *x, uint32_t keep) {
  if (tn_talk_answer(x->t) != TN_OK) {
    tn_talk_forget(x->t, keep);
    putchar('\n');
    report(x);
    return;
  }
  putchar('\n');
  fflush(stdout);
  if (x->t->a->given[OPT_verbose]) tn_talk_print_rate(x->t);
}

/* ---- commands -------------------------------------------------------------------------------- */
static void cmd_exit(terminal *x, const char *arg) { (void)arg, x->done = true; }

static void cmd_reset(terminal *x, const char *arg) {
  (void)arg;
  tn_talk_forget(x->t, tn_talk_is(x->t, 0, "system"));
}

static void cmd_system(terminal *x, const char *arg) {
  if (tn_talk_system(x->t, tn_str_of(arg)) != TN_OK) report(x);
}

static void cmd_save(terminal *x, const char *arg) {
  if (!*arg)
    puts("/save FILE");
  else if (tn_talk_save(x->t, arg) != TN_OK)
    report(x);
}

static void cmd_load(terminal *x, const char *arg) {
  uint32_t before = x->t->messages.count;
  if (!*arg) {
    puts("/load FILE");
  } else if (tn_talk_load(x->t, arg) != TN_OK) {
    tn_talk_forget(x->t, before);
    report(x);
  } else { /* in place of what was said so far */
    uint32_t n = x->t->messages.count - before;
    memmove(x->t->messages.items, x->t->messages.items + before, n * sizeof *x->t->messages.items);
    x->t->messages.count = n;
    printf("%u messages\n", n);
  }
}

/* The messages before the last one of the user. */
static uint32_t before_last_user(const terminal *x) {
  uint32_t n = x->t->messages.count;
  while (n && !tn_talk_is(x->t, n - 1, "user")) n--;
  return n ? n - 1 : x->t->messages.count;
}

static void cmd_undo(terminal *x, const char *arg) {
  (void)arg;
  tn_talk_forget(x->t, before_last_user(x));
}

static void cmd_retry(terminal *x, const char *arg) {
  uint32_t keep = before_last_user(x);
  (void)arg;
  if (keep == x->t->messages.count) return;
  tn_talk_forget(x->t, keep + 1);
  x->t->sampling.o.seed++;
  answer(x, keep);
}

static void cmd_prompt(terminal *x, const char *arg) {
  tn_buf text = {0};
  (void)arg;
  if (tn_talk_prompt(x->t, &text) == TN_OK)
    puts(tn_buf_cstr(&text));
  else
    report(x);
  tn_buf_fini(&text);
}

static void cmd_help(terminal *x, const char *arg);
static const struct {
  const char *name, *arg, *help;
  void (*run)(terminal *x, const char *arg);
} commands[] = {{"/help", "", "this list", cmd_help},
                {"/system", "TEXT", "change the system message", cmd_system},
                {"/reset", "", "forget the conversation, but not the system message", cmd_reset},
                {"/undo", "", "forget the last message and its answer", cmd_undo},
                {"/retry", "", "another answer to the last message", cmd_retry},
                {"/save", "FILE", "write the messages as JSON", cmd_save},
                {"/load", "FILE", "read messages, in place of these", cmd_load},
                {"/prompt", "", "show the text that the model is given", cmd_prompt},
                {"/exit", "", "leave; so does Ctrl-D", cmd_exit},
                {"/quit", "", "leave", cmd_exit}};

static void cmd_help(terminal *x, const char *arg) {
  (void)x, (void)arg;
  for (size_t i = 0; i < TN_COUNT(commands); i++) {
    char left[32];
    snprintf(left, sizeof left, "%s %s", commands[i].name, commands[i].arg);
    printf("  %-14s %s\n", left, commands[i].help);
  }
  puts("A line that ends in \\ goes on; \"\"\" begins and ends several lines. Ctrl-C stops an answer.");
}

static void command(terminal *x, const char *line) {
  const char *names[TN_COUNT(commands)];
  size_t n = strcspn(line, " \t");
  const char *arg = line + n + strspn(line + n, " \t");
  for (size_t i = 0; i < TN_COUNT(commands); i++) {
    names[i] = commands[i].name;
    if (!tn_str_is((tn_str){line, n}, commands[i].name)) continue;
    commands[i].run(x, arg);
    return;
  }
  char word[32];
  snprintf(word, sizeof word, "%.*s", (int)(n < 31 ? n : 31), line);
  int near = tn_str_nearest(word, names, (int)TN_COUNT(names));
  printf("no command %s%s%s; /help lists them\n", word, near < 0 ? "" : ", did you mean ",
         near < 0 ? "" : names[near]);
}

/* ---- messages -------------------------------------------------------------------------------- */
static bool ends_with(const tn_buf *b, const char *what) {
  return b->len && tn_str_ends((tn_str){b->text, b->len}, what);
}

/* A message of one or more lines. */
static tn_line_end read_message(terminal *x, tn_buf *out) {
  tn_buf line = {0};
  tn_line_end end = tn_line_read(&x->lines, x->greets ? "> " : "", out);
  bool block = end == TN_LINE && out->len >= 3 && !memcmp(out->text, "\"\"\"", 3);
  if (block) {
    memmove(out->text, out->text + 3, out->len - 2);
    out->len -= 3;
  }
  while (end == TN_LINE && (block ? !ends_with(out, "\"\"\"") : ends_with(out, "\\"))) {
    if (!block) out->len--;
    end = tn_line_read(&x->lines, x->greets ? ". " : "", &line);
    if (out->len || !block) tn_buf_puts(out, "\n");
    tn_buf_put(out, line.text, line.len);
  }
  if (block && ends_with(out, "\"\"\"")) out->len -= 3;
  if (end == TN_LINE_END && out->len) end = TN_LINE; /* the input ended within */
  if (out->text) out->text[out->len] = 0;
  tn_buf_fini(&line);
  return end;
}

tn_status tn_talk_terminal(tn_talk *t) {
  terminal x = {.t = t, .greets = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)};
  tn_buf text = {0};
  if (x.greets) puts("/help lists commands, Ctrl-D leaves");
  while (!x.done) {
    tn_line_end end = read_message(&x, &text);
    if (end == TN_LINE_END) break;
    if (end == TN_LINE_INTERRUPTED || !text.len) continue;
    if (text.text[0] == '/' && !memchr(text.text, '\n', text.len)) {
      command(&x, text.text);
      continue;
    }
    uint32_t keep = t->messages.count;
    if (tn_talk_add(t, "user", (tn_str){text.text, text.len}) != TN_OK) break;
    answer(&x, keep);
  }
  tn_lines_free(&x.lines);
  tn_buf_fini(&text);
  return TN_OK;
}
