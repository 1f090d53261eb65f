"""The core takes no step that a fork in another thread could leave unfinished."""

import subprocess
import sys

# In a separate process, because a module is imported only once.
PROGRAM = """
import builtins

from ardiq_core import SUCCESS, Core, Worker

core = Core(url="redis://127.0.0.1:1", queue="q", lanes=["default"], connect_timeout_ms=100)
worker = Worker(core, worker_id="here:1:a", concurrency=1, prefetch=1, lease_ms=1000, result_ttl_ms=0, burst=False)
mailbox, imported, real = core.mailbox(), [], builtins.__import__

def recorded(name, *arguments, **options):
    imported.append(name)
    return real(name, *arguments, **options)

builtins.__import__ = recorded
mailbox.enqueue(1, [(None, "task", 0, 0, 0, 0, None, {"name": "value"}, b"call")])
mailbox.lookup(2, ["id"])
worker.complete([(0, SUCCESS, b"value", None, None, None)])
worker.take()
worker.defer(['task'])
worker.next()
worker.begin(0)
builtins.__import__ = real
core.close()
print(imported)
"""


def test_the_core_imports_nothing_while_it_is_at_work() -> None:
    # An import lets other threads run. If one of them forks meanwhile, code in the child that waits
    # for the import waits forever.
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")
