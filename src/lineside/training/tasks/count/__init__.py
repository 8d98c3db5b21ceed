"""Counting objects: found ones, or a distribution over numbers learned from numbers alone."""
