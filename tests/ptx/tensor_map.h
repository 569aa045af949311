/* tensor_map.h - what the fake driver writes into the 128 bytes of a CUtensorMap, and the interpreter reads.
 */
#ifndef PTX_TENSOR_MAP_H
#define PTX_TENSOR_MAP_H
#include <stdint.h>

#define PTX_TENSOR_MAP 0x7e4504a9u
typedef struct ptx_tensor_map {
  uint32_t mark, element; /* bytes of an element */
  uint8_t rank, swizzle;  /* swizzle: 0 none, 1 32 bytes, 2 64, 3 128 */
  uint16_t box[5];
  uint32_t reserved;
  uint64_t base, size[5], stride[4]; /* size: elements, the fastest first; stride: bytes, of dims 1 and on */
} ptx_tensor_map;
_Static_assert(sizeof(ptx_tensor_map) <= 128, "a CUtensorMap has 128 bytes");
#endif
