"""Replays of recorded frames and events through another model or other rules."""
