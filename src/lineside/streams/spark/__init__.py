"""Rules on Spark Structured Streaming, with the same events as embedded."""
