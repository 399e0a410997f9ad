"""One adapter a contender, each run by an interpreter of its own; see `protocol`."""
