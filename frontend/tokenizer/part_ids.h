/* part_ids.h - the numbers of the parts of parts.def, as blobs hold them: NORMALIZER_nfc, SPLIT_.., DECODER_..,
 * MODEL_... */
#ifndef TN_TOKENIZER_PART_IDS_H
#define TN_TOKENIZER_PART_IDS_H

enum {
#define TN_TK_NORMALIZER(name, type, needs) NORMALIZER_##name,
#include "frontend/tokenizer/parts.def"
};
enum {
#define TN_TK_PRE_TOKENIZER(name, type, needs) SPLIT_##name,
#include "frontend/tokenizer/parts.def"
};
enum {
#define TN_TK_DECODER(name, type, needs) DECODER_##name,
#include "frontend/tokenizer/parts.def"
};
enum {
#define TN_TK_MODEL(name, type) MODEL_##name,
#include "frontend/tokenizer/parts.def"
};
#endif
