"""`python -m tests.chaos`: break things for some minutes, and say whether anything was lost, done
twice, or left behind.
"""

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from random import Random

from tests.chaos.faults import FAULTS
from tests.chaos.plan import selection
from tests.chaos.run import Options, Outcome, run
from tests.servers import KINDS, binary


def arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long faults happen (default: 5)")
    parser.add_argument("--seed", type=int, help="repeat the faults of an earlier run (default: by chance)")
    parser.add_argument("--server", choices=KINDS, help="which server (default: Redis where there is one)")
    parser.add_argument("--faults", default="all", help="kinds, or beginnings of their names; `-name` leaves one out")
    parser.add_argument("--list", action="store_true", help="list the kinds of faults and end")
    parser.add_argument("--workers", type=int, default=4, help="worker processes (default: 4)")
    parser.add_argument("--producers", type=int, default=2, help="producer processes (default: 2)")
    parser.add_argument("--lease-ms", type=int, default=2000, help="the lease of the workers (default: 2000)")
    parser.add_argument("--rate", type=float, default=12.0, help="calls a second of a producer (default: 12)")
    parser.add_argument("--keep", type=Path, help="where journal and logs stay (default: kept when something fails)")
    return parser.parse_args(words)


async def unless_stopped(options: Options, directory: Path) -> Outcome:
    """Do the run. SIGTERM ends it like Ctrl-C, and ends all processes that it has started."""
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    return await run(options, directory, lambda line: print(line, flush=True))


def main() -> int:
    given = arguments(sys.argv[1:])
    if given.list:
        print("\n".join(FAULTS))
        return 0
    options = Options(
        kind=given.server or ("redis" if binary("redis") else "valkey"),
        seed=Random().randrange(1_000_000) if given.seed is None else given.seed,
        seconds=given.minutes * 60,
        names=tuple(selection(given.faults)),
        workers=given.workers,
        producers=given.producers,
        lease_ms=given.lease_ms,
        rate=given.rate,
    )
    if given.keep:
        given.keep.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="ardiq-chaos-", dir=given.keep))
    print(options.repeat(), flush=True)
    outcome = asyncio.run(unless_stopped(options, directory))
    print(outcome.text)
    if outcome.verdict.findings or given.keep:
        print(f"journal and logs: {directory}")
    else:
        shutil.rmtree(directory)
    return 1 if outcome.verdict.findings else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit("stopped")
