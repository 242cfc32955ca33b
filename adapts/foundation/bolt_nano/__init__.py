r"""bolt-nano: a small Chronos-Bolt checkpoint trained from scratch on synthetic series only."""
