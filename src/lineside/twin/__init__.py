"""twin room."""
