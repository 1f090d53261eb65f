"""What a fork could catch the core at."""

import builtins
import uuid
from typing import Any

import pytest

from ardiq_core import SUCCESS, Core, Worker

CALL = b"\x92\x90\x80"


def test_the_core_imports_nothing_while_it_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    # An import lets other threads run, and what waits for its end waits for ever in a child that one of them forks meanwhile.
    core = Core(url="redis://127.0.0.1:1", queue="q", lanes=["default"], connect_timeout_ms=100)
    worker_id = f"here:1:{uuid.uuid4().hex[:8]}"
    worker = Worker(core, worker_id=worker_id, concurrency=1, prefetch=1, lease_ms=1000, result_ttl_ms=0, burst=False)
    port, imported, real = core.port(), list[str](), builtins.__import__

    def recorded(name: str, *arguments: Any, **options: Any) -> Any:
        imported.append(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", recorded)
    port.enqueue(1, [(None, "task", 0, 0, 0, 0, None, {"name": "value"}, CALL)])
    port.lookup(2, ["id"])
    worker.complete([(0, SUCCESS, CALL, None, None, None)])
    worker.take()
    monkeypatch.undo()
    core.close()
    assert not imported
