"""Kills `aebench run` at random moments and checks that nothing is lost or done twice; see `tox -e soak`."""
