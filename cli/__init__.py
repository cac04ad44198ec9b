"""The command line: `ringcast`."""
