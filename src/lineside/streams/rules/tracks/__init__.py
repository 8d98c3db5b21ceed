"""The step ``sighting``: an event for each object that passes, out of answers that flicker."""
