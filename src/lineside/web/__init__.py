"""Shared by the web servers of hub and device: connection limits, checks, gRPC, formats, texts.

``static/`` holds the styles and scripts of both; each server serves them beside its own files.
Not here: routes, pages and people; each program has its own. Others import the module that they
need, so that no command loads a web server.
"""

__all__: list[str] = []
