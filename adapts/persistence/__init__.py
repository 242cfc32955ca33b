r"""Files of ours: whose they are, whether they are sound, saved adapters and checkpoints."""
