// Included before Horovod's operations.cc, which has the loop of its background thread.
//
// Once a millisecond the loop negotiates ready tensors with all ranks, also when this rank has
// none, and a new tensor waits for the next cycle. Here an idle rank sleeps for at most
// EAI_HOROVOD_REST_MS (shutdown, timelines and the stall check wait for the next cycle), and a new
// tensor starts a cycle at once, after a short time for further tensors.

#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "global_state.h"
#include "idle_sleep.h"
#include "tensor_queue.h"

namespace eai {

// Tensors that become ready together arrive one by one, within about this time.
constexpr std::chrono::steady_clock::duration kGather = std::chrono::microseconds(100);

using horovod::common::HorovodGlobalState;
using horovod::common::TensorQueue;

// The queue's members are protected; a derived class may use them.
struct Waiting : TensorQueue {
  using TensorQueue::mutex_;
  using TensorQueue::tensor_table_;

  static bool none(TensorQueue& queue) {
    std::lock_guard<std::mutex> hold(queue.*(&Waiting::mutex_));
    return (queue.*(&Waiting::tensor_table_)).empty();
  }
};

inline bool nothing_waits(HorovodGlobalState& state) {
  const auto ids = state.process_set_table.Ids();
  return std::all_of(ids.begin(), ids.end(), [&state](int32_t id) {
    return Waiting::none(state.process_set_table.Get(id).tensor_queue);
  });
}

// Counts new tensors of this rank and wakes the thread that waits for them.
struct Doorbell {
  std::mutex guard;
  std::condition_variable rung;
  unsigned long times = 0;
};

inline Doorbell& doorbell() {
  static Doorbell one;
  return one;
}

inline void ring() {
  Doorbell& bell = doorbell();
  {
    std::lock_guard<std::mutex> hold(bell.guard);
    ++bell.times;
  }
  bell.rung.notify_one();
}

// The loop's own pause, the only one of this type: the rest of its millisecond.
inline void pause(std::chrono::steady_clock::duration left, HorovodGlobalState& state) {
  if (patch_disabled()) {
    std::this_thread::sleep_for(left);
    return;
  }
  static unsigned long seen = 0;
  Doorbell& bell = doorbell();
  const std::chrono::steady_clock::duration limit = nothing_waits(state) ? max_idle_sleep() : left;
  std::unique_lock<std::mutex> hold(bell.guard);
  if (bell.rung.wait_for(hold, limit, [&bell] { return bell.times != seen; })) {
    hold.unlock();
    std::this_thread::sleep_for(std::min(left, kGather));
    hold.lock();
  }
  seen = bell.times;
}

template <typename Rep, typename Period>
void pause(std::chrono::duration<Rep, Period> length, HorovodGlobalState&) {
  std::this_thread::sleep_for(length);
}

}  // namespace eai

// The loop pauses only if the rest of its millisecond is more than zero(). A rank that has waited
// for the others for longer would start the next cycle at once and never sleep.
#define zero() min()
#define sleep_for(length) yield(), eai::pause(length, horovod_global)
#define AddToTensorQueue(entry, message) AddToTensorQueue(entry, message); eai::ring()
#define AddToTensorQueueMulti(entries, messages) \
  AddToTensorQueueMulti(entries, messages); eai::ring()
