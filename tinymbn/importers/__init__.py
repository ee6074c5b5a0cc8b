"""Model files of other tools, a package each: int8 ones turned into a Graph, float ones into a FloatGraph."""
