"""A JupyterLab server, and a notebook open in it with the panel in front."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import nbformat
from browser.server_process import ServerProcess

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page, ViewportSize

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SCREENS = ROOT / os.environ.get("EAI_TEST_SCREENS", "build/screens")
PYTHON = os.environ.get("EAI_TEST_JUPYTER", sys.executable)  # see tools/front-ends
BUILT = ROOT / "eai_notebook" / "labextension" / "package.json"


def what_is_missing() -> str:
    """Say why a browser test cannot run here; empty if it can."""
    if chromium() is None:
        return "no Chromium on PATH (apt-get install chromium): browser tests skipped"
    if not BUILT.exists():
        return "front end not built (npm run build:prod in labextension): browser tests skipped"
    return ""


def chromium() -> str | None:
    """Return the path of the machine's Chromium."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


def kernel_release() -> int:
    """Return the first number of ipykernel's version where the notebooks run."""
    asked = "import ipykernel; print(ipykernel.version_info[0])"
    return int(subprocess.run([PYTHON, "-c", asked], capture_output=True, check=True).stdout)


class Server(Protocol):
    """Serves JupyterLab, by itself or behind a hub."""

    root: Path
    url: str

    def page(self, notebook: str) -> str:
        """Return the address at which a notebook opens."""


class Lab:
    """A JupyterLab, or Notebook 7, on a free port of the loopback interface."""

    def __init__(self, folder: Path, application: Literal["lab", "notebook"] = "lab") -> None:
        self._page = "lab/tree" if application == "lab" else "notebooks"
        self.root = folder / "notebooks"
        self.root.mkdir()
        settings = folder / "settings" / "@jupyterlab" / "apputils-extension"
        settings.mkdir(parents=True)
        # The question about news would cover the notebook.
        quiet = {"fetchNews": "false", "checkForUpdates": False}
        (settings / "notification.jupyterlab-settings").write_text(json.dumps(quiet))
        self._folder, self._application = folder, application
        self._runtime = tempfile.mkdtemp(prefix="lab")
        self._server = ServerProcess(folder / "lab.log", 1, self._command)

    def _command(self, ports: list[int]) -> tuple[dict[str, Any], str]:
        folder, (port,) = self._folder, ports
        # As behind a hub: nothing may rely on being served at the root.
        self.url = f"http://127.0.0.1:{port}/user/someone"
        environment = os.environ | {
            "EAI_RUNS": str(folder / "runs"),
            "JUPYTER_CONFIG_DIR": str(folder / "config"),
            # Short, as the path of a kernel's socket may have 107 characters.
            "JUPYTER_RUNTIME_DIR": self._runtime,
            "JUPYTER_CONFIG_PATH": str(ROOT / "tools" / "jupyter"),  # as in `make lab`
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, HERE, HERE.parent))),
        }
        module, app = {
            "lab": ("jupyterlab", "LabApp"),
            "notebook": ("notebook", "JupyterNotebookApp"),
        }[self._application]
        command = [
            PYTHON, "-m", module, "--no-browser", "--allow-root",
            "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}",
            "--ServerApp.base_url=/user/someone/", "--ServerApp.port_retries=0",
            "--IdentityProvider.token=", "--ServerApp.password=",
            f"--ServerApp.root_dir={self.root}",
            # A free TCP port may be taken by the time a kernel listens on it.
            "--KernelManager.transport=ipc",
            f"--{app}.expose_app_in_browser=True",
            f"--{app}.user_settings_dir={folder / 'settings'}",
            f"--{app}.workspaces_dir={folder / 'workspaces'}",
        ]  # fmt: skip
        return {"args": command, "env": environment}, f"{self.url}/api/status"

    def page(self, notebook: str) -> str:
        """Return the address at which a notebook opens."""
        return f"{self.url}/{self._page}/{notebook}?reset"

    @property
    def log(self) -> str:
        """What the server has written so far."""
        return self._server.log

    def stop(self) -> None:
        """Shut down every kernel, then the server."""
        self._server.stop()
        shutil.rmtree(self._runtime, ignore_errors=True)


EDGE: Final = 50
"""JupyterLab keeps its side area a little wider than asked for."""
VIEWPORT: Final[ViewportSize] = {"width": 1400, "height": 900}

PAGE_TIMEOUT_MS: Final = 300_000
"""How long anything may take where many others use the machine; nothing here measures time."""

LEAVE: Final = """async () => {
    const { shell, serviceManager } = window.jupyterapp;
    document.querySelectorAll('.jp-Dialog button.jp-mod-reject').forEach(each => each.click());
    // Closed documents would ask whether to be saved.
    [...shell.widgets('main')].forEach(each => each.dispose());
    await serviceManager.sessions.shutdownAll();
    document.querySelectorAll('#eai-notebook-panel').forEach(each => each.scrollTo(0, 0));
    shell._hsplitPanel?.setRelativeSizes([0, 3, 1]);
}"""
"""Ends everything that a notebook has brought into the page."""


KERNEL_IS_IDLE: Final = """() => {
    const kernel = window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel;
    if (kernel && kernel.status !== 'idle') {
        kernel.requestKernelInfo().catch(() => null);  // where the page has missed its first answer
    }
    return kernel?.status === 'idle';
}"""


class Notebook:
    """A notebook open in JupyterLab, with the panel in front."""

    def __init__(
        self, lab: Server, page: Page, cells: tuple[str, ...], name: str, *, beside: bool = False
    ) -> None:
        """Open it in a new page or, `beside`, in a page in which JupyterLab already runs."""
        self.path = lab.root / f"{name}.ipynb"
        written = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
        written.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
        nbformat.write(written, self.path)
        self._open(lab, page, beside=beside)
        self.wait_ready()

    def _open(self, lab: Server, page: Page, *, beside: bool = False) -> None:
        self.page = page
        self.lab = lab
        page.set_default_timeout(PAGE_TIMEOUT_MS)
        self.outside: list[str] = []
        page.on("request", self._note_request)
        if beside:
            page.evaluate(
                "path => window.jupyterapp.commands.execute("
                "'docmanager:open', { path, factory: 'Notebook' })",
                self.path.name,
            )
        else:
            page.goto(lab.page(self.path.name))

    def reload(self) -> None:
        """Load the page anew, with this notebook in front; does not wait for it."""
        self.page.goto(self.lab.page(self.path.name))

    def second_tab(self) -> Notebook:
        """Return the same notebook, open once more beside this one, not waited for."""
        second = Notebook.__new__(Notebook)
        second.path = self.path
        second._open(self.lab, self.page.context.new_page())  # its own class
        return second

    def wait_ready(self, *, idle: bool = True) -> None:
        """Wait until the notebook, and if asked for its kernel, is ready; open the panel."""
        page = self.page
        page.wait_for_function("window.jupyterapp?.commands.hasCommand('eai-notebook:show')")
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        if idle:
            # The mark says idle before there is a kernel; a cell that runs then asks for one.
            page.wait_for_function(KERNEL_IS_IDLE, polling=1000)
        page.evaluate("window.jupyterapp.commands.execute('eai-notebook:show')")
        page.evaluate(
            "window.jupyterapp.commands.execute('filebrowser:hide-main').catch(() => null)"
        )
        page.wait_for_selector("#eai-notebook-panel .eai-Panel-section")

    def run_cell(self) -> None:
        """Start the selected cell and select the next; does not wait for its end."""
        self.page.evaluate(
            "void window.jupyterapp.commands.execute('notebook:run-cell-and-select-next')"
        )

    def wait_cells(self, done: int) -> None:
        """Wait until that many cells have an execution number."""
        self.page.wait_for_function(
            "n => [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')]"
            ".filter(p => /\\[\\d+\\]/.test(p.innerText)).length >= n",
            arg=done,
        )

    def is_running(self) -> bool:
        """Return whether a cell is marked as running."""
        prompts = self.page.locator(".jp-CodeCell .jp-InputPrompt").all_inner_texts()
        return any("*" in prompt for prompt in prompts)

    def wait_steps(self, steps: int, where: str = "#eai-notebook-panel") -> None:
        """Wait until a chart shows at least that many steps."""
        self.page.wait_for_function(
            "([where, n]) => Number(document.querySelector(where + ' .eai-Chart')"
            "?.dataset.steps) >= n",
            arg=[where, steps],
        )

    def wait_said(self, words: str) -> None:
        """Wait until the panel says how the group is."""
        self.page.wait_for_function(
            "words => document.querySelector('.eai-Panel-state')?.innerText.includes(words)",
            arg=words,
        )

    def panel(self) -> str:
        """Return the panel's text."""
        return self.page.locator("#eai-notebook-panel").inner_text()

    def theme(self, name: str) -> None:
        """Switch JupyterLab's theme and wait for it."""
        self.page.evaluate(
            "theme => window.jupyterapp.commands.execute('apputils:change-theme', { theme })", name
        )
        light = str("Light" in name).lower()
        self.page.wait_for_selector(f'body[data-jp-theme-light="{light}"]', state="attached")

    def open_tab(self, steps: int) -> Locator:
        """Run the next cell, which shows a run, and open that run in a tab; return the tab."""
        self.run_cell()
        self.wait_steps(steps)
        self.page.get_by_role("button", name="Open in tab").click()
        return self.page.locator(".eai-Tab")

    def watch_a_run(self, screenshot: str) -> None:
        """Run two cells, a player and its run; see the run in the panel and in the cell."""
        self.run_cell()
        self.wait_cells(1)
        self.run_cell()
        self.wait_steps(40)
        self.wait_steps(40, where=".jp-OutputArea")
        assert "4 ranks running a cell" in self.panel()
        self.screenshot(screenshot)

    def panel_width(self, pixels: int) -> None:
        """Drag the panel's edge, again where the panel was given its first width meanwhile."""
        panel = self.page.locator("#eai-notebook-panel")
        edge = self.page.locator("#jp-main-split-panel > .lm-SplitPanel-handle:not(.lm-mod-hidden)")
        for _ in range(5):
            box, shown = edge.last.bounding_box(), panel.bounding_box()
            assert box
            assert shown
            y = box["y"] + 300
            self.page.mouse.move(box["x"] + 1, y)
            self.page.mouse.down()
            self.page.mouse.move(box["x"] + 1 + shown["width"] - pixels, y, steps=4)
            self.page.mouse.up()
            self.page.wait_for_timeout(300)
            if abs(panel.evaluate("panel => panel.clientWidth") - pixels) < EDGE:
                return

    def screenshot(self, name: str, selector: str | None = None) -> None:
        """Leave a picture in ``build/screens``."""
        SCREENS.mkdir(parents=True, exist_ok=True)
        self.page.wait_for_timeout(150)
        target: Any = self.page if selector is None else self.page.locator(selector).first
        target.screenshot(path=SCREENS / f"{name}.png")

    def save(self) -> dict[str, Any]:
        """Save the notebook and return it as it lies on disk."""
        self.page.evaluate("window.jupyterapp.commands.execute('docmanager:save')")
        return dict(nbformat.read(self.path, as_version=4))

    def leave(self) -> None:
        """Shut the kernel down, and leave the page to the next notebook as it was before this one."""
        page = self.page
        page.remove_listener("request", self._note_request)
        for other in page.context.pages:
            if other is not page:
                other.close()
        page.set_viewport_size(VIEWPORT)
        page.evaluate(LEAVE)
        page.wait_for_selector(".jp-Notebook, .jp-Dialog, .eai-Tab", state="detached")

    def close(self) -> None:
        """Shut the kernel down and close the page."""
        with contextlib.suppress(Exception):
            self.page.evaluate(
                "window.jupyterapp.serviceManager.sessions.shutdownAll()",
            )
        self.page.context.close()

    def _note_request(self, request: Any) -> None:
        if not request.url.startswith((self.lab.url, "data:", "blob:")):
            self.outside.append(request.url)
