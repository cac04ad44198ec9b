"""Headless Chromium through its DevTools protocol over a pipe: JSON that ends in a zero byte, no socket, no library."""

import base64
import itertools
import json
import os
import selectors
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: Nothing but loopback, no sandbox (containers often cannot make one), none of what a person's browser does besides.
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)  # fmt: skip
ANSWER_TIMEOUT_S = 60.0


def trouble() -> str | None:
    """Why there is no browser, else None."""
    return None if shutil.which("chromium") else "no chromium command"


class Browser:
    """One process; `page` opens tabs. Errors of the pages' scripts are in `errors`."""

    def __init__(self, write_fd: int, read_fd: int) -> None:
        self._write_fd = write_fd
        self._read_fd = read_fd
        self._numbers = itertools.count(1)
        self._buffer = b""
        self.errors: list[str] = []

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol, and its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        os.write(self._write_fd, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while True:
            answer = self._read(deadline)
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer)
                return dict(answer["result"])
            if answer.get("method") == "Runtime.exceptionThrown":
                self.errors.append(json.dumps(answer["params"]["exceptionDetails"]))
            if answer.get("method") == "Log.entryAdded" and answer["params"]["entry"]["level"] == "error":
                self.errors.append(json.dumps(answer["params"]["entry"]))

    def _read(self, deadline: float) -> dict[str, Any]:
        with selectors.DefaultSelector() as selector:
            selector.register(self._read_fd, selectors.EVENT_READ)
            while b"\0" not in self._buffer:
                assert selector.select(max(0.0, deadline - time.monotonic())), "the browser does not answer"
                part = os.read(self._read_fd, 1 << 20)
                assert part, "the browser is gone"
                self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(line))

    def page(self, url: str, width: int, height: int, scheme: str) -> "Page":
        """Open it in a window of that size. `scheme`: light or dark."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable", session)
        phone = width < 600
        self.call(
            "Emulation.setDeviceMetricsOverride", session, width=width, height=height, deviceScaleFactor=1, mobile=phone
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", session, features=features)
        self.call("Page.navigate", session, url=url)
        return Page(self, session, width)


class Page:
    """A tab."""

    def __init__(self, browser: Browser, session: str, width: int) -> None:
        self._browser = browser
        self._session = session
        self._width = width

    def value(self, expression: str) -> Any:
        """Of JavaScript in the page."""
        answer = self._browser.call("Runtime.evaluate", self._session, expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, expression: str, timeout_s: float = 60.0) -> None:
        """Until it is true."""
        deadline = time.monotonic() + timeout_s
        while not self.value(expression):
            assert time.monotonic() < deadline, f"not within {timeout_s} s: {expression}\n{self.text()}"
            time.sleep(0.05)

    def text(self) -> str:
        """What a person reads."""
        return str(self.value("document.body ? document.body.innerText : ''"))

    def screenshot(self, path: Path) -> None:
        """The whole page, however long."""
        height = self.value("document.documentElement.scrollHeight")
        clip = {"x": 0, "y": 0, "width": self._width, "height": height, "scale": 1}
        found = self._browser.call(
            "Page.captureScreenshot", self._session, format="png", clip=clip, captureBeyondViewport=True
        )
        path.write_bytes(base64.b64decode(found["data"]))


@contextmanager
def browser() -> Iterator[Browser]:
    """Start one with a profile of its own, and end it."""
    with tempfile.TemporaryDirectory(prefix="ringcast-browser-", ignore_cleanup_errors=True) as profile:
        their_read, our_write = os.pipe()
        our_read, their_write = os.pipe()
        # The protocol is spoken on descriptors 3 and 4. Moved high first, so that neither is in the other's way.
        command = f'exec chromium "$@" 3<&{their_read} 4>&{their_write}'
        process = subprocess.Popen(
            ["bash", "-c", command, "chromium", *FLAGS, f"--user-data-dir={profile}"],
            pass_fds=(their_read, their_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(their_read)
        os.close(their_write)
        try:
            found = Browser(our_write, our_read)
            yield found
            found.call("Browser.close")
            process.wait(20)
        finally:
            process.kill()
            process.wait()
            os.close(our_write)
            os.close(our_read)
