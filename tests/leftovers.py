"""What a queue still contains after a drain, when its workers have signed off."""

from typing import Any

from tests.servers import Server

STANDING = {"lanes", "cron", "dead", "schedules", "declared"}
"""Collections that stay forever; docs/protocol.md says why."""

STREAMS = ("lane:", "returned:")


def keys(server: Server, queue: str) -> set[str]:
    """The queue's keys, without the prefix that all of them share."""
    prefix = f"ardiq:{{{queue}}}:"
    return {key.decode().removeprefix(prefix) for key in server.client().scan_iter(f"{prefix}*", count=1000)}


def streams_of(queue: str, lanes: list[str]) -> dict[str, str]:
    return {f"{kind}:{lane}": f"ardiq:{{{queue}}}:{kind}:{lane}" for kind in ("lane", "returned") for lane in lanes}


def left_in(server: Server, stream: str) -> tuple[int, list[tuple[int, int]]]:
    """Return the number of entries, and the consumers and pending deliveries of each group."""
    groups: list[dict[str, Any]] = server.client().xinfo_groups(stream)
    return server.cli("XLEN", stream), [(group["consumers"], group["pending"]) for group in groups]


def leftovers(server: Server, queue: str) -> list[str]:
    """Return a line for everything that should be gone: keys that nothing owns and that never
    expire.
    """
    found: list[str] = []
    for name in sorted(keys(server, queue) - STANDING):
        key = f"ardiq:{{{queue}}}:{name}"
        if name.startswith(STREAMS):
            entries, groups = left_in(server, key)
            if entries:
                found.append(f"{name} has {entries} entries")
            if groups:
                left = server.client().xinfo_consumers(key, queue)
                found += [f"{name} has the consumer {_described(consumer)}" for consumer in left]
        elif server.cli("PTTL", key) == -1:
            found.append(f"{name} ({server.cli('TYPE', key).decode()}) never expires")
    return found


def consumers(server: Server, queue: str) -> list[str]:
    """The names of all consumers of the queue's streams."""
    streams = [f"ardiq:{{{queue}}}:{name}" for name in keys(server, queue) if name.startswith(STREAMS)]
    grouped = [stream for stream in streams if server.client().xinfo_groups(stream)]
    found = (consumer["name"] for stream in grouped for consumer in server.client().xinfo_consumers(stream, queue))
    return sorted({name.decode(errors="replace") for name in found})


def _described(consumer: dict[str, Any]) -> str:
    name = consumer["name"].decode(errors="replace")
    return f"{name} with {consumer['pending']} pending deliveries, idle for {consumer['idle']} ms"
