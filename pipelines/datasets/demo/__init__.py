"""The demo data set: rendered H.264 videos whose questions are answered in a few percent of the frames."""
