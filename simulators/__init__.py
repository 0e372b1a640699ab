"""Meters that behave and misbehave: faults are parameters."""
