"""The `eai-notebook` command: install Horovod, check a machine, make data, run the demo."""

from eai_notebook.cli.commands import app, main

__all__ = ["app", "main"]
