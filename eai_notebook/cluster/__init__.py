"""Groups of ranks: launchers, start and end, registry, checks of hosts.

Kernel side. One launcher a file; each is an ipyparallel engine launcher, found by its
entry point in ``ipyparallel.engine_launchers``.
"""
