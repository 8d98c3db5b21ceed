"""Followers of the event log that write to other systems, and readers from them."""
