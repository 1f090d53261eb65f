"""Programs that run in the environment of one contender; only `driver` and `probe` are shared."""
