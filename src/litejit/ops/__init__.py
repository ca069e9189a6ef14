"""One class per operator: options, shape rule, NumPy meaning, lowering to kernels."""
