"""One module per data set: from its own annotation files to clips and neutral questions."""
