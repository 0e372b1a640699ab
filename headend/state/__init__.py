"""The head-end's state in a database: who is enrolled, assigned, asked and told. Not the readings, and not the log."""
