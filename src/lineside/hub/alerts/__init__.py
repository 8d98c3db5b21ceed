"""Alerts: what is observed of cameras, lines, devices, sinks and the machine, and what is open."""
