"""Chaos tests: workers and producers as real processes on a real server, under every kind of fault
that occurs in production.

`python -m tests.chaos --minutes 5`, or `nox -s chaos -- --minutes 5`. The modules, in the order in
which they act:

    plan      from a seed to rounds of faults
    run       starts everything, injects faults, waits until everything works again, drains the queue
    fleet     the processes: workers (jobs), producers (producer), each over its own link (proxy)
    faults    the faults of processes, links and the server (store)
    journal   what every process did, in one file
    checker   from the journal and the server's own history (store) to findings
    report    the summary, and the history of each job that went wrong

The server flushes its append-only file before it replies, so its data survives any fault of its
process. So no job may be lost, none committed twice, and only faults of a worker itself may cause
its jobs to start again.
"""
