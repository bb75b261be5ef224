"""Where a store's files are: folders and object stores behind one interface."""
