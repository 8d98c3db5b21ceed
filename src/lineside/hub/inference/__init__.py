"""Predictions on request: queues, functions."""
