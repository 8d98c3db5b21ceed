"""Answers in the shapes that others' clients expect; the hub carries them."""
