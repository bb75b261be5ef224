"""Stores between teams: list, compare, copy, recipes and cards."""
