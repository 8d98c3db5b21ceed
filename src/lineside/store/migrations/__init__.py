"""How the tables came to be: one file a format, applied in order when records are opened."""
