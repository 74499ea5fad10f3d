"""A configuration and the registered plugins become a plan: trainings and cells, each with a content hash. Pure."""
