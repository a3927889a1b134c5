"""Settings: a TOML file and flags, checked before the port opens."""
