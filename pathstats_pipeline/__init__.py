"""pathstats: hourly statistics per path of access logs, and a verified archive of the raw events, through Dagster."""
