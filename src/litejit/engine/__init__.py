"""Model -> Program, one pure function per file: prepare, rewrite, lower, plan, link, run."""
