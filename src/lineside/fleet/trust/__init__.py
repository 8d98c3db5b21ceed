"""Trust: the update repository (TUF) and the site's certificates."""
