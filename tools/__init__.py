"""Small programs that the checks run."""
