/* text.c - texts of cases that are made by printf. */
#include "tests/kernels/case.h"
#include "tools/conform/world.h"
#include <stdio.h>

const char *kernel_text(const char *fmt, ...) {
  static char texts[8][8192];
  static int next;
  char *t = texts[next++ % 8];
  va_list ap;
  va_start(ap, fmt);
  int n = vsnprintf(t, sizeof texts[0], fmt, ap);
  va_end(ap);
  TN_NEED(n < (int)sizeof texts[0]);
  return t;
}
