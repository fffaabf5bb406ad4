// Included before Horovod's operations.cc, which has the loop of its background thread.
//
// Once a millisecond the loop asks all ranks what is ready. It does so when this rank has nothing
// to exchange, and so nothing can be; and what has just been given to it waits for the next time.
// Here a rank with nothing to exchange rests, for EAI_HOROVOD_REST_MS at most (shutting down,
// timelines and the look for stalled ranks wait for the next cycle), and one that was given
// something asks at once, or after what it takes to be given more.

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

// Tensors that become ready together are given to the loop one by one, within about this time.
constexpr std::chrono::steady_clock::duration kGather = std::chrono::microseconds(100);

using horovod::common::HorovodGlobalState;
using horovod::common::TensorQueue;

// Its members are protected; a derived class may name them.
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

// How many times something was given to this rank, and whoever waits for more.
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

// The loop's own pause, the only one of this type: what is left of its millisecond, if anything.
inline void pause(std::chrono::steady_clock::duration left, HorovodGlobalState& state) {
  if (as_it_came()) {
    std::this_thread::sleep_for(left);
    return;
  }
  static unsigned long heard = 0;
  Doorbell& bell = doorbell();
  const std::chrono::steady_clock::duration limit = nothing_waits(state) ? longest_rest() : left;
  std::unique_lock<std::mutex> hold(bell.guard);
  if (bell.rung.wait_for(hold, limit, [&bell] { return bell.times != heard; })) {
    hold.unlock();
    std::this_thread::sleep_for(std::min(left, kGather));
    hold.lock();
  }
  heard = bell.times;
}

template <typename Rep, typename Period>
void pause(std::chrono::duration<Rep, Period> length, HorovodGlobalState&) {
  std::this_thread::sleep_for(length);
}

}  // namespace eai

// The loop pauses only if something is left of its millisecond: if it is more than zero(). A rank
// that has waited for the others for longer would ask again at once, and never rest.
#define zero() min()
#define sleep_for(length) yield(), eai::pause(length, horovod_global)
#define AddToTensorQueue(entry, message) AddToTensorQueue(entry, message); eai::ring()
#define AddToTensorQueueMulti(entries, messages) \
  AddToTensorQueueMulti(entries, messages); eai::ring()
