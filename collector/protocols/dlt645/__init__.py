"""DL/T 645-2007 and -1997 (multi-function electricity meters): bytes to values and back. No I/O, no profile."""
