// The names of TensorFlow Lite Micro's tensors, as far as an export uses them.
#ifndef STUB_COMMON_H
#define STUB_COMMON_H

#include <cstddef>
#include <cstdint>

typedef enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 } TfLiteStatus;

typedef enum { kTfLiteNoType = 0, kTfLiteFloat32 = 1, kTfLiteInt16 = 7, kTfLiteInt8 = 9 } TfLiteType;

typedef union TfLitePtrUnion {
  float* f;
  char* raw;
  int16_t* i16;
  int8_t* int8;
  void* data;
} TfLitePtrUnion;

typedef struct TfLiteTensor {
  TfLiteType type;
  TfLitePtrUnion data;
  size_t bytes;
} TfLiteTensor;

#endif  // STUB_COMMON_H
