"""The warehouse of the fischertechnik training factory: rack, stations, camera, messages."""
