"""The report of a dataset: its figures, and one page that shows them."""
