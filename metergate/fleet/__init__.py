"""A simulated fleet: true gateways with meters in process, a true broker and head-end. Not the gateways' code."""
