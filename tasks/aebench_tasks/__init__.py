"""The six evaluations that ship with aebench, one module each."""
