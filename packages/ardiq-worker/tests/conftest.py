"""Fixtures of the worker's tests."""

from collections.abc import AsyncIterator

import pytest

from tests.bench import Bench


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.executor.close()
    made.threads.close()


@pytest.fixture
async def hasty() -> AsyncIterator[Bench]:
    """A bench that leaves a cancelled task almost no time."""
    made = Bench(cancel_wait_s=0.01)
    yield made
    await made.executor.close()
    made.threads.close()
