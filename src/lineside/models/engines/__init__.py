"""Engines that run a package's network, each in its own file."""
