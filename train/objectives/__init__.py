"""What a step minimises, by task: answers in words, choices, or the pretraining losses."""
