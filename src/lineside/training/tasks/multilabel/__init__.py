"""Presence labels and classes of regions: features on a registered view, linear heads."""
