"""How what gateways send reaches the head-end: one port, an adapter for each engine."""
