"""The shared words of metergate: what a meter point, a device, a channel, a reading and an event are.

Standard library and msgspec only; imports nothing of ours, so that every other package may rest on it.
"""
