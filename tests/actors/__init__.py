"""Programs that the tests start as separate processes: workers, producers, and the yardsticks for
speed.
"""

EXITS = {
    "client": 0,
    "open_loop": 0,
    "threads": 0,
    "worker": 0,
    "worker_in_open_loop": 0,
    "worker_in_thread": 0,
    "error": 3,
}
"""The ways to end of `tests.actors.exits`, with their exit statuses."""
