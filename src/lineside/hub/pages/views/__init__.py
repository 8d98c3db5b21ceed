"""Pure functions from the hub's records to what a template shows; no I/O, no clock of their own."""
