"""Keeping a store sound: verify, repair, collect, pin."""
