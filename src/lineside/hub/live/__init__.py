"""Changes pushed to browsers over the web socket."""
