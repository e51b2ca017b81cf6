"""Release: an approved model in, a registered version with alias challenger and its bundle out."""
