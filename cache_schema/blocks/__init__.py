"""The unit of work: who works on a block, what became of it, and how that is agreed without locks."""
