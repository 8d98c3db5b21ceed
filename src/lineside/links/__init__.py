"""links room."""
