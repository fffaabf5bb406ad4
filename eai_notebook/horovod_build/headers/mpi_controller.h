// Included before Horovod's mpi_controller.cc, which negotiates ready tensors between ranks.
//
// An early rank would spin until the last rank takes part. And rank 0 does not look at whether it has
// received the others' requests: when one of them has died, it reads memory that nobody has written,
// and dies of it.

#pragma once

#include <stdexcept>
#include <string>

#include "blocking_wait.h"

namespace eai {

constexpr std::chrono::microseconds kLongestForAnswer{1000};

inline int patient_allreduce(const void* from, void* to, int count, MPI_Datatype type, MPI_Op op,
                             MPI_Comm ranks) {
  if (patch_disabled()) return MPI_Allreduce(from, to, count, type, op, ranks);
  MPI_Request request;
  const int status = MPI_Iallreduce(from, to, count, type, op, ranks, &request);
  return status == MPI_SUCCESS ? wait_for(&request, kLongestForAnswer) : status;
}

#define EAI_TEXT_OF(value) #value
#define EAI_TEXT(value) EAI_TEXT_OF(value)
// Read by `wheel_build.is_outdated`.
__attribute__((used)) static const char kRecipe[] = "EAI_HOROVOD_RECIPE=" EAI_TEXT(EAI_RECIPE);

// Ends Horovod's background thread, as its own checks of other calls do.
inline int succeeded(int status, const char* call) {
  if (status == MPI_SUCCESS) return status;
  throw std::runtime_error(std::string(call) + " failed, see MPI output for details.");
}

}  // namespace eai

#define MPI_Allreduce eai::patient_allreduce
#define MPI_Gather(...) eai::succeeded(MPI_Gather(__VA_ARGS__), "MPI_Gather")
#define MPI_Gatherv(...) eai::succeeded(MPI_Gatherv(__VA_ARGS__), "MPI_Gatherv")
#define MPI_Bcast(...) eai::succeeded(MPI_Bcast(__VA_ARGS__), "MPI_Bcast")
