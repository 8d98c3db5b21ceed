"""Shared by the web servers of hub and device.

Main names: ``ConnectionLimits``, ``limited_http``, ``ConnectionFigures``.
Not here: routes, pages and people; each program has its own.
"""

from lineside.web.connections import ConnectionFigures, ConnectionLimits, limited_http

__all__ = ["ConnectionFigures", "ConnectionLimits", "limited_http"]
