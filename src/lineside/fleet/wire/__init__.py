"""Wire formats of the device: protocols, their generated stubs, and the way to and from ours."""
