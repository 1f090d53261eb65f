"""A worker without the command line: `python -m tests.actors.worker`.

Signals have their default actions.
"""

import asyncio
import logging

from tests.actors.jobs import app

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    asyncio.run(app.run())
