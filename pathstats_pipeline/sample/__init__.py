"""Synthetic traffic for `make demo` and for tests: log files as nginx and HAProxy write them, made up from a seed.

Nobody's requests: addresses are those reserved for documentation, hosts end in `.example`, and what the numbers say
is what the tables of services.py put in. Three services: a web front (nginx combined with the request time, rotated
daily), an API (HAProxy over syslog) and a mobile back end (nginx JSON). A day depends only on its date, the seed and
its size, so that two samples agree on the days they share. Here only the making of lines; no parser, no storage.
"""

from pathstats_pipeline.sample.files import write_sample

__all__ = ["write_sample"]
