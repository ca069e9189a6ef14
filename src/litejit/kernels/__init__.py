"""Kernel templates: one file a family, each a spec (all that changes the code) and its template."""
