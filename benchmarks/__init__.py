"""Speed, measured against a stated baseline in the same run."""
