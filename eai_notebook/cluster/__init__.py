"""Where ranks run: launchers, the group they form, and the lease that ends them.

Kernel side. One launcher a file; each is an ipyparallel engine launcher, found by its
entry point in ``ipyparallel.engine_launchers``.
"""
