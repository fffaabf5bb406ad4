"""The `eai-notebook` command: set a machine up, look it over, make data, run the demo."""

from eai_notebook.cli.commands import app, main

__all__ = ["app", "main"]
