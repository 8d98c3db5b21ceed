"""Formats of AWS clients: signatures, signed links and bodies in parts."""
