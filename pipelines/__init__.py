"""What people run: data sets, presets, the report page and the command line."""
