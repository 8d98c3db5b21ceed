"""Splits of a dataset: parts and folds by group, label and declared part."""
