"""Supply commands at the gateway: the trust document on site, the guard, the executor and its durable journal."""
