"""What must be fast, beside its peers and its limit: one module for each bar of the budget table."""
