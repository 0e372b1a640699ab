"""Pure codecs, bytes to values and back: no sockets, no event loop."""
