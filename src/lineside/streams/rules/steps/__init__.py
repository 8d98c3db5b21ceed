"""The steps of rules: a class for each, found by the table."""
