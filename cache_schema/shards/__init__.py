"""The files that hold features, to the byte: encoded, written, read and checked."""
