"""Migrations of the tables: one file a format, applied in order when records are opened."""
