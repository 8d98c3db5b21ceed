"""The HTTP interface: each handler decodes, calls one part of the hub, encodes.

``docs/reference/http.md`` lists every path; ``GET /api/v1/…`` answers JSON, failures answer problem
documents. Not here: rules, and what a page shows (pages).
"""

from lineside.hub.api.mount import mount_api

__all__ = ["mount_api"]
