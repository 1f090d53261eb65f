"""Whether the installed distributions belong together."""


def check_version() -> None:
    """Raise VersionMismatchError when command line and client are not of one version; the worker looks after itself."""
    # Imported here: nothing of ardiq may be on the path to `--help`.
    import ardiq
    from ardiq.errors import VersionMismatchError
    from ardiq.version import installed_version, normal_form

    client = ardiq.__version__
    own = installed_version("ardiq_cli")
    if own is not None and normal_form(own) != client:
        raise VersionMismatchError(
            f"ardiq-cli {own} and ardiq-client {client} do not match: pip install ardiq-cli=={client}"
        )
