"""What two or more steps need: errors, settings, progress, the store, data set versions, detection, releases."""
