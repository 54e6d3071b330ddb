"""What a person looks at: the page of a run's images, and pictures of the distances that a model decides by."""
