"""Stage one: frozen CLIP over N frames of every clip, once, into a feature store."""
