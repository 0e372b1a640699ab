"""The edge process: schedule, recorder, clock, health."""
