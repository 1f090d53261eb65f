"""`python -m ardiq_cli` is the same as `ardiq`."""

from ardiq_cli.main import main

main()
