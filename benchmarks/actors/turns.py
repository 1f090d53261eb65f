"""An event loop that counts its turns."""

import asyncio
import selectors

from probe import turned


class CountingSelector(selectors.DefaultSelector):
    """Each turn of the loop calls its selector once, and releases the GIL for that call, even if
    there is nothing to wait for.
    """

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        turned()
        return super().select(timeout)


def counting_loop() -> asyncio.AbstractEventLoop:
    """For `asyncio.Runner`."""
    return asyncio.SelectorEventLoop(CountingSelector())
