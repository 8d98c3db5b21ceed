"""Delivery to the hub: durable spool, shipping with acknowledgements, publisher of results, log."""
