r"""The synthetic prior and the training run of bolt-nano."""
