"""Foundation of every package: errors, clock, ids, codec, configuration, drivers, plant records.

Main names: the ``LinesideError`` tree, ``Clock``, ``new_id``, ``digest_of``, ``frame_id``,
``decode``/``encode``, ``Plant`` and ``load_plant``; others are imported from the module that owns
them, such as ``lineside.core.worker``.
Not here: arrays (vision), anything that talks to a disk or a wire beyond reading or replacing one
file.
"""

from lineside.core.clock import Clock, SystemClock, parse_rfc3339, rfc3339
from lineside.core.codec import (
    Json,
    decode,
    decode_fast,
    decode_json,
    decode_toml,
    encode,
    to_plain,
)
from lineside.core.drivers import need
from lineside.core.errors import (
    ConflictError,
    Fault,
    InvalidError,
    LinesideError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from lineside.core.files import replace_durably
from lineside.core.ids import (
    Digest,
    FrameId,
    digest_of,
    frame_id,
    new_id,
    parse_digest,
    short,
    stable_id,
)
from lineside.core.plant import (
    Box,
    Camera,
    Inspection,
    Plant,
    Policy,
    Region,
    RouteKind,
    Task,
    View,
)
from lineside.core.plant_check import load_plant, parse_plant
from lineside.core.plant_rules import Rule

__all__ = [
    "Box",
    "Camera",
    "Clock",
    "ConflictError",
    "Digest",
    "Fault",
    "FrameId",
    "Inspection",
    "InvalidError",
    "Json",
    "LinesideError",
    "NotFoundError",
    "Plant",
    "Policy",
    "RefusedError",
    "Region",
    "RouteKind",
    "Rule",
    "SystemClock",
    "Task",
    "UnavailableError",
    "View",
    "decode",
    "decode_fast",
    "decode_json",
    "decode_toml",
    "digest_of",
    "encode",
    "frame_id",
    "load_plant",
    "need",
    "new_id",
    "parse_digest",
    "parse_plant",
    "parse_rfc3339",
    "replace_durably",
    "rfc3339",
    "short",
    "stable_id",
    "to_plain",
]
