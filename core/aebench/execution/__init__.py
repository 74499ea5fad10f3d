"""Jobs, the one scheduler, and the engines that run jobs."""
