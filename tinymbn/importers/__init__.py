"""Model files of other tools, turned into a Graph."""
