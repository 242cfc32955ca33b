r"""What a fit does with its rows, stage by stage, and what it leaves behind."""
