"""Sources to landing zone: log files become immutable loads of one hour each."""
