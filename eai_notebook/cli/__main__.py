"""``python -m eai_notebook.cli``: the command line where its script is not on PATH."""

from eai_notebook.cli import main

main()
