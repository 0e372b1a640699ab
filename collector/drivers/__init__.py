"""One reader for each protocol: what to ask a meter, and what its answers mean."""
