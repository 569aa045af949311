/* trailer.h - how an artefact carries its data: behind the ELF image come, each at a multiple of the page
 * size, the step program and the packed weights, and as the file's last bytes this trailer. An external
 * weight file is the packed weights and a trailer. Shared by the runtime (reads) and the link step (writes).
 */
#ifndef TN_TRAILER_H
#define TN_TRAILER_H
#include <stdint.h>

#define TN_TRAILER_MAGIC "tnartef\1"
#define TN_TRAILER_PAGE 4096u

enum { TN_TRAILER_LIBRARY = 1, TN_TRAILER_WEIGHTS = 2 };
typedef struct tn_trailer {
  char magic[8];
  uint32_t kind, reserved;
  uint64_t program_offset, program_bytes;
  uint64_t program_hash; /* tn_hash_bytes over the whole program, seed 0: the model's identity */
  uint64_t weights_offset, weights_bytes; /* in this file; an external file's for a library that names one */
  uint64_t weights_hash;  /* of the packed weights: tells two files apart, whoever packed them says how */
  char weights_file[176]; /* name of the external weight file, which lies beside; "": embedded */
  uint64_t hash;          /* tn_hash_bytes over everything above, seed 0 */
} tn_trailer;
#endif
