"""The worker of the web service: the task's code lives here only.

Run it with `ardiq run worker:app`.
"""

from typing import TypedDict

from ardiq import Ardiq, Reject

app = Ardiq(queue_name="reports", priorities=["default", "urgent"])


class Words(TypedDict):
    """Facts about a text."""

    words: int
    different: int
    longest: str


@app.task(name="reports.words", timeout=30)
def words(text: str) -> Words:
    """Count the words of `text`. It computes, so it is a plain `def` and runs in a thread."""
    found = text.split()
    if not found:
        raise Reject("the text has no words")  # trying again would not help
    return {"words": len(found), "different": len(set(found)), "longest": max(found, key=len)}
