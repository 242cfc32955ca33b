r"""Saved adapters, checkpoints and outputs: ownership, validation, reading and writing."""
