// Included before Horovod's mpi_context.cc, which makes and frees its communicators.
//
// Where ranks outlive each other, one of them frees its communicators when an exchange has failed, while
// messages of others are still on their way. Open MPI gives these to the next communicator that gets the
// same number: it ends the process if that has fewer ranks, and mixes the messages up if it has not. So
// the communicators of such a ring are forgotten, not freed.

#pragma once

#include <mpi.h>

#include <cstdlib>
#include <cstring>

namespace eai {

inline bool ranks_outlive_each_other() {
  static const char* setting = std::getenv("OMPI_MCA_mpi_ft_enable");
  return setting && *setting && std::strcmp(setting, "0") && std::strcmp(setting, "false");
}

inline int forget_or_free(MPI_Comm* ranks) {
  if (!ranks_outlive_each_other()) return MPI_Comm_free(ranks);
  *ranks = MPI_COMM_NULL;
  return MPI_SUCCESS;
}

}  // namespace eai

#define MPI_Comm_free eai::forget_or_free
