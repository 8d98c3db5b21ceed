"""What this machine is, as packages and releases name it."""

import platform

_ALIKE = {"amd64": "x86_64", "arm64": "aarch64"}


def this_platform() -> str:
    """Such as ``linux/x86_64``, as manifests and releases name it."""
    machine = platform.machine().lower()
    return f"{platform.system().lower()}/{_ALIKE.get(machine, machine)}"
