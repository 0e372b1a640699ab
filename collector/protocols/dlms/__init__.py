"""DLMS/COSEM, bytes to values and back, for clients and servers alike: no sockets, no event loop."""
