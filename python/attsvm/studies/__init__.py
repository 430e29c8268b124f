"""Asking at scale: grids of problems, run and kept cell by cell, and the tables made of them."""
