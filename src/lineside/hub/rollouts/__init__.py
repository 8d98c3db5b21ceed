"""Roll-outs of a release to devices, step by step."""
