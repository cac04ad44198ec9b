"""A cluster of child processes on this machine, as `ringcast up` starts it."""
