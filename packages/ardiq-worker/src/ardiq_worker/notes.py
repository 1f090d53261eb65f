"""What the runs of a worker report: progress and checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ardiq.context import NOTHING
from ardiq.errors import PayloadTooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ardiq.host import Host
    from ardiq_core import Mailbox, Worker


class Notes:
    """Passes what the runs of one worker report to its engine. Any thread may call it.

    A slot identifies a run. The engine refuses the slot of a run that is over, so code that
    outlives its run cannot write to the notes of another one.
    """

    __slots__ = ("_host", "_worker")

    def __init__(self, host: Host, worker: Worker) -> None:
        self._host = host
        self._worker = worker

    def report(self, slot: int, done: int, total: int | None, message: str | None) -> None:
        """Report the progress of a run; this never waits."""
        self._worker.report(slot, done, total, message)

    async def save(self, slot: int, value: object) -> None:
        """Store a checkpoint of a run."""
        await self._host.ask(self._request(slot, value))

    def save_sync(self, slot: int, value: object) -> None:
        """Blocking version of `save`."""
        self._host.ask_sync(self._request(slot, value), "checkpoint")

    def load(self, slot: int) -> Any:
        """Return the last checkpoint of a run or of earlier ones, or NOTHING."""
        data = self._worker.checkpoint(slot)
        return NOTHING if data is None else self._host.codec.decode_value(data)

    def _request(self, slot: int, value: object) -> Callable[[Mailbox, int], None]:
        data = self._host.codec.encode_value(value)
        most = self._host.app.max_payload_bytes
        if len(data) > most:
            raise PayloadTooLargeError(
                f"the checkpoint takes {len(data)} bytes, more than max_payload_bytes ({most}); store the data "
                "elsewhere and save a reference to it"
            )
        return lambda mailbox, request_id: mailbox.checkpoint(request_id, self._worker, slot, data)
