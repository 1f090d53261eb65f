"""One harness for ArdiQ, the queues that people would use instead, a floor and a ceiling.

| module | role |
|---|---|
| `contenders` | the queues that take part: their versions, environments and commands |
| `actors` | the programs that run in a contender's environment: one module each, with one interface |
| `stage` | a server, the processes of one run, and the measurements of them |
| `texts` | tells which of our scripts a call ran |
| `scenario` | what a scenario is |
| `drain`, `enqueue`, `latency`, `growth`, `cost` | what is measured; `scenarios` lists all |
| `report` | turns rounds into medians, ratios and tables |
| `page`, `plots` | the tables of docs/performance.md and the charts, from a file of figures |

`python -m benchmarks --help` says how to run it; docs/performance.md says what the figures mean.
"""
