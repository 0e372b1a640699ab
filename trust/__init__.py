"""Who may order what, proven by signatures: keys, JWS, manifests, the trust document. Not policy, and not the guard."""
