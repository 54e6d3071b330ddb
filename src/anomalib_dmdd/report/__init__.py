"""A page of the images of all runs, and pictures of a model's distances."""
