"""Custom operators: what users register becomes an Op."""
