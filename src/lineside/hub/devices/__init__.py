"""Devices of a site: enrolment, what they report, the inventory."""
