"""One harness for ArdiQ, the queues that people would use instead, a floor and a ceiling.

| module | role |
|---|---|
| `contenders` | who takes part: versions, environments, how each is started |
| `actors` | what runs in a contender's environment: one module each, behind one interface |
| `stage` | a server, the processes of one run, and what is read off them |
| `scenarios` | what is measured |
| `report` | from rounds to medians, tables and plots |

`python -m benchmarks --help` says how to run it; docs/performance.md says what the figures mean.
"""
