"""Captures of model inputs and outputs: policy, buffer, record format, destinations, upload."""
