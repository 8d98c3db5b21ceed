"""Pictures that people judge: those in doubt, and a random audit of the others."""
