"""Features in and out of other programs' files, and into smaller variants."""
