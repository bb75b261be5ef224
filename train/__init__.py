"""Stage two: train the question-guided sampler, the refinement and the heads from cached features."""
