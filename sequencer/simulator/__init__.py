"""A whole faulty cluster in one process, from one seed."""
