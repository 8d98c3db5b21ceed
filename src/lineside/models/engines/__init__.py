"""What runs a package's network; one file per runtime, its library imported when it is opened."""
