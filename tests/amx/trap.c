/* trap.c - the handler. It goes on as long as AMX instructions follow each other, for a signal takes longer
 * than they do. Nothing in it allocates or locks. */
#include "tests/amx/amx.h"
#include "tests/amx/inside.h"
#include <cpuid.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

static _Thread_local amx_state state __attribute__((tls_model("initial-exec")));
static struct sigaction earlier;

static const int places[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                               REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

/* As if that signal had come and this handler were not there. */
static void pass_on(int number, const struct sigaction *to, siginfo_t *info, void *context) {
  if (to->sa_flags & SA_SIGINFO) {
    to->sa_sigaction(number, info, context);
  } else if (to->sa_handler != SIG_DFL && to->sa_handler != SIG_IGN) {
    to->sa_handler(number);
  } else {
    signal(number, SIG_DFL);
    raise(number);
  }
}

static void say(const char *why, uint64_t rip) {
  char line[160];
  const uint8_t *p = (const uint8_t *)(uintptr_t)rip;
  int n = snprintf(line, sizeof line, "amx: %s, at %#llx: %02x %02x %02x %02x %02x %02x\n", why,
                   (unsigned long long)rip, p[0], p[1], p[2], p[3], p[4], p[5]);
  if (n > 0 && write(STDERR_FILENO, line, (size_t)n) != n) return;
}

static void refuse(amx_fault f, const char *why, uint64_t rip, siginfo_t *info, void *context) {
  struct sigaction to = earlier;
  say(why, rip);
  if (f == AMX_GP) sigaction(SIGSEGV, NULL, &to);
  if (f == AMX_GP) info->si_signo = SIGSEGV;
  pass_on(f == AMX_GP ? SIGSEGV : SIGILL, &to, info, context);
}

static void on_illegal(int number, siginfo_t *info, void *context) {
  greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
  amx_registers r = {{0}, (uint64_t)g[REG_RIP]};
  amx_ins ins;
  const char *why = "no AMX instruction";
  (void)number;
  for (int i = 0; i < 16; i++) r.r[i] = (uint64_t)g[places[i]];
  if (!amx_decode(&r, &ins)) {
    refuse(AMX_UD, why, r.rip, info, context);
    return;
  }
  do {
    amx_fault f = amx_perform(&state, &ins, &why);
    if (f) {
      refuse(f, why, r.rip, info, context);
      return;
    }
    r.rip += ins.length;
    g[REG_RIP] = (greg_t)r.rip;
  } while (amx_decode(&r, &ins));
}

bool amx_native(void) {
  unsigned a, b, c, d;
  enum { TILE_STATES = 3 << 17, REQUEST_PERMISSION = 0x1023, TILE_DATA = 18, OSXSAVE = 1 << 27 };
  enum { WANTED = 1 << 22 | 1 << 24 | 1 << 25 };
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & OSXSAVE)) return false;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & WANTED) != WANTED) return false;
  __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
  return (a & TILE_STATES) == TILE_STATES && !syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA);
}

void amx_emulate(void) {
  static bool done;
  struct sigaction ours = {.sa_sigaction = on_illegal, .sa_flags = SA_SIGINFO | SA_NODEFER};
  if (done) return;
  done = true;
  sigemptyset(&ours.sa_mask);
  sigaction(SIGILL, &ours, &earlier);
}

void amx_provide(void) {
  if (amx_native()) return;
  amx_emulate();
  setenv("TENON_CPU_ASSUME", AMX_FEATURES, 1);
}
