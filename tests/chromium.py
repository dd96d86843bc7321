"""Headless Chromium for tests of what a reader does: pages are opened, clicked, typed at, read.

Speaks the DevTools protocol over a web socket (https://chromedevtools.github.io/devtools-protocol);
of Chromium's own driver programs none is needed.
"""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import websocket

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    *("--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
    "--remote-debugging-port=0",
)
PATIENCE = 30.0
"""Seconds that Chromium may take to start, or to answer."""
KEYS = {
    "Tab": (9, ""), "Enter": (13, "\r"), " ": (32, " "), "End": (35, ""), "Home": (36, ""),
    "ArrowLeft": (37, ""), "ArrowUp": (38, ""), "ArrowRight": (39, ""), "ArrowDown": (40, ""),
}  # fmt: skip


def executable() -> str | None:
    """Where Chromium or its kin is, if it is installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One page, spoken to over a DevTools web socket."""

    def __init__(self, address: str) -> None:
        # Without an Origin, which Chromium would refuse.
        self.socket = websocket.create_connection(address, timeout=PATIENCE, suppress_origin=True)
        self.numbers = itertools.count(1)
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command; events that come before it are kept."""
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == number:
                break
            self.events.append(message)
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']}")
        return message["result"]

    def wait(self, event: str) -> None:
        """Until an event that has not been waited for."""
        while not any(message.get("method") == event for message in self.events):
            self.events.append(json.loads(self.socket.recv()))
        first = next(m for m in self.events if m.get("method") == event)
        self.events.remove(first)

    def evaluate(self, expression: str) -> Any:
        """Value of a JavaScript expression.

        Raises:
            RuntimeError: the expression throws.
        """
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until a JavaScript expression is true."""
        end = time.monotonic() + PATIENCE
        while not self.evaluate(expression):
            if time.monotonic() > end:
                raise TimeoutError(f"{expression} is still false after {PATIENCE} s")
            time.sleep(0.05)

    def open(self, path: Path, width: int = 1000, height: int = 1200, **features: str) -> None:
        """Load a file in a window of that size, with media features such as prefers_color_scheme.

        Requests and errors of the pages before are forgotten.
        """
        for domain in ("Page", "Runtime", "Network"):
            self.call(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.media(**features)
        self.call("Page.navigate", url="about:blank")
        self.wait("Page.loadEventFired")
        self.events.clear()
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.wait("Page.loadEventFired")

    def media(self, kind: str = "", **features: str) -> None:
        """Pretend to be a medium ("print"), or a reader of certain preferences."""
        wanted = [{"name": k.replace("_", "-"), "value": v} for k, v in features.items()]
        self.call("Emulation.setEmulatedMedia", media=kind, features=wanted)

    def click(self, expression: str, x: float = 0.5, y: float = 0.5) -> None:
        """Press and release the mouse over an element, at that share of its width and height."""
        at = self.evaluate(
            f"(() => {{ const element = {expression}; "
            'element.scrollIntoView({block: "center", behavior: "instant"}); '
            "const box = element.getBoundingClientRect(); "
            f"return [box.left + {x} * box.width, box.top + {y} * box.height]; }})()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            where = {"x": at[0], "y": at[1], "button": "left", "clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=kind, **where)

    def press(self, key: str) -> None:
        """A key of KEYS, or a letter, pressed and released."""
        code, text = KEYS.get(key, (ord(key[0].upper()), key))
        what = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        letters = {"text": text} if text else {}
        self.call(
            "Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **what, **letters
        )
        self.call("Input.dispatchKeyEvent", type="keyUp", **what)

    def requests(self) -> list[str]:
        """Addresses that were asked for since `open`."""
        self.evaluate("0")  # so that events under way arrive
        sent = [m for m in self.events if m.get("method") == "Network.requestWillBeSent"]
        return [message["params"]["request"]["url"] for message in sent]

    def errors(self) -> list[str]:
        """What scripts threw since `open`."""
        self.evaluate("0")
        thrown = [m for m in self.events if m.get("method") == "Runtime.exceptionThrown"]
        return [json.dumps(message["params"]["exceptionDetails"]) for message in thrown]

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))


class Chromium:
    """A running Chromium with one page; a context manager that ends it."""

    def __init__(self, program: str, profile: Path) -> None:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # root has none
        command = [program, *FLAGS, *sandbox, f"--user-data-dir={profile}", "about:blank"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, **quiet)
        try:
            self.page = Page(page_address(self._port(profile / "DevToolsActivePort")))
        except BaseException:
            self.process.kill()
            raise

    def _port(self, file: Path) -> int:
        """Chromium writes the port that it chose into its profile."""
        end = time.monotonic() + PATIENCE
        while not (file.exists() and file.read_text().count("\n")):
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"Chromium did not start (status {self.process.poll()})")
            time.sleep(0.05)
        return int(file.read_text().split("\n")[0])

    def __enter__(self) -> Page:
        return self.page

    def __exit__(self, *_: object) -> None:
        self.page.socket.close()
        self.process.terminate()
        self.process.wait(PATIENCE)


def page_address(port: int) -> str:
    """Web socket of the first page, as the DevTools server on that port gives it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", "/json/list")
    targets = json.loads(connection.getresponse().read())
    connection.close()
    return next(t["webSocketDebuggerUrl"] for t in targets if t["type"] in ("page", "node"))
