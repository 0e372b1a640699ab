"""The front door: the command line and the wiring of demo, site and gateway."""
