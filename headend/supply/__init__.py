"""Supply commands at the head-end: requested, judged, approved, sent to gateways, and told. It switches nobody."""
