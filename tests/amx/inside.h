/* inside.h - an instruction as decoded, and the registers of a thread. Names are the manual's: Intel SDM
 * volume 2, "Instruction set reference", and the exception classes AMX-E1 to AMX-E6. */
#ifndef TN_TESTS_AMX_INSIDE_H
#define TN_TESTS_AMX_INSIDE_H
#include <stddef.h>
#include <stdint.h>

enum { AMX_TILES = 8, AMX_ROWS = 16, AMX_LINE = 64 };

typedef enum amx_op {
  AMX_LDTILECFG,
  AMX_STTILECFG,
  AMX_TILERELEASE,
  AMX_TILEZERO,
  AMX_TILELOADD, /* TILELOADDT1 too: the hint changes nothing */
  AMX_TILESTORED,
  AMX_TDPBF16PS,
  AMX_TDPFP16PS,
  AMX_TDPBSSD,
  AMX_TDPBSUD,
  AMX_TDPBUSD,
  AMX_TDPBUUD
} amx_op;

typedef struct amx_ins {
  amx_op op;
  size_t length;
  unsigned reg, rm, vvvv; /* tiles: ModRM.reg, ModRM.rm, VEX.vvvv; 8 and more do not exist */
  uint8_t *at;            /* memory: base + displacement */
  int64_t stride;         /* memory: index << scale */
} amx_ins;

/* General registers by their numbers in instructions: rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15. */
typedef struct amx_registers {
  uint64_t r[16], rip;
} amx_registers;

typedef struct amx_config {
  uint8_t palette, start_row, reserved[14];
  uint16_t colsb[AMX_TILES], more_colsb[8];
  uint8_t rows[AMX_TILES], more_rows[8];
} amx_config;
_Static_assert(sizeof(amx_config) == 64, "as in memory");

typedef struct amx_state {
  int configured;
  amx_config config;
  uint8_t tile[AMX_TILES][AMX_ROWS][AMX_LINE];
} amx_state;

/* True (1) if an AMX instruction stands at rip; 0: it is another one; its bytes are read only as far as it
 * goes. */
int amx_decode(const amx_registers *g, amx_ins *ins);

typedef enum amx_fault { AMX_OK, AMX_UD, AMX_GP } amx_fault;
/* *why is set at a fault; the state is as before then. */
amx_fault amx_perform(amx_state *s, const amx_ins *ins, const char **why);

#endif
