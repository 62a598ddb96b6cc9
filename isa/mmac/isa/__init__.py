"""The mMAC instruction set, its programs, and the term arithmetic that they are about."""
