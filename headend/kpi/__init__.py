"""Key figures of collection: how much of what was promised came, how soon, and who is asked for the rest."""
