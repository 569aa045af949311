/* toy_user.c - a program that links two libraries made of the toy model and knows only their headers.
 * Compiled as C99 and as C++17. What must come out is worked out from the model's description
 * (tests/unit/toy.h). */
#include <gadget.h>
#include <widget.h>
#include <stdio.h>
#include <string.h>

static int failures;

static void check(int ok, const char *what) {
  if (ok) return;
  printf("FAILED: %s\n", what);
  failures++;
}

static gadget_status hear(void *user, int32_t token, const char *text, uint64_t len) {
  char **at = (char **)user;
  *(*at)++ = (char)('0' + token);
  return text == NULL || len != 0;
}

static void use_widget(void) {
  const int32_t ids[8] = {3, 1, 4, 1, 5, 9, 2, 6}, mask[8] = {1, 1, 1, 0, 1, 1, 0, 1};
  char why[200] = "";
  float hidden[8 * WIDGET_ENCODE_HIDDEN_DIM2];
  int i, k;
  widget_model *m = NULL;
  widget_session *s = NULL;
  if (widget_open(NULL, &m, why, sizeof why) != WIDGET_OK) {
    printf("FAILED: widget_open: %s\n", why);
    failures++;
    return;
  }
  check(strcmp(widget_meta(m, "architecture"), "Toy") == 0, "metadata");
  check(widget_session_new(m, NULL, &s) == WIDGET_OK, "session");
  check(widget_encode(s, 2, 4, ids, mask, hidden) == WIDGET_OK, "encode");
  for (i = 0; i < 8; i++)
    for (k = 0; k < 4; k++)
      check(hidden[4 * i + k] == ((float)ids[i] + (float)k / 4) * (float)mask[i] + 1000.0f * (float)k,
            "hidden");
  check(widget_encode(s, 1, 1, ids, mask, hidden) == WIDGET_OK && hidden[0] == 3.25f,
        "the best variant that runs here");
  check(widget_encode(s, 1, 9, ids, mask, hidden) == WIDGET_INVALID, "too long");
  check(strcmp(widget_error(s), "input 'ids' has S = 9, the limit is 8") == 0, widget_error(s));
  widget_session_free(s);
  widget_close(m);
}

static void use_gadget(void) {
  const int32_t prompt[] = {1, 2, 4};
  char text[32] = "", *at = text;
  float logits[GADGET_NEXT_LOGITS_DIM1];
  gadget_model *m = NULL;
  gadget_session *s = NULL;
  gadget_session_options o;
  gadget_sampling how;
  memset(&o, 0, sizeof o);
  memset(&how, 0, sizeof how);
  o.size = sizeof o;
  o.threads = 2;
  o.capacity = 20;
  how.size = sizeof how;
  how.max_tokens = 6;
  check(gadget_open(NULL, &m, NULL, 0) == GADGET_OK, "gadget_open");
  if (!m) return;
  check(gadget_session_new(m, &o, &s) == GADGET_OK, "session");
  check(gadget_generate(s, prompt, 3, &how, hear, &at) == GADGET_OK, gadget_error(s));
  check(strcmp(text, "748624") == 0, text);
  check(gadget_position(s) == 8, "position");
  check(gadget_rewind(s, 2) == GADGET_OK && gadget_next(s, 1, 1, prompt, logits) == GADGET_OK, "rewind");
  check(logits[4] == 0 && logits[3] == -0.125f, "logits");
  check(gadget_session_reset(s) == GADGET_OK && gadget_position(s) == 0, "reset");
  gadget_session_free(s);
  gadget_close(m);
}

int main(void) {
  use_widget();
  use_gadget();
  use_widget();
  if (!failures) printf("ok\n");
  return failures != 0;
}
