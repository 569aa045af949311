/* progress.c - a progress bar on stderr for anything that takes more than a second. */
#include "tools/driver/driver.h"
#include <stdio.h>
#include <unistd.h>

void tn_progress_begin(tn_progress *p, bool on, const char *what) {
  *p = (tn_progress){what, tn_now(), 0, on && isatty(STDERR_FILENO)};
}

void tn_progress_step(tn_progress *p, uint64_t done, uint64_t total) {
  double now = p->on ? tn_now() : 0;
  if (!p->on || now - p->begin < 1 || now - p->shown < 0.1 || !total) return;
  int filled = (int)(30.0 * (double)done / (double)total);
  fprintf(stderr, "\r%s [%.*s%*s] %3.0f%% %.0fs", p->what, filled, "##############################",
          30 - filled, "", 100.0 * (double)done / (double)total, now - p->begin);
  p->shown = now;
}

void tn_progress_end(tn_progress *p) {
  if (p->shown > 0) fputs("\r\033[K", stderr);
  p->on = false;
}
