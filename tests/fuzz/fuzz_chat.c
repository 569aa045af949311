/* fuzz_chat.c - any bytes as a chat template: what parses runs over a conversation within small limits, and
 * gives UTF-8 or one error. */
#include "frontend/chat/chat.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char variables[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \"S\"}, {\"role\": \"user\", \"content\": "
    "\"\xc3\xa9 <b>\"},"
    "{\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"function\": {\"name\": \"f\", "
    "\"arguments\":"
    "{\"a\": [1, 2.5, true]}}}]}], \"add_generation_prompt\": true, \"bos_token\": \"<s>\", \"x\": -3}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const tn_chat_limits limits = {
      .steps = 200000, .output = 1 << 20, .memory = 16 << 20, .seconds = 5, .now = 1};
  tn_diags diags;
  tn_arena arena;
  tn_chat *chat;
  tn_json *v;
  tn_buf out = {0};
  tn_diags_init(&diags);
  tn_arena_init(&arena);
  if (tn_json_parse(&arena, tn_str_of(variables), "variables", &diags, &v)) abort();
  tn_status s = tn_chat_parse((tn_str){(const char *)data, size}, "fuzz", &diags, &chat);
  if ((s == TN_OK) != (chat != NULL)) abort();
  if (s == TN_OK) s = tn_chat_render(chat, v, &limits, &diags, &out);
  if ((s == TN_OK) != (diags.errors == 0) || diags.errors > 1 || (s && out.len)) abort();
  if (!tn_utf8_valid((tn_str){tn_buf_cstr(&out), out.len}, &(uint64_t){0})) abort();
  tn_chat_free(chat);
  tn_buf_fini(&out);
  tn_arena_fini(&arena);
  tn_diags_fini(&diags);
  return 0;
}
