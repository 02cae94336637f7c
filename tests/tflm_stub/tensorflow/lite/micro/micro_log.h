// The log of a device: a line on standard output each.
#ifndef STUB_MICRO_LOG_H
#define STUB_MICRO_LOG_H

#include <cstdarg>
#include <cstdio>

__attribute__((format(printf, 1, 2))) inline void MicroPrintf(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vprintf(format, arguments);
  va_end(arguments);
  std::puts("");
}

#endif  // STUB_MICRO_LOG_H
