r"""Scores, baselines, backtests and their plots."""
