"""One harness for ArdiQ, the queues that people would use instead, a floor and a ceiling.

| module | role |
|---|---|
| `contenders` | who takes part: versions, environments, how each is started |
| `actors` | what runs in a contender's environment: one module each, behind one interface |
| `stage` | a server, the processes of one run, and what is read off them |
| `texts` | which of our scripts a call was |
| `scenario` | what a scenario is |
| `drain`, `enqueue`, `latency`, `growth`, `cost` | what is measured; `scenarios` lists all |
| `report` | from rounds to medians, ratios and tables |
| `page`, `plots` | the tables of docs/performance.md and the charts, from a file of figures |

`python -m benchmarks --help` says how to run it; docs/performance.md says what the figures mean.
"""
