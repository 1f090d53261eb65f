"""The command line of ArdiQ: one module per command, registered in `ardiq_cli.main`."""
