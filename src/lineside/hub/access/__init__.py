"""People, programs and devices that sign in: accounts, passwords, sessions, TLS."""
