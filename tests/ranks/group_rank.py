"""A rank of a group in a fork of a `PreloadedPython`: the package's own program of a rank."""

import runpy

runpy.run_module("eai_notebook.cluster.engine_process", run_name="__main__", alter_sys=True)
