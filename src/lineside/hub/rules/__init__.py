"""Rules over the event log: running, trying, explaining and exporting them."""
