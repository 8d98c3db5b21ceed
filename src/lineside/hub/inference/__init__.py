"""Predictions on request: batching, queues, functions."""
