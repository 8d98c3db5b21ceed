"""Contracts of other people's systems that several programs fulfil, without a server of their own.

Not here: the routes that offer them (``hub/api``, ``edge``), and what they do with a request.
"""

__all__: list[str] = []
