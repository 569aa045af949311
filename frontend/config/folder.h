/* folder.h - the files of a model folder, which may come from anywhere: a name must be plain, and what it
 * leads to must lie in the folder. The one way out that is allowed is that of the Hugging Face cache, whose
 * `snapshots/REVISION/` holds links into `blobs/` of the same repository. */
#ifndef TN_FOLDER_H
#define TN_FOLDER_H
#include "frontend/config/config.h"

bool tn_folder_has(const char *folder, const char *name); /* a file of any kind, or a link */
/* Maps a file of the folder. `name` may have one folder in front ("1_Pooling/config.json"). Errors name it:
 * TN_NOT_FOUND, TN_INVALID (not a plain name, leads out of the folder), TN_UNAVAILABLE. */
tn_status tn_folder_map(const char *folder, const char *name, tn_diags *diags, tn_file *out);
/* Maps and parses a JSON file whose root must be of `kind`. */
tn_status tn_folder_json(tn_arena *arena, const char *folder, const char *name, tn_json_kind kind,
                         tn_diags *diags, tn_json **out);
#endif
