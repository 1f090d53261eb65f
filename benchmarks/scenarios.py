"""All scenarios, in the order in which they run."""

from benchmarks import cost, drain, enqueue, growth, latency, memory
from benchmarks.scenario import Scenario

SCENARIOS: tuple[Scenario, ...] = (
    *drain.SCENARIOS,
    *enqueue.SCENARIOS,
    *latency.SCENARIOS,
    *growth.SCENARIOS,
    *cost.SCENARIOS,
    *memory.SCENARIOS,
)
