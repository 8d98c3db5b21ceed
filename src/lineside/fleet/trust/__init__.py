"""What may be believed: the update repository (TUF) and the site's certificates."""
