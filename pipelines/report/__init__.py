"""The report of a run: one self-contained page that shows what was asked, answered and looked at."""
