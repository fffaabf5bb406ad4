"""A JupyterHub with one user, whose server and pages lie below the hub's own address."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from browser.lab import HERE, ROOT
from browser.server_process import ServerProcess

if TYPE_CHECKING:
    from playwright.sync_api import Page

MADE: Final = ROOT / "build" / "jupyterhub"
"""Where `tools/jupyterhub` installs it."""

BASE: Final = "/notebooks/at/uni"
USER: Final = "someone"
PASSWORD: Final = "only-here"  # noqa: S105 - of a hub that lives for one test


class Hub:
    """A hub on free ports of the loopback interface; stands in for a `Lab`."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "home" / USER
        self.root.mkdir(parents=True)
        self._folder = folder
        self._server = ServerProcess(folder / "hub.log", 3, self._command)

    def _command(self, ports: list[int]) -> tuple[dict[str, Any], str]:
        folder, (public, hub, proxy) = self._folder, ports
        self._hub = f"http://127.0.0.1:{public}{BASE}"
        self.url = f"{self._hub}/user/{USER}"
        proxy_program = MADE / "node_modules/configurable-http-proxy/bin/configurable-http-proxy"
        share = str(Path(sys.prefix) / "share" / "jupyter")
        settings = {
            "JupyterHub": {
                "bind_url": f"{self._hub}/",
                "hub_bind_url": f"http://127.0.0.1:{hub}",
                "db_url": f"sqlite:///{folder / 'hub.sqlite'}",
                "cookie_secret_file": str(folder / "cookies"),
                "authenticator_class": "dummy",
                "spawner_class": "simple",
                "cleanup_servers": True,
            },
            "DummyAuthenticator": {"password": PASSWORD},
            "Authenticator": {"allow_all": True},
            "ConfigurableHTTPProxy": {
                "command": [shutil.which("node"), str(proxy_program)],
                "api_url": f"http://127.0.0.1:{proxy}",
                "pid_file": str(folder / "proxy.pid"),
            },
            "SimpleLocalProcessSpawner": {"home_dir_template": f"{folder}/home/{{username}}"},
            "Spawner": {
                "cmd": [str(MADE / "bin" / "python"), "-m", "jupyterhub.singleuser"],
                "args": [
                    "--allow-root",
                    "--LabApp.expose_app_in_browser=True",
                    f"--LabApp.user_settings_dir={folder / 'settings'}",
                    f"--LabApp.workspaces_dir={folder / 'workspaces'}",
                ],
                "default_url": "/lab",
                "start_timeout": 120,
                "environment": {
                    "PATH": os.environ["PATH"],
                    # The panel, the kernel, and which of the servers' extensions are switched on.
                    "JUPYTER_PATH": os.pathsep.join(
                        filter(None, (os.environ.get("JUPYTER_PATH"), share))
                    ),
                    "JUPYTER_CONFIG_PATH": str(Path(sys.prefix) / "etc" / "jupyter"),
                    "EAI_RUNS": str(folder / "runs"),
                    "PYTHONPATH": os.pathsep.join(map(str, (ROOT, HERE, HERE.parent))),
                },
            },
        }
        config = folder / "jupyterhub_config.json"
        config.write_text(json.dumps(settings))
        command = [MADE / "bin" / "python", "-m", "jupyterhub", "--config", config]
        return {"args": command, "cwd": folder}, f"{self._hub}/hub/api/"

    def log_in(self, page: Page) -> None:
        """Fill in the hub's form, and wait until the user's own server shows JupyterLab."""
        page.goto(f"{self._hub}/hub/login")
        page.get_by_label("Username").fill(USER)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"{self.url}/**")

    def page(self, notebook: str) -> str:
        """Return the address at which a notebook opens."""
        return f"{self.url}/lab/tree/{notebook}?reset"

    def stop(self) -> None:
        """End the hub, and with it its proxy and its user's server."""
        self._server.stop()


def what_hub_is_missing() -> str:
    """Say why there is no hub here; empty if there is one."""
    if not (MADE / ".made").exists():
        return "no JupyterHub here (tools/jupyterhub installs one): the test behind it skipped"
    return "" if shutil.which("node") else "no node here: the test behind a JupyterHub skipped"
