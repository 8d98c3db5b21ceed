"""The site's event log: appending, following, tracing, and what could not be handled."""
