"""Backends of this package: Horovod, plain mpi4py, and none for one process."""
