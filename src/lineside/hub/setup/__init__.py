"""Set-up of a site: the plant file as versions, edited in place and applied while the hub runs."""
