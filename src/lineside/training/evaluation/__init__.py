"""Measuring packages: evaluation, shortcut tests, trivial baselines, comparison, parity."""
