"""The gateway's configuration from afar: kept durably, tried, and given up by itself where it does not prove itself."""
