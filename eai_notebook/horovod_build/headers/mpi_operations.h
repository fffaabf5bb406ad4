// Included before Horovod's mpi_operations.cc, which exchanges tensors.
//
// Between hosts, the network moves the data of alltoall and allgather, and ranks need not spin.
// Within a host, the spinning ranks copy the data. Allreduce keeps MPI's blocking call, whose
// algorithm was chosen for the link.

#pragma once

#include <cstdlib>
#include <cstring>

#include "blocking_wait.h"

namespace eai {

// With longer sleeps, the sockets of a fast link would run empty.
constexpr std::chrono::microseconds kLongestForBytes{200};

inline bool use_blocking_mpi() {
  static const char* all = std::getenv("OMPI_COMM_WORLD_SIZE");
  static const char* here = std::getenv("OMPI_COMM_WORLD_LOCAL_SIZE");
  static const bool same_host = !all || !here || std::strcmp(all, here) == 0;
  return same_host || patch_disabled();
}

inline int patient_alltoallv(const void* from, const int* sent, const int* from_offsets,
                             MPI_Datatype from_type, void* to, const int* received,
                             const int* to_offsets, MPI_Datatype to_type, MPI_Comm ranks) {
  if (use_blocking_mpi())
    return MPI_Alltoallv(from, sent, from_offsets, from_type, to, received, to_offsets, to_type,
                         ranks);
  MPI_Request request;
  const int status = MPI_Ialltoallv(from, sent, from_offsets, from_type, to, received, to_offsets,
                                    to_type, ranks, &request);
  return status == MPI_SUCCESS ? wait_for(&request, kLongestForBytes) : status;
}

inline int patient_allgatherv(const void* from, int sent, MPI_Datatype from_type, void* to,
                              const int* received, const int* offsets, MPI_Datatype to_type,
                              MPI_Comm ranks) {
  if (use_blocking_mpi())
    return MPI_Allgatherv(from, sent, from_type, to, received, offsets, to_type, ranks);
  MPI_Request request;
  const int status =
      MPI_Iallgatherv(from, sent, from_type, to, received, offsets, to_type, ranks, &request);
  return status == MPI_SUCCESS ? wait_for(&request, kLongestForBytes) : status;
}

}  // namespace eai

#define MPI_Alltoallv eai::patient_alltoallv
#define MPI_Allgatherv eai::patient_allgatherv
