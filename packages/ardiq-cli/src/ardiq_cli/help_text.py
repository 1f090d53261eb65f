"""Examples below the help of a command."""


def examples(*commands: str) -> str:
    """Return an epilog that shows each of `commands` on a line of its own."""
    # The parser fills paragraphs, except those that begin with this character.
    return "\n".join(["\b", "Examples:", *(f"  {command}" for command in commands)])
