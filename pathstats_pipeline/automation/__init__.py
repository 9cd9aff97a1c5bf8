"""What is due, and when: hours to close, days to roll up, to archive, to clean up. Pure."""
