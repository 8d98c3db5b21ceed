"""Formats of AWS clients: signatures, links, errors, bodies of SageMaker, jobs, S3, edge agent."""
