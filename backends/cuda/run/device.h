/* device.h - the run side: tn_device_api over the CUDA driver. */
#ifndef TN_CUDA_DEVICE_H
#define TN_CUDA_DEVICE_H
#include "tenon/plugin.h"

extern const tn_device_api tn_cuda_device_api;
#endif
