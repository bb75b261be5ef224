"""The paper's claims as measurements: arms, seeds, intervals, and a page that says which of them hold."""
