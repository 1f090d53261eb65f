"""Whether the installed distributions belong together."""


def check_version() -> None:
    """Raise VersionMismatchError when command line and client are not of one version; the worker
    looks after itself.
    """
    # Imported here: nothing of ardiq may be on the path to `--help`.
    import ardiq
    from ardiq import version

    version.check_version("ardiq-cli", "ardiq-client", ardiq.__version__)
