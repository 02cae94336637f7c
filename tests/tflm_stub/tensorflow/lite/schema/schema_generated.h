// A model that is its bytes: enough to see which ones the program hands over.
#ifndef STUB_SCHEMA_GENERATED_H
#define STUB_SCHEMA_GENERATED_H

#include <cstdint>

namespace tflite {

struct Model {
  unsigned char bytes[8];
  uint32_t version() const { return 3; }
};

inline const Model* GetModel(const void* buf) { return static_cast<const Model*>(buf); }

}  // namespace tflite

#endif  // STUB_SCHEMA_GENERATED_H
