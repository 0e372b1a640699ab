"""Reads meters: pure protocols, drivers, meter models as data, and the bus that owns each wire."""
