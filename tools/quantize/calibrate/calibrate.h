/* calibrate.h - what the files behind `tenon quantize --calibration` share. The model's products are taken in
 * groups, one layer after the other: each is observed behind the layers before it as they are once they are
 * encoded, then encoded itself. What later products need of the model so far is kept in a file between
 * groups, so that every layer runs twice over the text, whatever their number. */
#ifndef TN_CALIBRATE_H
#define TN_CALIBRATE_H
#include "passes/quantize/gptq.h"
#include "tools/quantize/observe/observe_model.h"
#include "tools/quantize/quantize.h"

typedef enum tn_cal_method { TN_CAL_RTN, TN_CAL_GPTQ, TN_CAL_AWQ, TN_CAL_SMOOTH } tn_cal_method;

/* A value that meets weights. */
typedef struct tn_cal_input {
  tn_value value, experts; /* experts: which of them each token meets; 0: plain matrices */
  uint32_t columns, nexperts;
  int32_t layer;
  tn_op first;      /* the first product that it is in */
  double *squares;  /* [nexperts, columns]: sums */
  uint64_t *counts; /* [nexperts]: rows */
  float *most;      /* [columns]: largest magnitudes */
  float *moments;   /* [columns, columns] while its group is worked on; NULL: not needed */
} tn_cal_input;

enum { TN_CAL_TENSORS = 4 };
typedef struct tn_cal_weight {
  tn_product product;
  uint32_t input, source;          /* source: index in q->source; UINT32_MAX: none */
  uint32_t tensor[TN_CAL_TENSORS]; /* of q->view, that hold it */
  uint32_t ntensors;
} tn_cal_weight;

/* What becomes of a tensor of q->view. */
typedef struct tn_cal_tensor {
  bool stored;          /* its rows are encoded already, */
  uint64_t at;          /* here in the file */
  const float *columns; /* factors; NULL: none */
  float offset;         /* added to the numbers while they are multiplied */
  const float *rows;    /* likewise */
  const tn_cal_input *input;
} tn_cal_tensor;

/* What a group leaves to the next one: values of the model before it, of every window, in a file. */
typedef struct tn_cal_carry {
  tn_value_list values;
  TN_VEC(tn_tensor) shapes; /* [windows, values]; no data */
  TN_VEC(uint64_t) places;  /* likewise: where in the file */
  int fd;                   /* -1: none */
  uint64_t size;
} tn_cal_carry;

typedef struct tn_calibration {
  tn_quantize *q;
  tn_cal_method method;
  tn_gptq_options gptq;
  tn_arena arena;
  tn_observe_source source;
  bool has_source, has_windows;
  tn_windows windows;
  uint32_t chunk;
  TN_VEC(tn_cal_input) inputs;
  TN_VEC(tn_cal_weight) weights;
  tn_cal_tensor *tensors; /* as of q->view */
  int codes;              /* file of encoded rows; -1: none */
  uint64_t codes_size;
  int rounded; /* file of weights as they are once encoded; -1: none */
  char rounded_path[64];
  uint64_t rounded_size;
  TN_VEC(struct {
    tn_weight weight;
    uint64_t at;
  })
  replaced; /* weights of the group before, in that file */
  tn_cal_carry carry;
  uint32_t scaled; /* inputs that got factors */
} tn_calibration;

/* A file without a name. */
tn_status tn_cal_file(tn_calibration *c, int *fd);
tn_status tn_cal_put(tn_calibration *c, int fd, uint64_t at, const void *p, uint64_t n);
tn_status tn_cal_get(tn_calibration *c, int fd, uint64_t at, void *p, uint64_t n);

/* calibrate_link.c: which inputs and tensors the model's products have. */
tn_status tn_cal_link(tn_calibration *c);

/* calibrate_run.c: observes inputs first .. end and keeps what the ones behind need. */
tn_status tn_cal_observe(tn_calibration *c, uint32_t first, uint32_t end);
void tn_cal_carry_fini(tn_cal_carry *k);

/* calibrate_scale.c: factors for the weights that inputs first .. end meet; they are applied when tensors are
 * saved. */
tn_status tn_cal_scale(tn_calibration *c, uint32_t first, uint32_t end);
bool tn_cal_adjust(void *ctx, uint32_t tensor, uint64_t first, uint64_t rows, float *numbers);

/* calibrate_gptq.c: encodes the weights that inputs first .. end meet. */
tn_status tn_cal_gptq(tn_calibration *c, uint32_t first, uint32_t end);
#endif
