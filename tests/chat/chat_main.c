/* chat_main.c - chat templates as a filter, for differential.py: each line of stdin is a JSON object with
 * "template" and "variables" (and "now"); writes one line each: the text as a JSON string, or an object with
 * "error". */
#include "frontend/chat/chat.h"
#include <stdio.h>
#include <stdlib.h>

static tn_status render(const tn_json *job, tn_diags *diags, tn_buf *out) {
  const tn_json *text = tn_json_get(job, "template"), *now = tn_json_get(job, "now");
  tn_chat_limits limits = {.now = now && now->kind == TN_JSON_INT ? now->u.i : 0};
  tn_chat *chat = NULL;
  if (!text || text->kind != TN_JSON_STRING) return tn_fail(diags, TN_INVALID, NULL, NULL, "no template");
  tn_status s = tn_chat_parse(text->u.s, "template", diags, &chat);
  if (s == TN_OK) s = tn_chat_render(chat, tn_json_get(job, "variables"), &limits, diags, out);
  tn_chat_free(chat);
  return s;
}

static void line(tn_str text) {
  tn_arena arena;
  tn_diags diags;
  tn_json *job;
  tn_buf out = {0}, shown = {0}, words = {0};
  tn_arena_init(&arena);
  tn_diags_init(&diags);
  tn_status s = tn_json_parse(&arena, text, "stdin", &diags, &job);
  if (s == TN_OK) s = render(job, &diags, &out);
  if (s == TN_OK) {
    tn_buf_json(&shown, (tn_str){tn_buf_cstr(&out), out.len});
  } else {
    tn_diags_text(&diags, &words, false);
    tn_buf_puts(&shown, "{\"error\": ");
    tn_buf_json(&shown, (tn_str){tn_buf_cstr(&words), words.len});
    tn_buf_puts(&shown, "}");
  }
  puts(tn_buf_cstr(&shown));
  tn_buf_fini(&out);
  tn_buf_fini(&shown);
  tn_buf_fini(&words);
  tn_diags_fini(&diags);
  tn_arena_fini(&arena);
}

int main(void) {
  char *text = NULL;
  size_t room = 0;
  for (ssize_t n; (n = getline(&text, &room, stdin)) > 0; fflush(stdout)) line((tn_str){text, (uint64_t)n});
  free(text);
  return 0;
}
