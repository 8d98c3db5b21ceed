"""Frames and messages on their way in: decoding, storing, thumbnails."""
