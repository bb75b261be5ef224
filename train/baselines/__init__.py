"""Models of other papers on the same cached features, one a file; results are "CLIP-cache re-runs"."""
