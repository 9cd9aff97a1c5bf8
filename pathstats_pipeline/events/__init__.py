"""What an event is: its schema, the log formats it is read from, and the path templates it is counted under. Pure."""
