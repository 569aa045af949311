/* usage.c - reads what ptxas -v prints. Per function, in this order: "Compiling entry function 'NAME' for
 * ...", the bytes of stack and spills, then "Used N registers, ...". */
#include "backends/cuda/assemble.h"
#include <stdlib.h>

/* The number before `words` in the line; 0: it does not say so. */
static uint32_t before(tn_str line, const char *words) {
  const char *at = memmem(line.ptr, line.len, words, strlen(words)), *digits = at;
  while (digits && digits > line.ptr && digits[-1] >= '0' && digits[-1] <= '9') digits--;
  return digits && digits < at ? (uint32_t)strtoul(digits, NULL, 10) : 0;
}

/* The name between quotes behind `words`. */
static bool named(tn_str line, const char *words, char *out, size_t size) {
  const char *at = memmem(line.ptr, line.len, words, strlen(words)), *end;
  if (!at) return false;
  at += strlen(words);
  end = memchr(at, '\'', line.len - (uint64_t)(at - line.ptr));
  if (!end) return false;
  snprintf(out, size, "%.*s", (int)(end - at), at);
  return true;
}

uint32_t tn_cuda_usage_of(tn_str log, void (*each)(void *user, const tn_cuda_usage *u), void *user) {
  tn_cuda_usage u = {0};
  uint32_t slow = 0;
  for (const char *p = log.ptr, *end = p + log.len, *next; p < end; p = next + 1) {
    next = memchr(p, '\n', (size_t)(end - p));
    if (!next) next = end;
    tn_str line = {p, (uint64_t)(next - p)};
    slow += memmem(p, line.len, "(C75", 4) != NULL;
    if (named(line, "Compiling entry function '", u.function, sizeof u.function)) {
      u.registers = u.spills = u.stack = u.shared = 0;
    } else if (memmem(p, line.len, "bytes stack frame", 17)) {
      u.stack = before(line, " bytes stack frame");
      u.spills = before(line, " bytes spill stores") + before(line, " bytes spill loads");
    } else if (*u.function && memmem(p, line.len, ": Used ", 7)) {
      u.registers = before(line, " registers");
      u.shared = before(line, " bytes smem");
      if (each) each(user, &u);
      *u.function = 0;
    }
  }
  return slow;
}
