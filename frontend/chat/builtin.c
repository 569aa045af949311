/* builtin.c - the templates of templates.def, by name. */
#include "frontend/chat/chat.h"

static const struct {
  const char *name;
  tn_str text;
} templates[] = {
#define TN_CHAT_TEMPLATE(name, text) {name, {text, sizeof(text) - 1}},
#include "frontend/chat/templates.def"
};

const char *tn_chat_builtin_name(uint32_t i) { return i < TN_COUNT(templates) ? templates[i].name : NULL; }

tn_str tn_chat_builtin(const char *name) {
  for (size_t i = 0; i < TN_COUNT(templates); i++)
    if (!strcmp(templates[i].name, name)) return templates[i].text;
  return (tn_str){NULL, 0};
}
