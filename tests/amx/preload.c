/* preload.c - for LD_PRELOAD: a program and all it loads finds tiles, real or emulated. */
#include "tests/amx/amx.h"

__attribute__((constructor)) static void begin(void) { amx_provide(); }
