"""A small language for kernels, and what turns it into machine code; knows no model."""
