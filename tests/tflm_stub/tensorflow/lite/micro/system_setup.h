#ifndef STUB_SYSTEM_SETUP_H
#define STUB_SYSTEM_SETUP_H

namespace tflite {

inline void InitializeTarget() {}

}  // namespace tflite

#endif  // STUB_SYSTEM_SETUP_H
