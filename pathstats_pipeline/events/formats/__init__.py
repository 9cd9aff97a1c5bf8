"""Log formats: blocks of lines in, events and rejected lines out; pure Polars, no loop over lines.

One file holds one family of formats; what every format shares has a file named for its question (`times`, `requests`,
`values`, `transport`). A new format is a class with `name` and `parse`, listed in `registry.FORMATS`. Nothing here
opens a log file, reads a clock or knows where a line came from. Import the concrete modules.
"""
