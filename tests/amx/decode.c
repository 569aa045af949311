/* decode.c - from bytes to an instruction. All of them have a VEX prefix of three bytes, map 0F38, W0, L0. */
#include "tests/amx/inside.h"
#include <string.h>

enum { NP, P66, PF3, PF2 };         /* VEX.pp */
enum { ANY_REG = -1 };              /* ModRM.reg is a tile */
enum { MEMORY, SIBMEM, REGISTERS }; /* what ModRM says: memory, memory with a SIB byte, registers */

static const struct {
  uint8_t opcode, pp, form;
  int8_t reg, rm; /* what stands there; ANY_REG: a tile */
  amx_op op;
} table[] = {{0x49, NP, MEMORY, 0, ANY_REG, AMX_LDTILECFG},
             {0x49, P66, MEMORY, 0, ANY_REG, AMX_STTILECFG},
             {0x49, NP, REGISTERS, 0, 0, AMX_TILERELEASE},
             {0x49, PF2, REGISTERS, ANY_REG, 0, AMX_TILEZERO},
             {0x4b, PF2, SIBMEM, ANY_REG, ANY_REG, AMX_TILELOADD},
             {0x4b, P66, SIBMEM, ANY_REG, ANY_REG, AMX_TILELOADD},
             {0x4b, PF3, SIBMEM, ANY_REG, ANY_REG, AMX_TILESTORED},
             {0x5c, PF3, REGISTERS, ANY_REG, ANY_REG, AMX_TDPBF16PS},
             {0x5c, PF2, REGISTERS, ANY_REG, ANY_REG, AMX_TDPFP16PS},
             {0x5e, PF2, REGISTERS, ANY_REG, ANY_REG, AMX_TDPBSSD},
             {0x5e, PF3, REGISTERS, ANY_REG, ANY_REG, AMX_TDPBSUD},
             {0x5e, P66, REGISTERS, ANY_REG, ANY_REG, AMX_TDPBUSD},
             {0x5e, NP, REGISTERS, ANY_REG, ANY_REG, AMX_TDPBUUD}};

typedef struct bytes {
  const uint8_t *p;
  size_t n;
} bytes;
static uint8_t byte(bytes *b) { return b->p[b->n++]; }
static int64_t displacement(bytes *b, unsigned size) {
  int32_t wide = 0;
  if (size == 1) return (int8_t)byte(b);
  if (size == 4) memcpy(&wide, b->p + b->n, 4), b->n += 4;
  return wide;
}

/* ModRM's memory operand; ext: the bits that VEX.X and VEX.B add. */
static void memory(bytes *b, const amx_registers *g, uint8_t modrm, unsigned x, unsigned base, amx_ins *ins) {
  unsigned mod = modrm >> 6, rm = modrm & 7, size = mod == 1 ? 1 : mod == 2 ? 4 : 0;
  uint64_t from = 0;
  int relative = 0;
  if (rm == 4) {
    uint8_t sib = byte(b);
    unsigned index = (sib >> 3 & 7) | x << 3;
    if (index != 4) ins->stride = (int64_t)(g->r[index] << (sib >> 6));
    if (mod == 0 && (sib & 7) == 5)
      size = 4;
    else
      from = g->r[(sib & 7) | base << 3];
  } else if (mod == 0 && rm == 5) {
    size = 4;
    relative = 1;
  } else {
    from = g->r[rm | base << 3];
  }
  from += (uint64_t)displacement(b, size);
  if (relative) from += g->rip + b->n;
  ins->at = (uint8_t *)(uintptr_t)from;
}

static int find(uint8_t opcode, unsigned pp, uint8_t modrm) {
  int form = modrm >> 6 == 3 ? REGISTERS : (modrm & 7) == 4 ? SIBMEM : MEMORY;
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    if (table[i].opcode != opcode || table[i].pp != pp) continue;
    int fits = table[i].form == MEMORY ? form != REGISTERS : table[i].form == form;
    fits = fits && (table[i].reg == ANY_REG || table[i].reg == (modrm >> 3 & 7));
    if (fits && (table[i].rm == ANY_REG || table[i].rm == (modrm & 7))) return (int)i;
  }
  return -1;
}

int amx_decode(const amx_registers *g, amx_ins *ins) {
  bytes b = {(const uint8_t *)(uintptr_t)g->rip, 0};
  if (byte(&b) != 0xc4) return 0;
  uint8_t p1 = byte(&b);
  if ((p1 & 31) != 2) return 0;
  uint8_t p2 = byte(&b), opcode = byte(&b);
  if (p2 & 0x84) return 0; /* W1, or 256 bits */
  unsigned r = !(p1 & 0x80), x = !(p1 & 0x40), base = !(p1 & 0x20), vvvv = ~p2 >> 3 & 15;
  if (opcode != 0x49 && opcode != 0x4b && opcode != 0x5c && opcode != 0x5e) return 0;
  uint8_t modrm = byte(&b);
  int i = find(opcode, p2 & 3, modrm);
  if (i < 0) return 0;
  int product = opcode == 0x5c || opcode == 0x5e, fixed = table[i].reg != ANY_REG;
  if (!product && vvvv) return 0; /* reserved: 1111 */
  if (fixed && r) return 0;
  if (table[i].rm != ANY_REG && base) return 0;
  *ins = (amx_ins){table[i].op, 0, (modrm >> 3 & 7) | r << 3, (modrm & 7) | base << 3, vvvv, NULL, 0};
  if (table[i].form != REGISTERS) memory(&b, g, modrm, x, base, ins);
  ins->length = b.n;
  return 1;
}
