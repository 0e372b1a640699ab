"""The audit: one hash-chained entry for each decision, its signed heads, and what finds any change of it."""
