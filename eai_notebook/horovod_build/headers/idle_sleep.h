// The longest sleep of an idle rank, from EAI_HOROVOD_REST_MS (ms, default 10).
//
// EAI_HOROVOD_REST_MS=0 disables all patches of waits, for comparisons with unchanged Horovod.

#pragma once

#include <algorithm>
#include <chrono>
#include <cstdlib>

namespace eai {

inline std::chrono::microseconds max_idle_sleep() {
  static const char* setting = std::getenv("EAI_HOROVOD_REST_MS");
  static const double ms = setting ? std::max(0.0, std::strtod(setting, nullptr)) : 10.0;
  return std::chrono::microseconds(static_cast<long>(ms * 1000));
}

inline bool patch_disabled() { return max_idle_sleep() == max_idle_sleep().zero(); }

}  // namespace eai
