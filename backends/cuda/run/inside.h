/* inside.h - what the files of the run side share. A device retains the primary context of its GPU, which
 * other libraries of the process may use as well, and makes it current only during a call. */
#ifndef TN_CUDA_INSIDE_H
#define TN_CUDA_INSIDE_H
#include "backends/cuda/run/driver.h"
#include "backends/cuda/run/reader.h"
#include <pthread.h>

enum {
  TN_CUDA_STAGING = 8 << 20, /* bytes of each of the two buffers that weights go through */
  TN_CUDA_SLOTS = 8,         /* of a queue's ring */
  TN_CUDA_SLOT = 32 << 10,   /* bytes of each, at first */
  TN_CUDA_GRAPHS = 8,        /* runs that a queue keeps as graphs */
  TN_CUDA_SEEN = 4,          /* runs that it saw once and would know again */
};

struct tn_device {
  tn_cuda_driver driver;
  const tn_cuda_device *info;
  char spec[24], arch[16], code[48]; /* code: which image was taken: "cubin sm_90a" */
  CUcontext context;                 /* NULL: not retained */
  tn_cuda_view view;                 /* of the package that was taken */
  CUmodule module;
  CUfunction *functions; /* one per launch of the package */
  /* loads, one at a time */
  pthread_mutex_t lock;
  CUstream copies;
  void *staging[2]; /* pinned; NULL: not needed yet */
  CUevent copied[2];
};

/* device.c */
/* Makes the device's context current; every call that succeeded is undone by tn_cuda_leave. A child of a fork
 * gets CUDA_ERROR_NOT_INITIALIZED. */
CUresult tn_cuda_enter(tn_device *d);
void tn_cuda_leave(tn_device *d);
bool tn_cuda_forked(const tn_device *d);
/* Puts the words where the caller wants them, frees them; gives s. */
tn_status tn_cuda_tell(tn_status s, tn_buf *why, char *error, uint64_t error_size);

/* choose.c: loads the image of the packages that suits the device best; d->context is current. */
tn_status tn_cuda_choose(tn_device *d, const tn_bytes *packages, uint32_t n, tn_buf *why);

/* memory.c */
tn_status tn_cuda_alloc(tn_device *d, uint64_t bytes, const char *what, void **out, char *error,
                        uint64_t error_size);
void tn_cuda_free(tn_device *d, void *p);
tn_status tn_cuda_load(tn_device *d, void *to, const void *from, uint64_t bytes, char *error,
                       uint64_t error_size);
void tn_cuda_staging_free(tn_device *d);

/* ---- queues ---- */
/* Pinned memory that copies to the device come from, used in turn. */
typedef struct tn_cuda_ring {
  char *memory;   /* TN_CUDA_SLOTS times `bytes` */
  uint64_t bytes; /* of a slot */
  CUevent read[TN_CUDA_SLOTS];
  bool busy[TN_CUDA_SLOTS]; /* its event was recorded */
  uint32_t next;
} tn_cuda_ring;

/* A launch of a run: words[first ..] are its grid (x, then y and z), then its parameters in order, which are
 * addresses, then offset, sizes and strides of its tensor maps. */
typedef struct tn_cuda_step {
  uint32_t plan, loc; /* loc: position in the run's `locs` */
  uint64_t first;
} tn_cuda_step;
typedef TN_VEC(uint64_t) tn_cuda_words_vec;

/* A run that may come again: what it did, word by word, and the graph of it. */
typedef struct tn_cuda_kept {
  tn_cuda_words_vec words;
  CUgraphExec graph; /* NULL: seen once */
  bool never;        /* it cannot be recorded */
  uint64_t used;     /* the queue's clock; 0: empty */
} tn_cuda_kept;

struct tn_queue {
  tn_device *d;
  CUstream stream;
  bool own;                /* the stream */
  bool one_by_one, graphs; /* wait after each launch; record runs */
  CUstream recorder;       /* NULL: nothing recorded yet */
  tn_cuda_ring ring;
  /* numbers of the last run, on the device and as they were uploaded */
  CUdeviceptr numbers;
  int64_t *uploaded;
  uint64_t room;      /* of both, in bytes */
  uint32_t nuploaded; /* 0: not known */
  /* the run between begin and end; it stays until the next begins */
  bool running;
  const int64_t *from; /* begin's numbers: positions only, not read after begin */
  uint32_t nnumbers;
  TN_VEC(tn_cuda_step) steps;
  tn_cuda_words_vec words;
  tn_buf locs;
  int64_t *values; /* of a launch's expressions */
  tn_cuda_kept kept[TN_CUDA_GRAPHS + TN_CUDA_SEEN];
  uint64_t clock, runs, eager, recorded, replayed;
  char error[2048];
};

/* queue.c */
tn_status tn_cuda_queue_new(tn_device *d, void *stream, tn_queue **out, char *error, uint64_t error_size);
void tn_cuda_queue_free(tn_queue *q);
tn_status tn_cuda_upload(tn_queue *q, void *to, const void *from, uint64_t bytes);
tn_status tn_cuda_download(tn_queue *q, void *to, const void *from, uint64_t bytes);
tn_status tn_cuda_zero(tn_queue *q, void *to, uint64_t bytes);
tn_status tn_cuda_wait(tn_queue *q);
/* For the other files: the words of a failure. `doing` is said first. */
tn_status tn_cuda_failed(tn_queue *q, CUresult r, const char *doing);
tn_status tn_cuda_refuse(tn_queue *q, tn_status s, const char *fmt, ...) TN_PRINTF(3, 4);
tn_status tn_cuda_idle(tn_queue *q); /* TN_PRECONDITION between begin and end, or behind a fork */
/* Copies bytes, at most a slot, to the device by way of the ring. The context is current. */
CUresult tn_cuda_ring_copy(tn_queue *q, CUdeviceptr to, const void *from, uint64_t bytes);
CUresult tn_cuda_ring_reserve(tn_queue *q, uint64_t bytes);

/* run.c */
tn_status tn_cuda_begin(tn_queue *q, const int64_t *numbers, uint32_t n);
tn_status tn_cuda_launch(tn_queue *q, uint32_t kernel, void *const *bufs, uint32_t nbufs, const int64_t *dims,
                         uint32_t ndims, void *scratch, const char *loc);
tn_status tn_cuda_end(tn_queue *q);
/* Puts the launches of the run on a stream. The context is current. */
tn_status tn_cuda_launch_all(tn_queue *q, CUstream stream);

/* graph.c: what is kept of runs. The context is current. */
tn_status tn_cuda_run_again(tn_queue *q);
void tn_cuda_forget(tn_queue *q); /* all of them */
#endif
