/* ptx.h - an interpreter of PTX (the PTX ISA 8 and 9 manuals), so that kernels run where no GPU is. Strict: a
 * token, type, modifier or combination that it does not know is an error with its line, never ignored.
 *
 * Warps run in lockstep; lanes that part are groups with a pc and a mask, and a group waits at a warp-wide
 * instruction until the lanes that it names are there. The CTAs of a cluster run together, clusters one after
 * the other (or, with `resident`, all together, for barriers over the grid). cp.async, bulk copies and wgmma
 * write when they are waited for, so that a missing wait shows.
 *
 * What it cannot tell: time; weak memory order between CTAs; fences between proxies; what the sums of tensor
 * cores round to (here: f32, in order of k). */
#ifndef PTX_H
#define PTX_H
#include "ir/base/base.h"

enum { PTX_LANES = 32, PTX_ERROR = 512, PTX_MAX_PARAMS = 64 };

typedef struct ptx_module ptx_module;
typedef struct ptx_kernel ptx_kernel;
typedef struct ptx_memory ptx_memory;

/* ---- device memory: addresses of a range of its own, with gaps between allocations
 * ------------------------------- */
/* `device`: keeps the addresses of several memories apart. */
ptx_memory *ptx_memory_new(uint32_t device);
void ptx_memory_free(ptx_memory *m);
uint64_t ptx_alloc(ptx_memory *m, uint64_t bytes); /* 256-byte aligned, poisoned; 0: no memory */
bool ptx_release(ptx_memory *m, uint64_t address); /* false: not the start of an allocation */
/* The host bytes of a device range; NULL: it is not inside one allocation. `write` marks them as written. */
void *ptx_host(ptx_memory *m, uint64_t address, uint64_t bytes, bool write);
/* The allocation that holds the address; false: none. */
bool ptx_range_of(ptx_memory *m, uint64_t address, uint64_t *base, uint64_t *bytes);

/* ---- modules
 * ------------------------------------------------------------------------------------------------------- */
/* Global variables are allocated in `m`. error: PTX_ERROR bytes, "line N: words". NULL: not valid, or not
 * supported. */
ptx_module *ptx_load(ptx_memory *m, const char *text, uint64_t len, char *error);
void ptx_unload(ptx_module *m);
ptx_kernel *ptx_find(const ptx_module *m, const char *name);
bool ptx_global(const ptx_module *m, const char *name, uint64_t *address, uint64_t *bytes);
const char *ptx_target(const ptx_module *m); /* "sm_90a" */
uint32_t ptx_version(const ptx_module *m);   /* 80: 8.0 */

typedef struct ptx_kernel_info {
  const char *name;
  uint32_t nparams;
  uint32_t offset[PTX_MAX_PARAMS], size[PTX_MAX_PARAMS], param_bytes;
  uint64_t shared_bytes, local_bytes;        /* static */
  uint32_t registers;                        /* virtual ones */
  uint32_t required[3], most[3], cluster[3]; /* .reqntid, .maxntid, .reqnctapercluster; 0: not said */
} ptx_kernel_info;
void ptx_kernel_get(const ptx_kernel *k, ptx_kernel_info *out);

/* ---- launching
 * ----------------------------------------------------------------------------------------------------- */
typedef struct ptx_counters {
  uint64_t instructions, lane_instructions; /* of warps; of lanes */
  uint64_t global_requests, global_sectors; /* warp-wide accesses; 32-byte sectors that they touch */
  uint64_t shared_requests, shared_wavefronts;
  uint64_t mma, barriers, divergences;
} ptx_counters;

enum {
  PTX_CHECK_RACES =
      1, /* two warps touch a byte of shared memory, one of them writing, with nothing in between */
  PTX_CHECK_UNWRITTEN = 2, /* bytes of shared or global memory are read that nobody has written */
  PTX_RESIDENT = 4         /* all CTAs run together */
};
typedef struct ptx_launch {
  uint32_t grid[3], block[3], cluster[3]; /* cluster 0: the kernel's, or 1 */
  uint64_t dynamic_shared, shared_limit;  /* limit 0: 227 KB */
  const void *params;                     /* param_bytes of the kernel */
  uint32_t flags;
  uint64_t seed;       /* not 0: warps run in random turns, and what is asynchronous ends at a random time */
  uint64_t step_limit; /* warp instructions; 0: 4e9 */
} ptx_launch;

typedef enum ptx_fault {
  PTX_OK,
  PTX_BAD_LAUNCH,  /* sizes that the kernel or the device does not allow */
  PTX_BAD_ADDRESS, /* outside of every allocation, or of the wrong space */
  PTX_MISALIGNED,
  PTX_DEADLOCK,
  PTX_RACE,
  PTX_UNWRITTEN,
  PTX_TRAP,
  PTX_ILLEGAL, /* what the manual calls undefined: lanes missing from a warp-wide instruction, wrong
                  descriptors */
  PTX_LIMIT,
  PTX_NO_MEMORY
} ptx_fault;
/* error: PTX_ERROR bytes: kernel, CTA, thread, line and the instruction's text. counters are added to; may be
 * NULL. */
ptx_fault ptx_run(const ptx_kernel *k, const ptx_launch *l, ptx_counters *counters, char *error);
const char *ptx_fault_name(ptx_fault f);
#endif
