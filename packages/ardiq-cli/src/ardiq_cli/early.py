"""Holds back the signals that never end a worker, before anything is imported that takes time.

`ardiq_cli.main` imports this first. The default action of these signals would end `ardiq run` or
`ardiq dev` during its first second. `ardiq_cli.signals.survive` lets them through again.
"""

import signal
import sys

if sys.argv[1:2] in (["run"], ["dev"]):  # the other commands have no handlers
    # `ardiq_cli.signals.PASSED_ON`, but that module imports asyncio.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2))
