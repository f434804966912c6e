"""Where files are kept: the content-addressed store and the folder of this installation."""
