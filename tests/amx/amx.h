/* amx.h - the AMX instructions for machines without them: a handler of SIGILL decodes them, performs them as
 * the manual says, and goes on behind them. Tiles belong to a thread. What the manual forbids ends as it
 * would on the machine, in SIGILL or SIGSEGV, with words on stderr. */
#ifndef TN_TESTS_AMX_H
#define TN_TESTS_AMX_H
#include <stdbool.h>

#define AMX_FEATURES "amxtile,amxbf16,amxint8" /* what TENON_CPU_ASSUME should claim */

/* Does this machine have tiles (bf16 and 8-bit), and may this process use them? */
bool amx_native(void);
/* Installs the handler; what is no AMX instruction goes to the handler that was there. Twice: nothing. */
void amx_emulate(void);
/* The above where the machine has none, and TENON_CPU_ASSUME then claims them. */
void amx_provide(void);

#endif
