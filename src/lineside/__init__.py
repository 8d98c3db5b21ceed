"""Vision that stands beside the production line."""
