/* line.c - one line from a terminal, with editing and history: the keys of Emacs and the arrows, UTF-8, and a
 * line longer than the terminal scrolls sideways. Everything is drawn again after every key. */
#include "tools/chat/chat.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>
#include <wchar.h>

typedef struct editor {
  const char *prompt;
  tn_buf *line;
  uint64_t at;   /* byte of the cursor */
  uint32_t back; /* entries of the history, 0: the new line */
  tn_lines *lines;
  tn_buf fresh; /* the new line, while the history is shown */
} editor;

/* ---- characters ------------------------------------------------------------------------------ */
static uint64_t next_of(const tn_buf *b, uint64_t at) {
  if (at < b->len) at++;
  while (at < b->len && (b->text[at] & 0xc0) == 0x80) at++;
  return at;
}
static uint64_t before(const tn_buf *b, uint64_t at) {
  if (at) at--;
  while (at && (b->text[at] & 0xc0) == 0x80) at--;
  return at;
}

/* Columns that bytes start .. end take. */
static int columns(const tn_buf *b, uint64_t start, uint64_t end) {
  int n = 0;
  for (uint64_t i = start; i < end;) {
    wchar_t c;
    mbstate_t state = {0};
    size_t used = mbrtowc(&c, b->text + i, end - i, &state);
    int width = used && used < (size_t)-2 ? wcwidth(c) : 1;
    n += width > 0 ? width : 0;
    i += used && used < (size_t)-2 ? used : 1;
  }
  return n;
}

static int terminal_width(void) {
  struct winsize w;
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 10 ? w.ws_col : 80;
}

static void draw(const editor *e) {
  int room = terminal_width() - (int)strlen(e->prompt) - 1;
  uint64_t start = 0, end = e->line->len;
  while (columns(e->line, start, e->at) >= room) start = next_of(e->line, start);
  while (end > e->at && columns(e->line, start, end) >= room) end = before(e->line, end);
  printf("\r%s%.*s\033[K", e->prompt, (int)(end - start), e->line->text ? e->line->text + start : "");
  int right = columns(e->line, e->at, end);
  if (right) printf("\033[%dD", right);
  fflush(stdout);
}

/* ---- changes --------------------------------------------------------------------------------- */
static void cut(editor *e, uint64_t start, uint64_t end) {
  if (start >= end) return;
  memmove(e->line->text + start, e->line->text + end, e->line->len - end);
  e->line->len -= end - start;
  e->line->text[e->line->len] = 0;
  e->at = start;
}

static void insert(editor *e, char c) {
  uint64_t len = e->line->len;
  tn_buf_put(e->line, &c, 1);
  if (e->line->len == len) return;
  memmove(e->line->text + e->at + 1, e->line->text + e->at, len - e->at);
  e->line->text[e->at++] = c;
}

static uint64_t word_start(const editor *e) {
  uint64_t at = e->at;
  while (at && e->line->text[at - 1] == ' ') at--;
  while (at && e->line->text[at - 1] != ' ') at--;
  return at;
}

static void put(tn_buf *b, const char *s) {
  b->len = 0;
  tn_buf_puts(b, s);
}

/* One entry older or newer. */
static void recall(editor *e, bool older) {
  uint32_t n = e->lines->history.count;
  if (older ? e->back == n : !e->back) return;
  if (!e->back) put(&e->fresh, tn_buf_cstr(e->line));
  e->back += older ? 1 : (uint32_t)-1;
  put(e->line, e->back ? e->lines->history.items[n - e->back] : tn_buf_cstr(&e->fresh));
  e->at = e->line->len;
}

/* ---- keys ------------------------------------------------------------------------------------ */
enum {
  CTRL_A = 1,
  CTRL_B,
  CTRL_C,
  CTRL_D,
  CTRL_E,
  CTRL_F,
  CTRL_H = 8,
  CTRL_K = 11,
  CTRL_L,
  CTRL_N = 14,
  CTRL_P = 16,
  CTRL_U = 21,
  CTRL_W = 23,
  ESCAPE = 27,
  DELETE = 127
};

static bool read_key(char *c) { return read(STDIN_FILENO, c, 1) == 1; }

/* Behind an escape: the control key that does the same, or 0. */
static char escaped(void) {
  static const struct {
    const char *text;
    char key;
  } known[] = {{"A", CTRL_P},  {"B", CTRL_N},  {"C", CTRL_F},  {"D", CTRL_B},  {"H", CTRL_A}, {"F", CTRL_E},
               {"1~", CTRL_A}, {"7~", CTRL_A}, {"4~", CTRL_E}, {"8~", CTRL_E}, {"3~", CTRL_D}};
  char text[8] = "", c;
  if (!read_key(&c) || (c != '[' && c != 'O')) return 0;
  for (uint32_t n = 0; n + 1 < sizeof text && read_key(&c);) {
    text[n++] = c;
    if (c >= '@') break;
  }
  for (size_t i = 0; i < TN_COUNT(known); i++)
    if (!strcmp(text, known[i].text)) return known[i].key;
  return 0;
}

static void edit(editor *e, char key) {
  switch (key) {
  case CTRL_A: e->at = 0; break;
  case CTRL_E: e->at = e->line->len; break;
  case CTRL_B: e->at = before(e->line, e->at); break;
  case CTRL_F: e->at = next_of(e->line, e->at); break;
  case CTRL_D: cut(e, e->at, next_of(e->line, e->at)); break;
  case CTRL_H:
  case DELETE: cut(e, before(e->line, e->at), e->at); break;
  case CTRL_K: cut(e, e->at, e->line->len); break;
  case CTRL_U: cut(e, 0, e->at); break;
  case CTRL_W: cut(e, word_start(e), e->at); break;
  case CTRL_P: recall(e, true); break;
  case CTRL_N: recall(e, false); break;
  case CTRL_L: fputs("\033[H\033[2J", stdout); break;
  default:
    if ((uint8_t)key >= 0x20 || key == '\t') insert(e, key);
    break;
  }
}

static tn_line_end edit_line(editor *e) {
  char key;
  draw(e);
  while (read_key(&key)) {
    bool end = key == CTRL_D && !e->line->len;
    if (key == '\r' || key == '\n' || key == CTRL_C || end) {
      e->at = e->line->len;
      draw(e);
      fputs(key == CTRL_C ? "^C\n" : "\n", stdout);
      return end ? TN_LINE_END : key == CTRL_C ? TN_LINE_INTERRUPTED : TN_LINE;
    }
    if (key == ESCAPE && !(key = escaped())) continue;
    if (key == CTRL_D && e->at == e->line->len) continue;
    edit(e, key);
    draw(e);
  }
  return TN_LINE_END;
}

/* ---- the whole ------------------------------------------------------------------------------- */
static tn_line_end plain_line(tn_buf *out) {
  int c = EOF;
  char one;
  while ((c = getchar()) != EOF && c != '\n') tn_buf_put(out, (one = (char)c, &one), 1);
  if (out->len && out->text[out->len - 1] == '\r') out->text[--out->len] = 0;
  return c == EOF && !out->len ? TN_LINE_END : TN_LINE;
}

static void remember(tn_lines *l, const tn_buf *line) {
  uint32_t n = l->history.count;
  if (!line->len || (n && !strcmp(l->history.items[n - 1], line->text))) return;
  char *copy = strdup(line->text);
  if (copy && !tn_vec_push(&l->history, copy)) free(copy);
}

tn_line_end tn_line_read(tn_lines *l, const char *prompt, tn_buf *out) {
  struct termios saved, raw;
  put(out, "");
  if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO) || tcgetattr(STDIN_FILENO, &saved))
    return plain_line(out);
  raw = saved;
  raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | ISIG | IEXTEN);
  raw.c_iflag &= ~(tcflag_t)(IXON | ICRNL);
  raw.c_cc[VMIN] = 1;
  raw.c_cc[VTIME] = 0;
  tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
  editor e = {.prompt = prompt, .line = out, .lines = l};
  tn_line_end end = edit_line(&e);
  tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
  if (end == TN_LINE) remember(l, out);
  tn_buf_fini(&e.fresh);
  return end;
}

void tn_lines_free(tn_lines *l) {
  for (uint32_t i = 0; i < l->history.count; i++) free(l->history.items[i]);
  tn_vec_fini(&l->history);
}
