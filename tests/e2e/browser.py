"""Headless Chromium, spoken to by the WebDriver protocol (W3C) over HTTP."""

from __future__ import annotations

import base64
import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.demo import free_port

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",  # the page reaches this service or nothing
)  # fmt: skip


class NotHere(RuntimeError):
    """Chromium or its driver is not installed."""


@dataclass
class Browser:
    """A session with one window."""

    http: httpx.Client
    session: str

    def _ask(self, method: str, path: str, **body: Any) -> Any:
        answer = self.http.request(method, f"/session/{self.session}{path}", json=body if method == "POST" else None)
        value = answer.json()["value"]
        if answer.is_error:
            raise AssertionError(f"{path}: {value['error']}: {value['message'][:500]}")
        return value

    def open(self, url: str) -> None:
        """Go to a page and wait until it is loaded."""
        self._ask("POST", "/url", url=url)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page; return what it returns."""
        return self._ask("POST", "/execute/sync", script=script, args=list(arguments))

    def find(self, selector: str) -> dict[str, str]:
        """The first element of a CSS selector."""
        found: dict[str, str] = self._ask("POST", "/element", using="css selector", value=selector)
        return found

    def type(self, selector: str, text: str) -> None:
        """Type into a field; the path of a file into a file field."""
        self._ask("POST", f"/element/{self.find(selector)[ELEMENT]}/value", text=text)

    def click(self, selector: str) -> None:
        """Click as people do: what is covered or out of sight cannot be."""
        self._ask("POST", f"/element/{self.find(selector)[ELEMENT]}/click")

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._ask("POST", "/actions", actions=[{"type": "key", "id": "keyboard", "actions": actions}])

    def drop(self, selector: str, path: Path) -> None:
        """Drop a file of the disk on an element."""
        self.run(
            "const field = Object.assign(document.createElement('input'), {type: 'file', id: 'dropped'});"
            "document.body.append(field)"
        )
        self.type("#dropped", str(path))
        self.run(
            "const data = new DataTransfer(), field = document.getElementById('dropped');"
            "data.items.add(field.files[0]); field.remove();"
            "const at = document.querySelector(arguments[0]);"
            "for (const kind of ['dragenter', 'dragover', 'drop'])"
            "  at.dispatchEvent(new DragEvent(kind, {bubbles: true, cancelable: true, dataTransfer: data}))",
            selector,
        )

    def resize(self, width: int, height: int) -> None:
        """Change the window, in CSS pixels; narrower than a desktop's window can be."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._ask("POST", "/goog/cdp/execute", cmd="Emulation.setDeviceMetricsOverride", params=metrics)

    def screenshot(self, path: Path | None = None) -> bytes:
        """What is to be seen, as a PNG; kept at `path`."""
        picture = base64.b64decode(self._ask("GET", "/screenshot"))
        if path is not None:
            path.write_bytes(picture)
        return picture

    def complaints(self) -> list[str]:
        """What the console said since it was last asked, of levels WARNING and SEVERE."""
        entries = self._ask("POST", "/se/log", type="browser")
        return [entry["message"] for entry in entries if entry["level"] in ("WARNING", "SEVERE")]

    def until(self, script: str, *arguments: Any, timeout_s: float = 20.0) -> Any:
        """Wait until a script returns something; return that."""
        return until(
            lambda: self.run(script, *arguments),
            lambda: self.run("return document.body.innerText"),
            timeout_s=timeout_s,
        )


def until(check: Callable[[], Any], otherwise: Callable[[], Any], *, timeout_s: float) -> Any:
    """Wait until `check()` is true; return it. The failure tells what `otherwise()` says."""
    end = time.monotonic() + timeout_s
    while not (found := check()):
        if time.monotonic() > end:
            raise AssertionError(f"it did not come true; there is:\n{otherwise()}")
        time.sleep(0.05)
    return found


@contextlib.contextmanager
def browsing(profile: Path, *more: str) -> Iterator[Browser]:
    """A browser with an empty profile; `more` are further flags.

    Raises:
        NotHere
    """
    driver = shutil.which("chromedriver")
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    if driver is None or binary is None:
        raise NotHere("chromium and chromedriver are not installed")
    port = free_port(0)
    with (profile.parent / "chromedriver.log").open("wb") as log:
        process = subprocess.Popen([driver, f"--port={port}"], stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            until(lambda: _is_up(http), lambda: "no driver", timeout_s=20)
            options = {
                "binary": binary,
                "args": [*FLAGS, *more, f"--user-data-dir={profile}", "--window-size=1100,900"],
            }
            wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            made = http.post("/session", json={"capabilities": {"alwaysMatch": wanted}}).json()["value"]
            if "sessionId" not in made:
                raise AssertionError(made)
            try:
                yield Browser(http, made["sessionId"])
            finally:
                http.delete(f"/session/{made['sessionId']}")
    finally:
        process.terminate()
        process.wait(20)


def _is_up(http: httpx.Client) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return bool(http.get("/status").json()["value"]["ready"])
    return False
