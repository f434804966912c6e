"""Storage: the content-addressed store and the folder of this installation."""
