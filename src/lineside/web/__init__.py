"""Shared by the web servers of hub and device: limits of connections, checks before every route.

Not here: routes, pages and people; each program has its own. Others import the module that they
need, so that no command loads a web server.
"""

__all__: list[str] = []
