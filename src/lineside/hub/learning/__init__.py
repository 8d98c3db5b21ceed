"""Datasets, training runs, retraining and drift."""
