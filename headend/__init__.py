"""The centre: registry, completeness, derived intervals, change feed, tokens."""
