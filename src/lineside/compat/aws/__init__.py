"""Formats of AWS clients: signatures, links, SageMaker's runtime, the edge agent's messages."""
