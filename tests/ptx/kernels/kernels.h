/* kernels.h - what the test kernels share: address spaces and names of NVVM builtins. Compiled by clang for
 * nvptx64. */
#define GLOBAL __attribute__((address_space(1)))
#define SHARED __attribute__((address_space(3)))
#define KERNEL __attribute__((nvptx_kernel))
#define TID __nvvm_read_ptx_sreg_tid_x()
#define BLOCK __nvvm_read_ptx_sreg_ntid_x()
#define CTA __nvvm_read_ptx_sreg_ctaid_x()
#define GRID __nvvm_read_ptx_sreg_nctaid_x()
#define SYNC() __nvvm_bar_sync(0)
#define FULL (~0u)
static inline float shuffle(float x, int mask) { return __nvvm_shfl_sync_bfly_f32(FULL, x, mask, 31); }
