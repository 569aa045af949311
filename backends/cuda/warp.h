/* warp.h - what a thread has to do with others: who it is, barriers, shuffles, votes, reductions,
 * asynchronous copies, matrix products. Every call that a whole warp makes is convergent: the one helper here
 * adds it. */
#ifndef TN_CUDA_WARP_H
#define TN_CUDA_WARP_H
#include "backends/cuda/kernel.h"

/* ---- calls ---- */
/* An intrinsic that all lanes of a warp make together ("llvm.nvvm.mma..."), marked convergent. overloads as
 * in ll_call. */
ll_val tn_cuda_call(tn_cuda_kernel *k, const char *intrinsic, const ll_type *overloads, unsigned n,
                    ll_val *args, unsigned nargs);
/* Inline PTX with side effects, convergent; `ret` may be a struct. constraints as LLVM's. */
ll_val tn_cuda_asm(tn_cuda_kernel *k, ll_type ret, const char *text, const char *constraints, ll_val *args,
                   unsigned nargs);
/* The same without side effects and not convergent: arithmetic. */
ll_val tn_cuda_asm_pure(tn_cuda_kernel *k, ll_type ret, const char *text, const char *constraints,
                        ll_val *args, unsigned nargs);

/* ---- who: i32 ---- */
ll_val tn_cuda_thread(tn_cuda_kernel *k);               /* in the block */
ll_val tn_cuda_lane(tn_cuda_kernel *k);                 /* thread % 32 */
ll_val tn_cuda_warp(tn_cuda_kernel *k);                 /* thread / 32, the same for all lanes (shuffled) */
ll_val tn_cuda_block(tn_cuda_kernel *k, uint32_t axis); /* of the grid */
ll_val tn_cuda_i64(tn_cuda_kernel *k, ll_val i32);      /* of a number >= 0 */
/* Position of this thread in the grid's x: i64, block * threads + thread. */
ll_val tn_cuda_position(tn_cuda_kernel *k, uint32_t threads);

/* ---- together ---- */
void tn_cuda_barrier(tn_cuda_kernel *k);                                   /* all threads of the block */
void tn_cuda_barrier_of(tn_cuda_kernel *k, uint32_t id, uint32_t threads); /* named, 1 .. 15 */
void tn_cuda_warp_sync(tn_cuda_kernel *k);
/* Until the phase of that parity (i32) of an mbarrier in shared memory is over. sm_90 and later. */
void tn_cuda_await(tn_cuda_kernel *k, ll_val barrier, ll_val parity);
ll_val tn_cuda_shuffle_xor(tn_cuda_kernel *k, ll_val v,
                           uint32_t mask); /* any first-class scalar of up to 64 bits */
ll_val tn_cuda_shuffle(tn_cuda_kernel *k, ll_val v, ll_val lane);    /* lane: i32 */
ll_val tn_cuda_shuffle_up(tn_cuda_kernel *k, ll_val v, uint32_t by); /* lanes below `by` keep their own */
ll_val tn_cuda_ballot(tn_cuda_kernel *k, ll_val i1);                 /* i32 */
ll_val tn_cuda_any(tn_cuda_kernel *k, ll_val i1);                    /* i1: of the warp */

/* Combines v over `width` neighbouring lanes (a power of 2 up to 32), in a fixed tree; all get the result. */
typedef ll_val (*tn_cuda_combine)(tn_ll *e, ll_val a, ll_val b);
ll_val tn_cuda_warp_reduce(tn_cuda_kernel *k, ll_val v, uint32_t width, tn_cuda_combine fn);
/* The same over all threads of the block, through `room`: shared memory of (threads / 32) * 8 bytes. All get
 * the result. Has barriers at its begin and its end, so room can be used again. */
ll_val tn_cuda_block_reduce(tn_cuda_kernel *k, ll_val v, uint32_t threads, ll_val room, tn_cuda_combine fn);
ll_val tn_cuda_fadd(tn_ll *e, ll_val a, ll_val b);
ll_val tn_cuda_fmax(tn_ll *e, ll_val a, ll_val b); /* b where a is NaN or not larger */

/* ---- f32 functions in hardware: 2 units in the last place or so, no subnormals ---- */
ll_val tn_cuda_ex2(tn_cuda_kernel *k, ll_val x); /* 2^x */
ll_val tn_cuda_rcp(tn_cuda_kernel *k, ll_val x);

/* ---- memory ---- */
ll_type tn_cuda_ptr(tn_cuda_kernel *k, unsigned space);   /* 1: global, 3: shared */
ll_val tn_cuda_global(tn_cuda_kernel *k, ll_val generic); /* as a pointer of addrspace(1) */
/* cp.async of 4, 8 or 16 bytes from global to shared; `valid` (i1, or NULL): else zeros are written and
 * nothing is read. Both at multiples of `bytes`. */
void tn_cuda_copy_async(tn_cuda_kernel *k, ll_val shared, ll_val global, uint32_t bytes, ll_val valid);
void tn_cuda_copy_commit(tn_cuda_kernel *k);
void tn_cuda_copy_wait(tn_cuda_kernel *k, uint32_t pending); /* until at most so many groups are under way */
/* ldmatrix of 1, 2 or 4 8x8 matrices of 16 bits; out: i32 each. row: this lane's row in shared memory. */
void tn_cuda_ldmatrix(tn_cuda_kernel *k, ll_val row, uint32_t count, bool transposed, ll_val *out);

/* ---- mma.sync ---- */
typedef enum tn_cuda_mma { TN_CUDA_MMA_F16, TN_CUDA_MMA_BF16, TN_CUDA_MMA_TF32, TN_CUDA_MMA_S8 } tn_cuda_mma;
/* d = a b + c, row by column, f32 (S8: i32) accumulators, in registers as the PTX manual lays them out:
 * F16, BF16: m16n8k16, a 4 x i32, b 2 x i32; TF32: m16n8k8, a 4 x i32, b 2 x i32; S8: m16n8k32, a 4, b 2.
 * c and d: 4 values; they may be the same array. */
void tn_cuda_mma_sync(tn_cuda_kernel *k, tn_cuda_mma kind, const ll_val *a, const ll_val *b, const ll_val *c,
                      ll_val *d);
ll_val tn_cuda_pack_bf16(tn_cuda_kernel *k, ll_val lo,
                         ll_val hi); /* two f32 to i32, rounded to nearest even */
ll_val tn_cuda_pack_f16(tn_cuda_kernel *k, ll_val lo, ll_val hi);
ll_val tn_cuda_tf32(tn_cuda_kernel *k, ll_val f32); /* cvt.rna.tf32: i32 */
#endif
