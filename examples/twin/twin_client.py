# ruff: noqa: INP001  a program by itself
"""Follow the twin of a hub: ``python twin_client.py URL TOKEN_FILE``; Python alone is needed."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen


def patched(state: Any, operations: list[dict[str, Any]]) -> Any:  # noqa: ANN401  JSON
    """Return the state after JSON Patch operations; the hub sends add, remove and replace."""
    for change in operations:
        *path, last = (
            step.replace("~1", "/").replace("~0", "~") for step in change["path"].split("/")[1:]
        )
        parent = state
        for step in path:
            parent = parent[int(step) if isinstance(parent, list) else step]
        key: Any = int(last) if isinstance(parent, list) else last
        if change["op"] == "remove":
            del parent[key]
        elif change["op"] == "add" and isinstance(parent, list):
            parent.insert(key, change["value"])
        else:
            parent[key] = change["value"]
    return state


def states(url: str, token: str) -> Iterator[Any]:
    """Yield the twin as it stands, and again after each change."""
    state: Any = {}
    request = Request(f"{url}/api/v1/twin/live", headers={"Authorization": f"Bearer {token}"})  # noqa: S310  named by the user
    with urlopen(request) as lines:  # noqa: S310
        for line in lines:
            if line.startswith(b"data: "):
                message = json.loads(line[6:])
                state = message.get("snapshot") or patched(state, message["patch"])
                yield state


if __name__ == "__main__":
    for twin in states(sys.argv[1], Path(sys.argv[2]).read_text().strip()):
        for place in twin["slots"].values():
            seen, source = place["colour"] or place["seen"], place["evidence"]
            sys.stdout.write(f"{place['id']} {seen} {source['at']} {source['frame']}\n")
