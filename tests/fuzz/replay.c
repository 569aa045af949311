/* replay.c - runs a fuzz target over every file below the folders that are named, without libFuzzer. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
static unsigned files;

static void replay_file(const char *path, size_t size) {
  FILE *f = size <= (1u << 20) ? fopen(path, "rb") : NULL;
  if (!f) return;
  uint8_t *data = malloc(size + 1);
  size_t n = data ? fread(data, 1, size, f) : 0;
  fclose(f);
  if (data) LLVMFuzzerTestOneInput(data, n);
  free(data);
  files++;
}

static void replay(const char *path) {
  struct stat st;
  if (stat(path, &st)) return;
  if (S_ISREG(st.st_mode)) {
    replay_file(path, (size_t)st.st_size);
    return;
  }
  DIR *d = S_ISDIR(st.st_mode) ? opendir(path) : NULL;
  for (struct dirent *e; d && (e = readdir(d));) {
    char sub[4096];
    if (e->d_name[0] == '.' || snprintf(sub, sizeof sub, "%s/%s", path, e->d_name) >= (int)sizeof sub)
      continue;
    replay(sub);
  }
  if (d) closedir(d);
}

int main(int argc, char **argv) {
  for (int i = 1; i < argc; i++) replay(argv[i]);
  printf("%u inputs replayed\n", files);
  return files == 0;
}
