"""A minute of chaos: every kind of fault once, against workers and producers in separate processes.

`nox -s chaos -- --minutes 30` is the long form.
"""

from pathlib import Path

import pytest

from tests.chaos.run import Options, run
from tests.conftest import Measured
from tests.servers import Kind

SEED = 20


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_nothing_is_lost_done_twice_or_left_behind_under_faults(
    server_kind: Kind, tmp_path: Path, measured: Measured
) -> None:
    options = Options(kind=server_kind, seed=SEED, seconds=0, workers=3, producers=2)
    outcome = await run(options, tmp_path)
    assert outcome.verdict.findings == [], outcome.text
    assert outcome.verdict.faults.keys() == set(options.names)
    measured("jobs under faults", outcome.verdict.accepted)
    measured("faults", outcome.verdict.faults.total())
    measured("starts that a fault explains", outcome.verdict.extra.total())
