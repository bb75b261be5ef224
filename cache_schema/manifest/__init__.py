"""One row per clip in versions that readers pin, as immutable parts with an index."""
