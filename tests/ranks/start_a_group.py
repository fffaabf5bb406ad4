"""Starts a group in the working folder, which is not on the path, as in a notebook's kernel."""

import sys
from pathlib import Path

sys.path[:] = [entry for entry in sys.path if entry and Path(entry) != Path(__file__).parent]

from eai_notebook.errors import EaiError  # noqa: E402
from eai_notebook.session import Session, Watcher  # noqa: E402


class Printed(Watcher):
    """Writes the last words of a start."""

    def progress(self, words: str, *, final: bool = False) -> None:
        """Write what came of it."""
        if final:
            sys.stdout.write(words + "\n")


try:
    with Session(2, watcher=Printed()) as session:
        session.run("import my_module, eai_notebook as eai")
        session.run("print(my_module.ANSWER, 'from both' if eai.size() == 2 else 'from one')")
except EaiError as error:
    sys.stdout.write(f"{error}\n")
