"""Contracts of other systems: their formats, records and calls, without a server of their own.

``aws`` and ``open_inference``. Hub and device mount those that their setting ``contracts`` names.
Not here: the addresses (``hub/api``, ``edge``), who may call, and what a call does there.
"""

__all__: list[str] = []
