"""The published figures, a file each: configuration, published numbers, computation and drawing."""
