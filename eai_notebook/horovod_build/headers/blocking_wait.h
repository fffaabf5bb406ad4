// Waiting for other ranks without spinning, for headers that mend a file of Horovod's.
//
// MPI's own calls spin until the last rank has come and the last byte has arrived, which takes
// the processor from this rank's computing where cores are shared or limited. Here one looks
// again and again, and sleeps between looks for an eighth of what one has waited so far.

#pragma once

#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "idle_sleep.h"

namespace eai {

// MPI looks at its sockets at every eighth call only.
constexpr int kLooks = 8;
constexpr std::chrono::microseconds kSpin{50};

inline int wait_for(MPI_Request* request, std::chrono::microseconds longest) {
  const auto begin = std::chrono::steady_clock::now();
  while (true) {
    int done = 0;
    for (int look = 0; look < kLooks; ++look) {
      const int status = MPI_Test(request, &done, MPI_STATUS_IGNORE);
      if (done || status != MPI_SUCCESS) return status;
    }
    const auto waited = std::chrono::duration_cast<std::chrono::microseconds>(
        std::chrono::steady_clock::now() - begin);
    if (waited > kSpin) std::this_thread::sleep_for(std::min(waited / 8, longest));
  }
}

}  // namespace eai
