"""Make the stubs of every ``.proto`` in ``src/lineside`` again, beside it: ``make protos``.

``python tools/protos.py [FOLDER]`` writes below FOLDER instead of ``src``.
"""

import sys
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"


def generate(into: Path, *, source: Path = SOURCE) -> list[Path]:
    """Write the stubs of all protocols below ``into``; they import one another by full name."""
    from grpc_tools import _proto, protoc

    well_known = Path(next(iter(_proto.__path__)))
    protocols = sorted((source / "lineside").rglob("*.proto"))
    with_calls = [path for path in protocols if "\nservice " in path.read_text()]
    for kind, paths in (("python", protocols), ("pyi", protocols), ("grpc_python", with_calls)):
        names = [str(path.relative_to(source)) for path in paths]
        arguments = ["protoc", f"-I{source}", f"-I{well_known}", f"--{kind}_out={into}", *names]
        if protoc.main(arguments) != 0:
            raise SystemExit(2)
    return sorted(path for path in (into / "lineside").rglob("*_pb2*") if path.suffix != ".pyc")


if __name__ == "__main__":
    for made in generate(Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCE):
        sys.stdout.write(f"{made}\n")
