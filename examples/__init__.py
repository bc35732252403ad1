"""A whole small case: a network and pictures of one's own, see README.md."""
