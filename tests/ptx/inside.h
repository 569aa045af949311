/* inside.h - decoded modules and the state of a launch, between the files of the interpreter. */
#ifndef PTX_INSIDE_H
#define PTX_INSIDE_H
#include "tests/ptx/ptx.h"

/* ---- decoded code
 * ------------------------------------------------------------------------------------------------ */
typedef enum ptx_type {
  PT_none,
#define PTX_TYPE(id, bytes, cls) PT_##id,
#include "tests/ptx/types.def"
#undef PTX_TYPE
  PT_COUNT
} ptx_type;
typedef enum ptx_mod {
#define PTX_MOD(id, text) PM_##id,
#include "tests/ptx/mods.def"
#undef PTX_MOD
  PM_COUNT
} ptx_mod;
typedef enum ptx_opcode {
#define PTX_OP(name, handler, least, most, types, mods) PO_##name,
#include "tests/ptx/ops.def"
#undef PTX_OP
  PO_COUNT
} ptx_opcode;
typedef enum ptx_space { PS_generic, PS_global, PS_shared, PS_local, PS_param, PS_const } ptx_space;

extern const char *const ptx_type_names[PT_COUNT];
extern const uint8_t ptx_type_bytes[PT_COUNT];
extern const char ptx_type_class[PT_COUNT];

/* Special registers: PTX_SREG(id, text). */
typedef enum ptx_sreg {
#define PTX_SREG(id, text) PR_##id,
#include "tests/ptx/sregs.def"
#undef PTX_SREG
  PR_COUNT
} ptx_sreg;

typedef enum ptx_kind {
  PK_REG,
  PK_IMM,
  PK_SPECIAL,
  PK_SINK,
  PK_LIST,
  PK_ADDRESS,
  PK_LABEL,
  PK_SYMBOL
} ptx_kind;
/* ADDRESS: [base + offset]: base a register (reg >= 0) or none; offset has a symbol's address in it; `count`
 * items of coordinates behind a comma. SYMBOL: its address as a number, in `value`. */
typedef struct ptx_arg {
  uint8_t kind, negated; /* negated: !%p */
  uint8_t space;         /* SYMBOL, ADDRESS of one: ptx_space */
  int32_t reg;           /* REG, ADDRESS; SPECIAL: ptx_sreg; LABEL: index of the instruction */
  int32_t also;          /* %p|%q: the second register; -1: none */
  uint64_t value;        /* IMM, SYMBOL, offset of ADDRESS */
  uint8_t relative;      /* the value counts from the CTA's shared (or the thread's local) memory */
  uint16_t count;        /* LIST, ADDRESS */
  struct ptx_arg *items;
} ptx_arg;

typedef struct ptx_ins ptx_ins;
typedef struct ptx_warp ptx_warp;
/* Runs the instruction for the lanes of `mask`. A fault goes to the machine (ptx_stop). */
typedef void (*ptx_handler)(ptx_warp *w, const ptx_ins *i, uint32_t mask);

enum { PTX_MAX_ARGS = 9, PTX_MAX_TYPES = 4 };
struct ptx_ins {
  uint8_t op, ntypes, type[PTX_MAX_TYPES], compare; /* compare: ptx_mod of setp */
  uint8_t space, nargs;
  uint8_t vector;     /* v2, v4, v8; 1: none */
  uint8_t collective; /* lanes meet here first: PC_* */
  int32_t guard;      /* register of @%p; -1: none */
  uint8_t guard_not;
  uint64_t mods[(PM_COUNT + 63) / 64];
  uint32_t m, n, k; /* of a shape */
  uint32_t line;
  const char *text; /* for messages */
  ptx_arg args[PTX_MAX_ARGS];
  ptx_handler run;
};
enum {
  PC_NONE,
  PC_MASK, /* the lanes that the last operand names */
  PC_WARP, /* all lanes of the warp that have not ended */
};
static inline bool ptx_has(const ptx_ins *i, ptx_mod m) { return i->mods[m / 64] >> (m % 64) & 1; }

typedef struct ptx_symbol {
  const char *name;
  uint8_t space;
  uint64_t address, bytes; /* address: in its space */
} ptx_symbol;

struct ptx_kernel {
  const ptx_module *module;
  ptx_kernel_info info;
  ptx_ins *code;
  uint32_t count;
  uint32_t registers;
  bool dynamic_shared; /* has an extern array */
};
struct ptx_module {
  tn_arena arena;
  ptx_memory *memory;
  uint32_t version, sm;
  char target[16];
  TN_VEC(ptx_symbol) symbols; /* of the module */
  TN_VEC(ptx_kernel *) kernels;
};

/* lex.c */
typedef enum ptx_token_kind { TK_END, TK_WORD, TK_NUMBER, TK_STRING, TK_PUNCT } ptx_token_kind;
typedef struct ptx_token {
  ptx_token_kind kind;
  const char *text;
  uint32_t len, line;
  uint64_t value;  /* NUMBER: bits; a float literal of 32 bits is in the low half */
  uint8_t literal; /* NUMBER: 'i', 'f' (32 bits), 'd' */
} ptx_token;
typedef struct ptx_lexer {
  const char *at, *end;
  uint32_t line;
} ptx_lexer;
/* false: *why is static text. */
bool ptx_lex(ptx_lexer *l, ptx_token *t, const char **why);

/* check.c: what combinations of types and modifiers mean; NULL: fine, else what is wrong (static text).
 * version: of PTX, 80 for 8.0. */
const char *ptx_check(ptx_ins *i, uint32_t sm, uint32_t version);

/* ---- the machine
 * ------------------------------------------------------------------------------------------------- */
enum { PTX_MAX_WARPS = 32, PTX_MAX_GROUPS = PTX_LANES, PTX_BARRIERS = 16 };
#define PTX_SHARED_WINDOW 0x0100000000000000ull
#define PTX_LOCAL_WINDOW 0x0200000000000000ull
#define PTX_PARAM_WINDOW 0x0300000000000000ull
#define PTX_SHARED_RANK 24 /* bits of an address in shared memory below the CTA's rank in its cluster */

typedef enum ptx_wait { PW_NONE, PW_LANES, PW_BARRIER, PW_CLUSTER, PW_MBARRIER } ptx_wait;
typedef struct ptx_group { /* lanes at one place */
  uint32_t pc, mask;
  uint8_t wait;
  uint32_t barrier;    /* PW_BARRIER, PW_MBARRIER: which */
  uint32_t generation; /* of the barrier that it waits for */
} ptx_group;

typedef struct ptx_copy { /* of cp.async and bulk copies, until somebody waits */
  uint64_t from, to;      /* global or shared, by the instruction */
  uint32_t bytes, filled; /* `filled` of them come from memory, the rest are zeros */
  uint32_t group;
  uint8_t lane;
} ptx_copy;
typedef struct ptx_cta ptx_cta;
typedef struct ptx_machine ptx_machine;
struct ptx_warp {
  ptx_machine *machine;
  ptx_cta *cta;
  uint32_t index, number; /* in the CTA, in the gang */
  uint32_t alive;         /* lanes that have not ended */
  uint64_t *regs;         /* [registers][32] */
  ptx_group groups[PTX_MAX_GROUPS];
  uint32_t ngroups;
  ptx_group *now;              /* that runs */
  uint32_t cluster_generation; /* of the cluster's barrier when this warp arrived */
  uint32_t carry;              /* CC.CF by lane */
  const ptx_ins *tried;        /* the try_wait that was false last, of which barrier and phase (plus 1) */
  uint32_t tried_barrier, tried_phase;
  uint32_t *clock;                /* [nclocks]; NULL without race checks */
  TN_VEC(ptx_copy) copies;        /* of cp.async, by group of each lane, oldest first */
  uint32_t group_open[PTX_LANES]; /* number of the group that is being filled */
  struct ptx_products *products;  /* wgmma.c; NULL: none yet */
};

typedef struct ptx_barrier {
  uint32_t arrived, expected, generation;
  uint32_t
      *clock; /* [2][nclocks]: what those know that arrived in this phase and before; and in phases before */
  uint32_t ands, ors, sum;                /* of bar.red: of the phase that gathers */
  uint32_t last_ands, last_ors, last_sum; /* of the one before */
} ptx_barrier;

struct ptx_cta {
  uint32_t id[3], rank, first_warp; /* rank in the cluster; first_warp: in the gang */
  uint8_t *shared, *written;        /* written: one byte per byte, NULL without that check */
  struct ptx_touch *touch;          /* race.c */
  uint8_t *local;                   /* [threads][local bytes] */
  ptx_warp *warps;
  uint32_t nwarps, cluster; /* cluster: index in the gang */
  ptx_barrier barriers[PTX_BARRIERS];
};

struct ptx_machine {
  const ptx_kernel *kernel;
  const ptx_launch *launch;
  ptx_memory *memory;
  ptx_counters count;
  uint64_t shared_bytes, threads, steps, random;
  uint32_t cluster[3], grid_clusters[3];
  ptx_cta *ctas; /* of the gang that runs */
  uint32_t nctas, nwarps;
  uint32_t nclocks,
      landed; /* clocks: of the gang's warps, and one of all bulk copies, which counts landings */
  ptx_barrier *cluster_barriers;
  uint32_t nclusters;
  TN_VEC(struct ptx_mbarrier *) mbarriers; /* mbarrier.c: those in shared memory */
  TN_VEC(struct ptx_bulk *) flying;        /* bulk.c: copies that signal one */
  ptx_fault fault;
  char *error;
  const ptx_ins *at; /* now running */
  ptx_warp *warp;
};
/* Keeps the first fault: its words get kernel, CTA, warp and lane, line and text of the instruction. lane -1:
 * the warp. */
void ptx_stop(ptx_warp *w, ptx_fault f, int lane, const char *fmt, ...) TN_PRINTF(4, 5);
uint64_t ptx_random(ptx_machine *m);

/* memory.c */
typedef struct ptx_place { /* bytes somewhere */
  uint8_t *data;
  ptx_space space;
  ptx_cta *cta;    /* SHARED: whose */
  uint64_t offset; /* in that memory */
} ptx_place;
/* Resolves an address of a space for one lane and checks bounds, alignment, and what the flags ask for. NULL
 * data: a fault was raised. write: 0 reads, 1 writes, 2 both. */
ptx_place ptx_resolve(ptx_warp *w, ptx_space space, uint64_t address, uint64_t bytes, uint64_t align,
                      int lane, int write);
/* Of asynchronous copies: no check of races. */
uint8_t *ptx_resolve_quiet(ptx_warp *w, ptx_space space, uint64_t address, uint64_t bytes, bool write);
uint64_t ptx_address(ptx_warp *w, const ptx_arg *a, uint32_t lane); /* of an ADDRESS operand */

/* machine.c: lanes of the running group go on at `pc` (others stay where the group goes). */
void ptx_split(ptx_warp *w, uint32_t lanes, uint32_t pc);
/* The running group waits. */
void ptx_wait_for(ptx_warp *w, ptx_wait why, uint32_t barrier, uint32_t generation);
/* sync.c: whether a group that waits may go on; barriers that complete because lanes ended. */
bool ptx_may_go(ptx_warp *w, const ptx_group *g);
void ptx_settle(const ptx_machine *m, ptx_cta *cta);
uint32_t ptx_members(ptx_warp *w, const ptx_ins *i, uint32_t mask);                /* lanes that must meet */
ptx_cta *ptx_cta_of_rank(const ptx_cta *cta, const ptx_machine *m, uint64_t rank); /* NULL: none */

/* mbarrier.c, bulk.c */
bool ptx_mbarrier_passed(ptx_machine *m, uint32_t index, uint32_t phase);
bool ptx_bulk_land(ptx_machine *m, int mbarrier); /* one copy that signals it (-1: any); false: none */
void ptx_async_end(ptx_machine *m);
void ptx_wgmma_end(ptx_warp *w);

/* race.c */
void ptx_race_begin(ptx_machine *m);
void ptx_race_check(ptx_warp *w, ptx_cta *cta, uint64_t offset, uint64_t bytes, int lane, bool write);
/* A bulk copy that w has asked for, when it knew `known`, is written as landing number m->landed. */
void ptx_race_land(ptx_warp *w, const uint32_t *known, ptx_cta *cta, uint64_t offset, uint64_t bytes);
void ptx_clock_tick(ptx_warp *w);
/* All that `from` knows, `into` knows; NULLs are left alone. */
void ptx_clock_join(const ptx_machine *m, uint32_t *into, const uint32_t *from);
void ptx_race_end(ptx_machine *m);

/* ---- values
 * -------------------------------------------------------------------------------------------------------- */
uint64_t ptx_special(ptx_warp *w, uint32_t which, uint32_t lane);
static inline uint64_t ptx_get(ptx_warp *w, const ptx_arg *a, uint32_t lane) {
  uint64_t v;
  switch (a->kind) {
  case PK_REG: v = w->regs[(uint32_t)a->reg * PTX_LANES + lane]; break;
  case PK_SPECIAL: v = ptx_special(w, (uint32_t)a->reg, lane); break;
  case PK_SYMBOL: v = ptx_address(w, a, lane); break;
  default: v = a->value;
  }
  return a->negated ? !(v & 1) : v;
}
static inline void ptx_put(ptx_warp *w, const ptx_arg *a, uint32_t lane, uint64_t v) {
  if (a->kind == PK_REG) w->regs[(uint32_t)a->reg * PTX_LANES + lane] = v;
}
static inline float ptx_f32(uint64_t bits) {
  union {
    uint32_t u;
    float f;
  } x = {(uint32_t)bits};
  return x.f;
}
static inline uint64_t ptx_bits32(float f) {
  union {
    float f;
    uint32_t u;
  } x = {f};
  return x.u;
}
static inline double ptx_f64(uint64_t bits) {
  union {
    uint64_t u;
    double f;
  } x = {bits};
  return x.f;
}
static inline uint64_t ptx_bits64(double f) {
  union {
    double f;
    uint64_t u;
  } x = {f};
  return x.u;
}
#define PTX_EACH(l, mask)                                                                                    \
  for (uint32_t l##_left = (mask), l; l##_left && (l = (uint32_t)__builtin_ctz(l##_left), true);             \
       l##_left &= l##_left - 1)

/* A float of a type as a double and back; `how`: rounding as PM_rn, rz, rm, rp, rna. */
double ptx_float_get(ptx_type t, uint64_t bits);
uint64_t ptx_float_put(ptx_type t, double x, ptx_mod how, bool saturate_finite);

#define PTX_OP(name, handler, least, most, types, mods)                                                      \
  void ptx_run_##handler(ptx_warp *, const ptx_ins *, uint32_t);
#include "tests/ptx/ops.def"
#undef PTX_OP
#endif
