// Wait for an MPI request without spinning; used by the headers that patch Horovod's files.
//
// MPI's own calls spin until the last rank and the last byte have arrived. On shared or limited
// cores this takes processor time from the computation. Here the request is polled, with sleeps of
// an eighth of the time waited so far.

#pragma once

#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "idle_sleep.h"

namespace eai {

// MPI checks its sockets only in every eighth call.
constexpr int kPolls = 8;
constexpr std::chrono::microseconds kSpin{50};

inline int wait_for(MPI_Request* request, std::chrono::microseconds longest) {
  const auto begin = std::chrono::steady_clock::now();
  while (true) {
    int done = 0;
    for (int poll = 0; poll < kPolls; ++poll) {
      const int status = MPI_Test(request, &done, MPI_STATUS_IGNORE);
      if (done || status != MPI_SUCCESS) return status;
    }
    const auto waited = std::chrono::duration_cast<std::chrono::microseconds>(
        std::chrono::steady_clock::now() - begin);
    if (waited > kSpin) std::this_thread::sleep_for(std::min(waited / 8, longest));
  }
}

}  // namespace eai
