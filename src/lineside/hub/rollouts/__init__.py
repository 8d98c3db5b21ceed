"""Rollouts of a release to devices, step by step."""
