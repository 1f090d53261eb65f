"""Chaos: workers and producers as real processes on a real server, under every fault that deployments know.

`python -m tests.chaos --minutes 5`, or `nox -s chaos -- --minutes 5`. What happens, in this order:

    plan      from a seed to rounds of faults
    run       starts everything, has faults happen, waits until everything works again, drains
    fleet     the processes: workers (jobs), producers (producer), each over a link of its own (proxy)
    faults    what is done to processes, links and the server (store)
    journal   what every process did, in one file
    checker   from the journal and the server's own history (store) to findings
    report    the summary, and the history of each job that went wrong

The server keeps an append-only file and flushes it before it answers: the store is intact, whatever happens to its process.
So no job may be lost, none committed twice, and only what happened to a worker itself may have its jobs start again.
"""
