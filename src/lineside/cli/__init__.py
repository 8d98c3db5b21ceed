"""Command line: parse, call one package, print.

Results go to stdout, progress and logs to stderr; ``--json`` prints one JSON document; exit codes
are those of ``core.errors``, 1 for a bug, 130 for Ctrl-C. Main name: ``main``.
Not here: decisions. A command that needs more than a few lines calls the room that owns them.
"""

from lineside.cli.app import main

__all__ = ["main"]
