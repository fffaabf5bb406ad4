// Included before Horovod's mpi_operations.cc, which exchanges tensors.
//
// Between hosts, what everyone sends to everyone travels by itself, and a rank need not spin
// meanwhile. Within a host it is the spinning that copies it. Sums are left to MPI, whose
// algorithm for them was chosen for the link.

#pragma once

#include <cstdlib>
#include <cstring>

#include "blocking_wait.h"

namespace eai {

// Longer, and the sockets of a quick link would run empty.
constexpr std::chrono::microseconds kLongestForBytes{200};

inline bool left_to_mpi() {
  static const char* all = std::getenv("OMPI_COMM_WORLD_SIZE");
  static const char* here = std::getenv("OMPI_COMM_WORLD_LOCAL_SIZE");
  static const bool same_host = !all || !here || std::strcmp(all, here) == 0;
  return same_host || as_it_came();
}

inline int patient_alltoallv(const void* from, const int* sent, const int* from_places,
                             MPI_Datatype from_type, void* to, const int* received,
                             const int* to_places, MPI_Datatype to_type, MPI_Comm ranks) {
  if (left_to_mpi())
    return MPI_Alltoallv(from, sent, from_places, from_type, to, received, to_places, to_type,
                         ranks);
  MPI_Request request;
  const int status = MPI_Ialltoallv(from, sent, from_places, from_type, to, received, to_places,
                                    to_type, ranks, &request);
  return status == MPI_SUCCESS ? wait_for(&request, kLongestForBytes) : status;
}

inline int patient_allgatherv(const void* from, int sent, MPI_Datatype from_type, void* to,
                              const int* received, const int* places, MPI_Datatype to_type,
                              MPI_Comm ranks) {
  if (left_to_mpi())
    return MPI_Allgatherv(from, sent, from_type, to, received, places, to_type, ranks);
  MPI_Request request;
  const int status =
      MPI_Iallgatherv(from, sent, from_type, to, received, places, to_type, ranks, &request);
  return status == MPI_SUCCESS ? wait_for(&request, kLongestForBytes) : status;
}

}  // namespace eai

#define MPI_Alltoallv eai::patient_alltoallv
#define MPI_Allgatherv eai::patient_allgatherv
