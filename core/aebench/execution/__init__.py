"""Jobs, the scheduler, and the engines that run jobs."""
