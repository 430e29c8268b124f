"""attsvm next to its peers: every row of the speed tables in one run, ``python -m bench``."""
