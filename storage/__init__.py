"""The durable log, its cursors, and the stores that are views of it."""
