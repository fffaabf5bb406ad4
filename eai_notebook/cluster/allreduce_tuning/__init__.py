"""Choose the allreduce algorithm of Open MPI for each message size, from measurements on the group's own links."""
