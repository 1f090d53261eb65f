"""Makes `python -m ardiq` the same as the command `ardiq`, if `ardiq-cli` is installed."""

import sys


def main() -> None:
    """Run the command line, or say how to install it."""
    try:
        from ardiq_cli.main import main as command
    except ModuleNotFoundError as error:
        if error.name != "ardiq_cli":
            raise
        print("ardiq: the command line is not installed here: pip install ardiq-cli", file=sys.stderr)
        raise SystemExit(2) from None
    command()


if __name__ == "__main__":
    main()
