"""All that knows IPython: how a cell is found, rewritten, measured and reported."""
