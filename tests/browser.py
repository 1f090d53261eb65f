"""A headless Chromium for tests, controlled through its debugging pipe, without a driver or another
library.
"""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from select import select
from time import monotonic
from types import TracebackType
from typing import Any, Self

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
ANSWER_TIMEOUT_S = 30.0

Message = dict[str, Any]
Wanted = Callable[[Message], bool]


def program() -> str | None:
    """Return the path of Chromium, or None if it is not installed."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Browser:
    """One page in a headless browser.

    Args:
        profile: An empty directory for the browser's own files.
    """

    def __init__(self, profile: Path) -> None:
        executable = program()
        if executable is None:
            raise RuntimeError(f"there is no browser on this machine: none of {', '.join(PROGRAMS)} is on PATH")
        # The browser reads commands from descriptor 3 and writes answers to 4: JSON, each ended by
        # a zero byte.
        commands, self._out = os.pipe()
        self._in, answers = os.pipe()
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe"]
        shell = ["bash", "-c", f'exec "$0" "$@" 3<&{commands} 4>&{answers}', executable]
        self._process = subprocess.Popen(
            [*shell, *options, f"--user-data-dir={profile}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(commands, answers),
        )
        os.close(commands)
        os.close(answers)
        self._number = 0
        self._buffer = b""
        self._session: str | None = None
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._call("Page.enable")

    def show(self, url: str, *, width: int, height: int = 900, dark: bool = False) -> None:
        """Load a page at a width in CSS pixels, and return when everything on it is loaded."""
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        self._call("Page.navigate", url=url)
        self._await(lambda message: message.get("method") == "Page.loadEventFired")

    def value(self, script: str) -> Any:
        """Return the value of a JavaScript expression."""
        answer = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def save(self, picture: Path, *, whole: bool = True) -> None:
        """Write the page, or the part that is visible, as a PNG file."""
        answer = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        picture.write_bytes(base64.b64decode(answer["data"]))

    def close(self) -> None:
        os.close(self._out)
        os.close(self._in)
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, method: str, **parameters: object) -> Message:
        self._number += 1
        number = self._number
        session = {} if self._session is None else {"sessionId": self._session}
        message = {"id": number, "method": method, "params": parameters, **session}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        answer = self._await(lambda message: message.get("id") == number)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        result: Message = answer["result"]
        return result

    def _await(self, wanted: Wanted) -> Message:
        deadline = monotonic() + ANSWER_TIMEOUT_S
        while True:
            while b"\0" in self._buffer:
                text, _, self._buffer = self._buffer.partition(b"\0")
                message: Message = json.loads(text)
                if wanted(message):
                    return message
            ready, _, _ = select([self._in], [], [], max(0.0, deadline - monotonic()))
            if not ready:
                raise TimeoutError(f"the browser did not answer within {ANSWER_TIMEOUT_S:g} s")
            read = os.read(self._in, 1 << 20)
            if not read:
                raise RuntimeError("the browser has ended")
            self._buffer += read
