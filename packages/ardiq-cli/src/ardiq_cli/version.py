"""Checks that the installed distributions have the same version."""


def check_version() -> None:
    """Raise VersionMismatchError if the command line and the client have different versions.

    The worker checks its own.
    """
    # Imported here because `--help` must not load ardiq.
    import ardiq
    from ardiq import version

    version.check_version("ardiq-cli", "ardiq-client", ardiq.__version__)
