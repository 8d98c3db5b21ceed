"""The device's identity: enrolment, key and certificate, renewal, trust in the site's root."""
