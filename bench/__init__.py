"""Measurements of taskd as installed: real servers, real processes, everything on this machine. `make bench`."""
