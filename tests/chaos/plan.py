"""Computes the order of the faults from a seed: the same seed and selection produce the same faults
in the same order.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from random import Random

from tests.chaos.faults import FAULTS, Fault, Scope

MOST = 3
"""The most faults at the same time."""


def selection(words: str) -> list[str]:
    """Return the kinds that `words` selects: `all`, names or prefixes (`worker`, `acl-`); `-name`
    excludes one.
    """
    chosen: list[str] = []
    for word in words.split(","):
        word = word.strip()
        leave_out, start = word.startswith("-"), word.removeprefix("-")
        matching = [name for name in FAULTS if start == "all" or name.startswith(start)]
        if not matching:
            raise ValueError(f"no fault is called {start!r}; there are {', '.join(FAULTS)}")
        if leave_out:
            chosen = [name for name in (chosen or FAULTS) if name not in matching]
        else:
            chosen += [name for name in matching if name not in chosen]
    return chosen


def rounds(seed: int, names: Iterable[str], most: Mapping[Scope, int]) -> Iterator[list[Fault]]:
    """Endless rounds of one to `MOST` faults. Every kind comes before one comes again.

    `most`: how many faults of each scope a round may have, for a process or the server suffers one
    at a time.
    """
    random = Random(f"{seed}/plan")
    deck: list[str] = []
    names = [name for name in names if most[FAULTS[name].scope]]
    while names:
        chosen: list[Fault] = []
        for _ in range(random.randint(1, MOST)):
            if not deck:
                deck = random.sample(names, len(names))
            scopes = Counter(fault.scope for fault in chosen)
            fits = [name for name in deck if scopes[FAULTS[name].scope] < most[FAULTS[name].scope]]
            if not fits:
                break
            deck.remove(fits[0])
            chosen.append(FAULTS[fits[0]])
        yield chosen
