"""VideoDistill as the paper writes it, one section per file; `docs/paper-map.md` is the index."""
