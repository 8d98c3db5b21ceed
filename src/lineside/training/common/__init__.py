"""Shared parts of several learners: backbone, export, feature cache, numeric methods."""
