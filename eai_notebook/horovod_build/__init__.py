"""Build, verify and cache the Horovod wheel for the installed TensorFlow and MPI."""
