/* assemble.h - PTX to machine code with the toolkit's ptxas, where there is one. Without it the driver
 * assembles the PTX when a package is opened. */
#ifndef TN_CUDA_ASSEMBLE_H
#define TN_CUDA_ASSEMBLE_H
#include "backends/cuda/kernel.h"

/* What ptxas says about one function (-v). */
typedef struct tn_cuda_usage {
  char function[128];
  uint32_t registers, spills, stack, shared; /* spills, stack and static shared memory in bytes */
} tn_cuda_usage;

/* Assembles `ptx` for t. `ptxas`: its path; NULL: TENON_PTXAS, CUDA_HOME/bin, CUDA_PATH/bin and PATH are
 * looked at; "none": not wanted. `cache`: the folder of the object cache; NULL: none. Which ptxas ran, or why
 * the driver has to do it, is said to the host as a note. *cubin stays empty, with TN_OK, when there is no
 * ptxas to be found. *log: what ptxas printed,
 * nothing if the cache had the code. A ptxas that was named and is not there, or one that refuses
 * the text, is an error that names the function and its line. */
tn_status tn_cuda_assemble(tn_cuda *c, const tn_cuda_target *t, const char *ptx, const char *ptxas,
                           const char *cache, tn_buf *cubin, tn_buf *log);

/* Calls `each` for every function of a log of ptxas -v. Returns how many lines are warnings that cost speed
 * (C75xx: wgmma that is waited for one by one, setmaxnreg that is ignored). */
uint32_t tn_cuda_usage_of(tn_str log, void (*each)(void *user, const tn_cuda_usage *u), void *user);
#endif
