"""Official scores: each data set's published metric and break-down, and the paper's tables beside our runs."""
